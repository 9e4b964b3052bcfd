"""Runs the steps of ``deploy/Dockerfile`` in bare roots by debootstrap, where no container engine runs, and tries them.

    python bench/deploy_check.py ROOTS [--bind BUNDLE.crt] [--bind WHEELS] [--fresh]

Each stage becomes a folder in ROOTS, made from the distribution that its FROM names; RUN happens in a mount namespace
of its own by chroot. Then, as the image's user, ``rtpsp run`` has to record a short clip that plays, a run with
``--metrics`` has to pass the file's own HEALTHCHECK and end with 143 on SIGTERM, and ``systemd-analyze verify`` and
``security`` look at ``deploy/rtpsp.service`` with that root's ``/opt/rtpsp``. Needs root, debootstrap and systemd.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
PASSED_ON = ("http_proxy", "https_proxy", "no_proxy")
CA = Path("/run/deploy-check-ca.crt")
"""Where RUN steps find a bundle of certificates that is bound."""
HEALTHY_SECONDS = 180


@dataclass
class Stage:
    """An image as far as it has come."""

    root: Path
    environ: dict[str, str] = field(default_factory=lambda: {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    folder: str = "/"
    user: str = "root"
    said: dict[str, list[str]] = field(default_factory=dict)
    """Words of ENTRYPOINT, CMD and HEALTHCHECK."""


def instructions(text: str) -> list[tuple[str, str]]:
    """A Dockerfile's instructions, lines that go on put together, comments left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split(None, 1)[0].upper(), line.split(None, 1)[1]) for line in joined.splitlines() if line.strip()]


def enter(stage: Stage, command: list[str], binds: list[Path], user: str | None = None) -> list[str]:
    """The command line that does something inside a stage."""
    root = shlex.quote(str(stage.root))
    mounts = [
        f"mount -t proc proc {root}/proc",
        f"mount -t sysfs -o ro sysfs {root}/sys",
        f"mount --rbind /dev {root}/dev",
    ]
    for path in [Path("/etc/resolv.conf"), *binds]:
        inner = CA if path.suffix == ".crt" else path
        source, place = shlex.quote(str(path)), shlex.quote(str(stage.root / inner.relative_to("/")))
        make = "mkdir -p" if path.is_dir() else f"mkdir -p $(dirname {place}) && touch"
        # read-only: a package's script that renews its file must not renew ours
        mounts.append(f"{make} {place} && mount --bind {source} {place} && mount -o remount,bind,ro {place}")
    passed = {name: value for name, value in os.environ.items() if name in PASSED_ON or name.startswith("PIP_")}
    if any(path.suffix == ".crt" for path in binds):
        passed |= {"PIP_CERT": str(CA), "SSL_CERT_FILE": str(CA)}
    environ = [f"{name}={value}" for name, value in {"HOME": "/tmp", **passed, **stage.environ}.items()]
    inside = shlex.join(["env", "-i", *environ, "sh", "-c", f'cd {shlex.quote(stage.folder)} && exec "$@"', "sh"])
    # numbers, since chroot would look a name up in our own list of users
    numbers = user_numbers(stage, user or stage.user)
    script = " && ".join([*mounts, f"exec chroot --userspec={numbers} --groups= {root} {inside} {shlex.join(command)}"])
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]


def user_numbers(stage: Stage, user: str) -> str:
    """``uid:gid`` of a user of a stage."""
    for line in (stage.root / "etc/passwd").read_text().splitlines():
        name, _, uid, gid, *_ = line.split(":")
        if name == user:
            return f"{uid}:{gid}"
    raise SystemExit(f"no user {user} in {stage.root}")


def bare(image: str, roots: Path) -> Path:
    """A minimal root of the distribution that an image is of."""
    release = re.fullmatch(r"debian:(\w+)-slim", image)
    if release is None:
        raise SystemExit(f"FROM {image}: only debian:RELEASE-slim can be made by debootstrap")
    root = roots / f"bare-{release[1]}"
    if not root.exists():
        subprocess.run(["debootstrap", "--variant=minbase", release[1], str(root)], check=True, stdout=sys.stderr)
    return root


def copy(stage: Stage, words: str, stages: dict[str, Stage]) -> None:
    """COPY: from the checkout, what git ignores left out, or from another stage."""
    *sources, target = shlex.split(words)
    origin = ROOT
    if sources[0].startswith("--from="):
        origin = stages[sources.pop(0).removeprefix("--from=")].root
    place = stage.root / str(Path(stage.folder, target)).lstrip("/")
    ignore = shutil.ignore_patterns("__pycache__")
    for source in sources:
        path = origin / source.lstrip("/")
        if path.is_dir():
            shutil.copytree(path, place, symlinks=True, ignore=ignore if origin == ROOT else None, dirs_exist_ok=True)
        else:
            place.mkdir(parents=True, exist_ok=True) if target.endswith("/") else None
            shutil.copy2(path, place)


def build(roots: Path, binds: list[Path], fresh: bool) -> Stage:
    """Every instruction of the Dockerfile in turn; the last stage.

    Args:
        roots: Where the stages' roots lie; one that is done there is taken as it is unless `fresh`.
        binds: Paths of this machine that RUN steps see, too.
        fresh: Whether to begin anew.
    """
    stages: dict[str, Stage] = {}
    stage = Stage(Path())
    done = False
    for word, rest in instructions((ROOT / "deploy/Dockerfile").read_text()):
        if word == "FROM":
            image, *named = rest.split()
            name = named[1] if named else "last"
            if stages:
                (stage.root / ".built").touch()
            stage = stages[name] = Stage(roots / name)
            if fresh and stage.root.exists():
                shutil.rmtree(stage.root)
            done = (stage.root / ".built").exists()
            if not done:
                shutil.rmtree(stage.root, ignore_errors=True)
                subprocess.run(["cp", "-a", "--reflink=auto", str(bare(image, roots)), str(stage.root)], check=True)
        elif word == "WORKDIR":
            stage.folder = rest
            (stage.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif word == "ENV":
            stage.environ |= dict(pair.split("=", 1) for pair in shlex.split(rest))
        elif word == "USER":
            stage.user = rest
        elif word in ("ENTRYPOINT", "CMD"):
            stage.said[word] = json.loads(rest)
        elif word == "HEALTHCHECK":
            stage.said[word] = json.loads(rest[rest.index("[") :])
        elif done or word in ("VOLUME", "EXPOSE"):
            continue
        elif word == "COPY":
            copy(stage, rest, stages)
        elif word == "RUN":
            print(f"RUN {rest}", flush=True)
            subprocess.run(enter(stage, ["sh", "-c", rest], binds), check=True, stdout=sys.stderr)
        else:
            raise SystemExit(f"{word} is not known here")
    (stage.root / ".built").touch()
    return stage


def try_clip(stage: Stage) -> None:
    """A short run as the image's user records a clip that plays."""
    options = ["run", "--source", "sim://street?frames=30", "--output", "x.mp4", "--no-show"]
    subprocess.run(enter(stage, [*stage.said["ENTRYPOINT"], *options], []), check=True, stdout=sys.stderr)
    count = "import av; print(sum(1 for _ in av.open('x.mp4').decode(video=0)))"
    told = subprocess.run(enter(stage, ["python3", "-c", count], []), check=True, capture_output=True, text=True)
    assert int(told.stdout) == 30, f"x.mp4 has {told.stdout} frames"
    print("clip: 30 frames recorded and read back as", stage.user, flush=True)


def try_health(stage: Stage) -> None:
    """A run with metrics is healthy by the file's own check, and ends in order on SIGTERM."""
    options = ["run", "--source", "sim://street?fps=10", "--no-show", "--metrics", ":9464", "--log-format", "json"]
    # exec all the way down: the process that we signal is rtpsp itself, as it is number 1 in a container
    process = subprocess.Popen(enter(stage, [*stage.said["ENTRYPOINT"], *options], []), stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + HEALTHY_SECONDS
        check = enter(stage, stage.said["HEALTHCHECK"], [])
        while subprocess.run(check, stderr=subprocess.DEVNULL, check=False).returncode:
            assert process.poll() is None, f"the run ended with {process.returncode}"
            assert time.monotonic() < end, f"not healthy within {HEALTHY_SECONDS} s"
            time.sleep(1)
        process.send_signal(signal.SIGTERM)
        code = process.wait(30)
        assert code == 143, f"SIGTERM: ended with {code}, expected 143"
    finally:
        process.kill()
    print("health: healthy, then 143 on SIGTERM", flush=True)


def try_unit(stage: Stage) -> None:
    """systemd finds nothing to say about the unit, and tells how exposed it leaves the machine."""
    place = Path("/opt/rtpsp")
    link = not place.exists()
    if link:
        place.symlink_to(stage.root / "opt/rtpsp")
    try:
        unit = str(ROOT / "deploy/rtpsp.service")
        told = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False
        )
        assert told.returncode == 0 and not told.stderr.strip(), told.stderr
        command = ["systemd-analyze", "security", "--offline=yes", unit]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        print("unit: verified;", lines[-1].strip(" →"), flush=True)
    finally:
        if link:
            place.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("roots", type=Path, help="a folder for the roots, 4 GB")
    parser.add_argument("--bind", type=Path, action="append", default=[], help="a path that RUN steps see, read-only")
    parser.add_argument("--fresh", action="store_true", help="begin anew")
    parser.add_argument("--only", choices=("build", "clip", "health", "unit"), help="build, and then only this")
    given = parser.parse_args()
    roots: Path = given.roots.resolve()
    roots.mkdir(parents=True, exist_ok=True)
    stage = build(roots, given.bind, given.fresh)
    for name, attempt in {"clip": try_clip, "health": try_health, "unit": try_unit}.items():
        if given.only in (None, name):
            attempt(stage)


if __name__ == "__main__":
    main()
