"""What a real server's faults do to the whole loop: ``python -m bench.faults --server rtsp --json FILE``

One run, with the real engine, against one server through a proxy: the server is killed and comes back five times, it is
frozen (SIGSTOP), the network goes silent, the connections are cut, the server comes back with another resolution. Of
each: how long from its end to the first picture that was exposed after it, the longest gap between pictures, ages by
the time code in the pictures and as reported, before and after, and threads, open files and memory before and after.

Then ``rtpsp run`` with a wrong password, without one, with a wrong path and at a port where nothing listens: exit code,
seconds, what it said, and whether the password stands in anything that it said or wrote.

It ends with 1 where the picture did not come back, came back older than before by more than a frame's time, something
was left open, an exit code is another than the one that stands in `rtpsp/errors.py`, or a password is found.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import sleep
from typing import Any

import click

from rtpsp.bench.noise import Noise
from rtpsp.bench.report import head
from rtpsp.live import RunOptions
from rtpsp.stream.render import RenderOptions
from rtpsp.stream.source import Reconnect, SourceOptions
from rtpsp.timing import now
from tests.servers.launch import Camera, Server, free_port
from tests.servers.proxy import Proxy
from tests.servers.running import Running, counts, figures, holding, save, serving
from tests.servers.truth import Seen, held

PATIENCE = 120.0
USER, PASSWORD, WRONG = "viewer", "s3cret-Zebra%26", "wr0ng-Zebra%26"
OTHER_SIZE = (360, 480)


@dataclass(frozen=True)
class Fault:
    """Something that happens to a stream, and how it ends.

    Attributes:
        lasts: Whether it is held for a while before its end.
    """

    name: str
    begin: Callable[[Server, Proxy], None]
    end: Callable[[Server, Proxy], None]
    lasts: bool = True


def _kill(server: Server, proxy: Proxy) -> None:
    server.kill()
    proxy.refuse()


def _start(server: Server, proxy: Proxy) -> None:
    server.start()
    proxy.accept()


def _start_smaller(server: Server, proxy: Proxy) -> None:
    server.start(height=OTHER_SIZE[0], width=OTHER_SIZE[1], frames=None)
    proxy.accept()


def _nothing(server: Server, proxy: Proxy) -> None:
    del server, proxy


KILLED = Fault("killed", _kill, _start)
FAULTS = (
    Fault("frozen", lambda server, proxy: server.freeze(), lambda server, proxy: server.thaw()),
    Fault("network silent", lambda server, proxy: proxy.stall(), lambda server, proxy: proxy.resume()),
    Fault("connections cut", lambda server, proxy: proxy.cut(), _nothing, lasts=False),
    Fault("another resolution", _kill, _start_smaller),
)


class Watch:
    """Keeps every picture that a run shows."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.seen: list[Seen] = []

    def for_(self, seconds: float) -> list[Seen]:
        """The pictures of so many seconds from now on."""
        self._take()
        sleep(seconds)
        return self._take()

    def since(self, moment: float) -> Seen | None:
        """The first picture that was exposed after a moment, once it is shown; None if it does not come."""
        limit = now() + PATIENCE
        while now() < limit:
            self.running.check()
            self._take()
            for item in self.seen:
                if item.exposed is not None and item.exposed > moment:
                    return item
            sleep(0.02)
        return None

    def gap(self, since: float) -> float:
        """The longest time between two pictures, from the last before a moment on, in seconds."""
        shown = [item.shown for item in self.seen]
        first = max((index for index, stamp in enumerate(shown) if stamp <= since), default=0)
        return max((b - a for a, b in zip(shown[first:], shown[first + 1 :], strict=False)), default=0.0)

    def _take(self) -> list[Seen]:
        taken = self.running.codes.take()
        self.seen += taken
        return taken


def suffer(fault: Fault, watch: Watch, server: Server, proxy: Proxy, hold: float, window: float) -> dict[str, Any]:
    """One fault, from before to after."""
    health = watch.running.pipeline.snapshot().sources[0].health
    before, holding_before = figures(watch.for_(window)), held()
    faults, reconnects, absences = dict(health.faults), health.reconnects, watch.running.codes.absences
    begin = now()
    fault.begin(server, proxy)
    if fault.lasts:
        sleep(hold)
    fault.end(server, proxy)
    end = now()
    first = watch.since(end)
    watch.for_(window / 2)  # what settles
    after, holding_after = figures(watch.for_(window)), held()
    return {
        "fault": fault.name,
        "lasted_s": round(end - begin, 3),
        "back_after_s": None if first is None else round(first.shown - end, 3),
        "longest_gap_s": round(watch.gap(begin), 3),
        "before": before,
        "after": after,
        "size_after": [watch.seen[-1].height, watch.seen[-1].width],
        "faults": {kind: n - faults.get(kind, 0) for kind, n in health.faults.items() if n > faults.get(kind, 0)},
        "reconnects": health.reconnects - reconnects,
        "no_signal_pictures": watch.running.codes.absences - absences,
        "held_before": holding(holding_before),
        "held_after": holding(holding_after),
    }


def refusals(kind: Any, engine: str) -> list[dict[str, Any]]:
    """What the command line says to addresses that are wrong."""
    rows = []
    plain, wrong = (f"{USER}:{word}" for word in (PASSWORD, WRONG))
    with Server(kind, Camera(320, 240, account=plain.replace("%26", "&"))) as server:
        cases = {
            "wrong password": (server.url(wrong), 3),
            "no password": (server.url(""), 3),
            "wrong path": (server.url(plain, path="nowhere"), 3),
            "nothing listens": (server.url(plain, port=free_port()), 3),
        }
        for name, (uri, expected) in cases.items():
            with tempfile.TemporaryDirectory() as folder:
                command = [sys.executable, "-m", "rtpsp", "run", "--source", uri]
                command += ["--report", f"{folder}/report.json", "--output", f"{folder}/out.mp4"]
                command += [] if engine == "real" or engine.startswith("fake:") else ["--engine", engine]
                begin = now()
                done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
                seconds = now() - begin
                written = [path.read_text(errors="replace") for path in Path(folder).iterdir()]
            secrets = [word for full in (PASSWORD, WRONG) for word in (full, full.replace("%26", "&"))]
            found = sum(text.count(word) for text in (done.stdout, done.stderr, *written) for word in secrets)
            rows.append(
                {
                    "case": name,
                    "exit_code": done.returncode,
                    "expected": expected,
                    "seconds": round(seconds, 2),
                    "said": done.stderr.strip().splitlines()[-1:],
                    "secrets_found": found,
                }
            )
            print(f"{name}: exit code {done.returncode} after {seconds:.1f} s: {rows[-1]['said']}", flush=True)
    return rows


def _wrong(row: dict[str, Any], frame: float, kept: dict[str, float]) -> list[str]:
    name, wrong = row["fault"], []
    if row["back_after_s"] is None:
        return [f"{name}: no picture came within {PATIENCE:.0f} s"]
    before, after = row["before"]["true_ms"], row["after"]["true_ms"]
    if not before or not after or after["p50"] > before["p50"] + frame:
        wrong.append(f"{name}: the age was {before} and became {after}")
    if row["after"]["unread"]:
        wrong.append(f"{name}: {row['after']['unread']} pictures without a readable time code")
    for what in ("threads", "files"):
        if row["held_after"][what] > kept[what]:
            wrong.append(f"{name}: {kept[what]} {what} before the first fault, {row['held_after'][what]} after it")
    return wrong


@click.command()
@click.option("--server", "kind", type=click.Choice(["rtsp", "mjpeg"]), default="rtsp", show_default=True)
@click.option("--video", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="What the server shows.")
@click.option("--size", default="480x640", show_default=True, metavar="HxW")
@click.option("--fps", default=30, show_default=True)
@click.option("--engine", default="real", show_default=True, help="real, fake:FPS, or an engine file.")
@click.option("--hold", default=10.0, show_default=True, help="Seconds that a fault lasts.")
@click.option("--kills", default=5, show_default=True, help="How often the server is killed.")
@click.option("--window", default=6.0, show_default=True, help="Seconds of pictures before and after, for ages.")
@click.option("--longest-wait", default=Reconnect().longest, show_default=True, help="Of the reconnects, in seconds.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path))
def main(
    kind: Any,
    video: Path | None,
    size: str,
    fps: int,
    engine: str,
    hold: float,
    kills: int,
    window: float,
    longest_wait: float,
    json_path: Path | None,
) -> None:
    """Make a server fail in every way, and look at what comes out."""
    height, width = (int(side) for side in size.split("x"))
    source = SourceOptions(reconnect=replace(Reconnect(), longest=longest_wait))
    options = RunOptions(source=source, render=RenderOptions(legend=True, hud=True))
    rows, wrong = [], []
    with Noise() as noise, serving(kind, video, (height, width), fps) as server, Proxy(server.port) as proxy:
        with Running(server.url(port=proxy.port), engine, options) as running:
            watch = Watch(running)
            watch.since(now())
            watch.for_(window)
            kept = holding(held())
            for fault in (KILLED,) * kills + FAULTS:
                row = suffer(fault, watch, server, proxy, hold, window)
                rows.append(row)
                wrong += _wrong(row, 1000 / fps, kept)
                told = {name: (row[name]["true_ms"] or {}).get("p50") for name in ("before", "after")}
                print(
                    f"{fault.name}: lasted {row['lasted_s']} s, back after {row['back_after_s']} s, age p50 "
                    f"{told['before']} ms before and {told['after']} after; {row['faults']}; "
                    f"{row['held_before']} to {row['held_after']}",
                    flush=True,
                )
        end = counts(running.report)
        if end["unaccounted"] or end["shown"] != running.codes.count:
            wrong.append(f"frames are unaccounted for: {end}, and a sink had {running.codes.count}")
    cases = refusals(kind, engine)
    for case in cases:
        if case["exit_code"] != case["expected"] or case["secrets_found"]:
            wrong.append(f"{case['case']}: exit code {case['exit_code']}, {case['secrets_found']} secrets found")
    result = head("python -m bench.faults", f"{kind}, {size}, {fps} fps, engine {engine}", noise)
    del result["machine"]["features"]
    result |= {"longest_wait_s": longest_wait, "faults": rows, "refusals": cases}
    result |= {"held_at_first": kept, "frames_by_fate": end, "verdict": wrong}
    for line in wrong:
        print(line)
    if json_path:
        save(json_path, result, "faults")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
