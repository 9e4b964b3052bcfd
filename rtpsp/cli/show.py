"""Reports as people read them."""

from __future__ import annotations

from rtpsp.cli.console import stdout, summary_table
from rtpsp.stream.report import RunReport


def print_run(report: RunReport) -> None:
    """The report of a run: what ran, where the frames went, how long each stage took, how old the pictures were."""
    engine, frames, threads = report.engine, report.frames, report.threads
    size = f"{engine['height']}x{engine['width']}"
    drops = ", ".join(f"{count} waiting for {stage}" for stage, count in frames.dropped.items() if count)
    rate = f"{report.fps:.1f} fps" if report.fps else "-"
    lines = [
        f"model   {engine['model']} {size}, {engine['backend']} {engine['precision']}, ran in {engine['ran'] or '-'}",
        f"frames  {frames.received} in, {frames.shown} out, {sum(frames.dropped.values())} dropped"
        + (f" ({drops})" if drops else "")
        + (f", {frames.discarded} under way at the end" if frames.discarded else "")
        + (f", {frames.missed} missed by the device" if frames.missed else "")
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
