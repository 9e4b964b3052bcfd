"""What a recording survives: ``python bench/recording.py --json FILE`` (as root on Linux: it mounts a small tmpfs).

    kill       a process that records a live source is killed at random moments: how much is missing in the end
    disk       a live run records to a disk of a few megabytes: what was recorded plays, and frames are shown on
    duration   a live source of a changing rate: the file's length and each picture's time against the clock

Missing is the time from the last picture that plays to the kill, both counted from the first picture.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import click
import numpy as np
from rich.console import Console

import rtpsp
from rtpsp.errors import OutputError
from rtpsp.labels import CAMVID
from rtpsp.spec import ModelSpec
from rtpsp.stream.frame import Frame, Rendered, Stamps
from rtpsp.stream.source import SourceInfo
from rtpsp.timing import now

SIZE = (480, 640)
SPEC = ModelSpec("bench", "fake", *SIZE, CAMVID)
RATES = (30.0, 5.0, 0.4)
"""Pictures a second of the source that is recorded; the last one gives its next picture long after the kill."""
DISK_BYTES = 4 << 20


class Shown(rtpsp.NullSink):
    """A display that only counts, and when.

    Attributes:
        times: When each frame was shown, in seconds of `now`.
    """

    view = "overlay"

    def __init__(self) -> None:
        self.times: list[float] = []

    def write(self, item: Rendered) -> None:
        """Count one."""
        self.times.append(now())


def pictures() -> list[np.ndarray[Any, Any]]:
    """A second of moving blocks, which compress about as badly as a street."""
    noise = np.random.default_rng(0).integers(0, 255, (SIZE[0] // 8, SIZE[1] // 8, 3), np.uint8)
    large = noise.repeat(8, 0).repeat(8, 1)
    return [np.roll(large, 3 * step, 1) for step in range(30)]


def write_paced(sink: rtpsp.VideoFile, gaps: Iterator[float]) -> Iterator[float]:
    """Hand pictures over at the times they belong to, as a camera's come; yields each one's time from the first."""
    moving, begin, pts = pictures(), now(), 0.0
    for index, gap in enumerate(gaps):
        time.sleep(max(0.0, begin + pts - now()))
        picture = moving[index % len(moving)]
        frame = Frame(index, pts, now(), *SIZE, lambda out, picture=picture: picture)  # type: ignore[misc]
        sink.write(Rendered(frame, {"overlay": picture}, picture[..., 0], Stamps(frame.captured)))
        yield pts
        pts += gap


def opened(path: Path, fps: float) -> rtpsp.VideoFile:
    """A recorder of a live source."""
    sink = rtpsp.VideoFile(path)
    sink.open(SourceInfo("bench", "sim", *SIZE, fps=fps, live=True), SPEC)
    return sink


def play(path: Path) -> list[float]:
    """Each picture's time; raises where anything is damaged."""
    with av.open(str(path)) as container:
        return [frame.time or 0.0 for frame in container.decode(video=0)]


def child(path: Path, fps: float) -> None:
    """Record until killed; says on standard output when the first picture was handed over."""
    sink = opened(path, fps)
    first = True
    for _ in write_paced(sink, iter(lambda: 1 / fps, None)):
        if first:
            click.echo(now())  # CLOCK_MONOTONIC is the same in every process
            first = False


def kill(folder: Path, suffix: str, fps: float, lives: float) -> dict[str, Any]:
    """One recording that is killed after so many seconds."""
    path = folder / f"kill{suffix}"
    command = [sys.executable, __file__, "--child", str(path), "--fps", str(fps)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = float(process.stdout.readline())
        time.sleep(max(0.0, first + lives - now()))
        killed = now()
        process.send_signal(signal.SIGKILL)
    times = play(path)
    missing = killed - first - times[-1]
    return {"lived_s": round(killed - first, 3), "pictures": len(times), "missing_s": round(missing, 3)}


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A tmpfs of `DISK_BYTES`."""
    place = folder / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def full_disk(folder: Path, suffix: str, seconds: float) -> dict[str, Any]:
    """One live run whose disk fills up on the way."""
    shown, said = Shown(), ""
    uri = f"sim://street?w=640&h=480&fps=30&live=1&frames={round(30 * seconds)}"
    with small_disk(folder) as disk:
        recorder = rtpsp.VideoFile(disk / f"full{suffix}", crf=4)
        pipeline = rtpsp.open_pipeline(uri, rtpsp.FakeEngine(latency=0.01), [shown, recorder])
        try:
            pipeline.run()
        except OutputError as error:
            said = str(error).replace(str(folder), "")
        times = play(disk / f"full{suffix}")
    begin, end = shown.times[0], times[-1]
    before = [moment for moment in shown.times if moment - begin <= end]
    after = [moment for moment in shown.times if moment - begin > end]
    rates = [(len(part) - 1) / (part[-1] - part[0]) for part in (before, after)]
    return {
        "said": said, "recorded": len(times), "recorded_s": round(end, 2), "shown": len(shown.times),
        "shown_after": len(after), "fps_before": round(rates[0], 2), "fps_after": round(rates[1], 2),
    }  # fmt: skip


def duration(folder: Path, suffix: str, seconds: float, seed: int) -> dict[str, Any]:
    """One recording at 5 to 50 pictures a second, in turns at random."""
    path, chance = folder / f"rate{suffix}", random.Random(seed)
    sink = opened(path, 30.0)
    gaps: list[float] = []
    while sum(gaps) < seconds:
        gaps.append(chance.uniform(0.02, 0.2))
    begin = now()
    truth = list(write_paced(sink, iter(gaps)))
    time.sleep(max(0.0, begin + sum(gaps) - now()))  # the last picture shows for its time too
    clock = now() - begin
    sink.close()
    times = play(path)
    with av.open(str(path)) as container:
        lasts = (container.duration or 0) / 1e6
    off = max(abs(time - pts) for time, pts in zip(times, truth, strict=True))
    return {
        "pictures": len(times), "clock_s": round(clock, 3), "file_s": round(lasts, 3),
        "off_s": round(lasts - clock, 3), "longest_frame_s": round(max(gaps), 3),
        "worst_time_off_ms": round(1e3 * off, 3),
    }  # fmt: skip


@click.command()
@click.option("--kills", default=10, show_default=True, help="Of each kind of file and rate.")
@click.option("--seconds", default=6.0, show_default=True, help="A killed process records at most so long.")
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--child", "child_path", type=click.Path(path_type=Path), hidden=True)
@click.option("--fps", default=30.0, hidden=True)
def main(kills: int, seconds: float, seed: int, json_path: Path | None, child_path: Path | None, fps: float) -> None:
    """Kill, fill and time recordings."""
    if child_path is not None:
        child(child_path, fps)
        return
    console, chance = Console(width=140), random.Random(seed)
    figures: dict[str, Any] = {"cores": os.cpu_count(), "load": os.getloadavg()[0], "av": av.__version__, "seed": seed}
    figures |= {"kill": {}, "disk": {}, "duration": {}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for suffix in (".mp4", ".mkv"):
            for rate in RATES:
                runs = [kill(folder, suffix, rate, chance.uniform(0.5, seconds)) for _ in range(kills)]
                worst = max(run["missing_s"] for run in runs)
                figures["kill"][f"{suffix} at {rate:g} fps"] = {"worst_missing_s": worst, "runs": runs}
                console.print(
                    f"kill      {suffix} at {rate:g} fps: {kills} of {kills} play, at most {worst:.3f} s missing"
                )
            figures["disk"][suffix] = full_disk(folder, suffix, 3 * seconds)
            (folder / "disk").rmdir()
            console.print(f"disk      {suffix}: {figures['disk'][suffix]}")
            figures["duration"][suffix] = duration(folder, suffix, 2 * seconds, seed)
            console.print(f"duration  {suffix}: {figures['duration'][suffix]}")
    if json_path:
        json_path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
