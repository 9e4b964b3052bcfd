"""Reports as people read them."""

from __future__ import annotations

import time

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from rtpsp.cli.console import stderr, stdout, summary_table
from rtpsp.spec import ModelSpec
from rtpsp.stream.frame import Rendered
from rtpsp.stream.report import RunReport
from rtpsp.stream.sink import Sink
from rtpsp.stream.source import SourceInfo
from rtpsp.timing import RecentRate, now

LINE_SECONDS = 30.0


class ProgressLine(Sink):
    """A sign of life while a run goes on: a bar on a terminal, a line every half minute where there is none."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("run"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=stderr,
            transient=True,
            disable=not stderr.is_terminal,
        )
        self._rate = RecentRate()
        self._shown = 0
        self._told = time.monotonic()

    def open(self, info: SourceInfo, spec: ModelSpec) -> None:
        """Start the bar; it has no end where the source has none."""
        self._bar.start()
        self._bar.add_task("", total=info.frames)

    def write(self, item: Rendered) -> None:
        """Count a frame."""
        self._rate.add(now())
        self._shown += 1
        text = f"{self._rate.fps or 0:.1f} fps"
        self._bar.update(self._bar.task_ids[0], completed=self._shown, description=text)
        if not stderr.is_terminal and time.monotonic() - self._told > LINE_SECONDS:
            self._told = time.monotonic()
            stderr.print(f"{self._shown} frames shown, {text}")

    def close(self) -> None:
        """Take the bar away."""
        self._bar.stop()


def print_run(report: RunReport) -> None:
    """The report of a run: what ran, where the frames went, how long each stage took, how old the pictures were."""
    engine, frames, threads = report.engine, report.frames, report.threads
    size = f"{engine['height']}x{engine['width']}"
    drops = ", ".join(f"{count} waiting for {stage}" for stage, count in frames.dropped.items() if count)
    rate = f"{report.fps:.1f} fps" if report.fps else "-"
    lines = [
        f"model   {engine['model']} {size}, {engine['backend']} {engine['precision']}, ran in {engine['ran'] or '-'}"
        + (", device IO" if engine.get("device_io") else "")
        + (", smoothed" if engine.get("smooth") else "")
        + (f", unknown below {engine['min_confidence']:g}" if "min_confidence" in engine else ""),
        f"frames  {frames.received} in, {frames.shown} out, {sum(frames.dropped.values())} dropped"
        + (f" ({drops})" if drops else "")
        + (f", {frames.discarded} under way at the end" if frames.discarded else "")
        + (f", {frames.missed} missed or unreadable" if frames.missed else "")
        + (f", {frames.skipped} skipped on request" if frames.skipped else ""),
        f"rate    {rate} over {report.seconds:.1f} s; policy {report.policy}; threads: engine {threads.engine}, "
        f"decoder {threads.decoder}, encoder {threads.encoder}, OpenCV {threads.opencv}",
    ]
    lines += [f"output  {path}" for path in report.outputs]
    lines.append(f"ended   {report.ended}")
    rows = dict(report.stages) | ({"age": report.age} if report.age else {})
    if rows:
        stdout.print(summary_table("", rows))
    for line in lines:
        stdout.print(line, markup=False, soft_wrap=True)
