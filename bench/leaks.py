"""Does a password stay out of all that a run leaves behind? ``python -m bench.leaks``

A server asks for a user name and a password, which the run takes from a file of sources and a variable. It plays, is
killed, comes back with another password, then with the right one; meanwhile the run writes everything that it can:
both kinds of logs with all details, report, statistics, run lengths, a recording, metrics and health. All of it, and
the process's own command line, is searched for user name and password, as they are, percent-encoded, in base64 and as
RTSP's digest would need them. It ends with 1 where one is found.
"""

from __future__ import annotations

import base64
import os
import re
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from time import sleep
from typing import Any
from urllib.parse import quote

import click

from tests.servers.launch import Camera, Server

USER, PASSWORD, OTHER = "watchman-7", "s3same!open", "an0ther-one"
ENGINE_SECONDS = 60.0


def needles() -> set[bytes]:
    """What must be found nowhere."""
    words = {USER, PASSWORD, OTHER, quote(PASSWORD, safe="")}
    return {word.encode() for word in words} | {
        base64.b64encode(f"{USER}:{word}".encode()) for word in (PASSWORD, OTHER)
    }


def fetched(address: str) -> Iterator[bytes]:
    """Both pages of the metrics' server."""
    for page in ("metrics", "healthz"):
        try:
            with urllib.request.urlopen(address.replace("metrics", page), timeout=5) as answer:
                yield answer.read()
        except urllib.error.HTTPError as error:
            yield error.read()


def left_behind(kind: Any, form: str, folder: Path) -> dict[str, bytes]:
    """All that one run says and writes, by where."""
    camera = Camera(account=f"{USER}:{PASSWORD}")
    found: dict[str, bytes] = {}
    with Server(kind, camera) as server:
        uri = server.url("${CAM_USER}:${CAM_PASSWORD}")
        (folder / "cameras.txt").write_text(f"gate = {uri}\n", encoding="utf-8")
        outputs = [word for name in ("stats", "rle") for word in (f"--{name}", f"{name}.jsonl")]
        command = [
            sys.executable, "-m", "rtpsp", "-vv", "--debug", "--log-format", form, "run", "--sources", "cameras.txt",
            "--no-show", "--hud", "--output", "out.mkv", "--report", "report.json", *outputs, "--metrics", ":0",
            "--read-timeout", "1", "--reconnect-max-delay", "1",
        ]  # fmt: skip
        environment = {**os.environ, "CAM_USER": USER, "CAM_PASSWORD": PASSWORD, "PYTHONPATH": os.getcwd()}
        with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
            run = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=err)
            try:
                waited = 0.0
                while not (folder / "out.mkv").exists() or not (folder / "out.mkv").stat().st_size:
                    sleep(0.5)
                    waited += 0.5
                    if waited > ENGINE_SECONDS or run.poll() is not None:
                        raise click.ClickException(f"nothing was recorded: {(folder / 'stderr').read_text()[-2000:]}")
                found["command line"] = Path(f"/proc/{run.pid}/cmdline").read_bytes()
                address = re.search(r"http://[^\s\"]+/metrics", (folder / "stderr").read_text())
                assert address is not None
                for number, account in enumerate((None, f"{USER}:{OTHER}", f"{USER}:{PASSWORD}")):
                    server.kill()
                    sleep(2)
                    if account:
                        server.start(account=account)
                        sleep(4)
                    found |= {f"page {number}{place}": page for place, page in enumerate(fetched(address[0]))}
                run.send_signal(signal.SIGTERM)
                code = run.wait(20)
            finally:
                run.kill()
        found |= {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "cameras.txt"}
    told = found["stderr"].decode(errors="replace")
    assert code == 143, (code, told[-2000:])
    assert "authentication" in found["report.json"].decode() and "***@" in told, told[-2000:]
    return found


@click.command()
@click.option("--server", "kinds", type=click.Choice(["rtsp", "mjpeg"]), multiple=True, default=("rtsp", "mjpeg"))
def main(kinds: tuple[str, ...]) -> None:
    """Search for secrets in what runs leave behind."""
    bad = 0
    for kind in kinds:
        for form in ("text", "json"):
            with tempfile.TemporaryDirectory() as name:
                found = left_behind(kind, form, Path(name))
            hits = sorted(place for place, data in found.items() if any(needle in data for needle in needles()))
            bad += len(hits)
            size = sum(map(len, found.values()))
            click.echo(f"{kind}, logs as {form}: {len(found)} places, {size} bytes, secrets in {hits or 'none'}")
    raise SystemExit(bool(bad))


if __name__ == "__main__":
    main()
