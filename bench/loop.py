"""What the live loop itself costs, with an engine that takes no time: ``python bench/loop.py VIDEO``.

Four ways over the same file, interleaved and repeated, so that each way sees the same machine:

    decode    the source alone: read and convert to BGR, no loop at all
    null      the loop with a sink that does nothing
    render    the loop, overlay with legend and head-up display, a sink that throws the picture away
    record    the loop, the same picture, recorded as H.264

Printed are fps and, for each stage, the median of the repetitions' medians in milliseconds.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

import rtpsp
from rtpsp.stream.sink import Sink
from rtpsp.timing import Rate, now

WAYS = ("decode", "null", "render", "record")


class Shown(rtpsp.NullSink):
    """Asks for a picture and does nothing with it."""

    view = "overlay"


def decode(path: str) -> dict[str, Any]:
    """Read and convert every frame in this thread."""
    rate = Rate()
    with rtpsp.open_source(path) as source:
        buffer = None
        rate.add(now())
        while (frame := source.read()) is not None:
            buffer = frame.to_bgr(buffer)
            rate.add(now())
    return {"fps": rate.fps, "frames": rate.count - 1, "stages": {}}


def loop(path: str, sink: Sink) -> dict[str, Any]:
    """One run of the loop, with a fake engine of 0 ms."""
    options = rtpsp.RunOptions(render=rtpsp.RenderOptions(legend=True, hud=True))
    report = rtpsp.run(path, rtpsp.FakeEngine(), [sink], options)
    stages = {stage: summary.median for stage, summary in report.stages.items()}
    return {"fps": report.fps, "frames": report.frames.shown, "stages": stages}


@click.command()
@click.argument("video")
@click.option("--repeat", default=5, show_default=True)
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path))
def main(video: str, repeat: int, json_path: Path | None) -> None:
    """Measure the four ways over VIDEO."""
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(repeat):
            runs["decode"].append(decode(video))
            runs["null"].append(loop(video, rtpsp.NullSink()))
            runs["render"].append(loop(video, Shown()))
            runs["record"].append(loop(video, rtpsp.VideoFile(Path(folder) / "out.mp4")))
    figures: dict[str, Any] = {
        "video": Path(video).name,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "ways": {},
    }
    stages = ("capture", "preprocess", "infer", "render", "sink", "encode")
    table = Table(title=f"{video}: {runs['null'][0]['frames']} frames, {os.cpu_count()} cores, {repeat} repetitions")
    for column in ("", "fps (min - max)", "ms a frame", *stages):
        table.add_column(column, justify="right")
    for way, results in runs.items():
        rates = [result["fps"] for result in results]
        medians = {
            stage: statistics.median(result["stages"][stage] for result in results)
            for stage in stages
            if all(stage in result["stages"] for result in results)
        }
        middle = statistics.median(rates)
        figures["ways"][way] = {"fps": rates, "fps_median": middle, "stage_median_ms": medians}
        cells = [f"{medians[stage]:.2f}" if stage in medians else "" for stage in stages]
        table.add_row(way, f"{middle:.0f} ({min(rates):.0f} - {max(rates):.0f})", f"{1e3 / middle:.2f}", *cells)
    Console(width=140).print(table)
    if json_path:
        json_path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
