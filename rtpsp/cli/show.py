"""Reports as people read them."""

from __future__ import annotations

from collections.abc import Sequence

from rtpsp.cli.console import stdout, summary_table
from rtpsp.redaction import scrub
from rtpsp.stream.report import FrameCounts, RunReport, SourceReport


def print_run(report: RunReport, names: Sequence[str] = ("",)) -> None:
    """The report of a run: what ran, where the frames went, how long each stage took, how old the pictures were.

    Args:
        report: Of the run.
        names: Of its sources; empty for a single one that nobody named.
    """
    engine, threads = report.engine, report.threads
    size = f"{engine['height']}x{engine['width']}"
    rate = f"{report.fps:.1f} fps" if report.fps else "-"
    lines = [
        f"model   {engine['model']} {size}, {engine['backend']} {engine['precision']}, ran in {engine['ran'] or '-'}"
        + (", device IO" if engine.get("device_io") else "")
        + (", smoothed" if engine.get("smooth") else "")
        + (f", unknown below {engine['min_confidence']:g}" if "min_confidence" in engine else ""),
        f"frames  {_counts(report.frames)}",
        f"rate    {rate} over {report.seconds:.1f} s; policy {report.policy}; threads: engine {threads.engine}, "
        f"decoder {threads.decoder}, encoder {threads.encoder}, OpenCV {threads.opencv}",
    ]
    for name, source in zip(names, report.sources, strict=False):
        words = [*(_figures(source) if len(report.sources) > 1 else ()), *to_troubles(source)]
        if words:
            lines.append(f"source  {f'{name}: ' if name else ''}{'; '.join(words)}")
    drops = report.sink_drops
    late = {path: f", {drops[path]} pictures not recorded, it was too slow" for path in report.outputs if path in drops}
    lines += [f"output  {path}{late.get(path, '')}" for path in report.outputs]
    lines += [f"output  {name}, {count} pictures not taken" for name, count in drops.items() if name not in late]
    lines.append(f"ended   {report.ended}")
    rows = dict(report.stages) | ({"age": report.age} if report.age else {})
    if rows:
        stdout.print(summary_table("", rows))
    for line in lines:  # figures stay, whatever digits a password has
        told = scrub(line) if line.startswith(("source", "output", "ended")) else line
        stdout.print(told, markup=False, soft_wrap=True)


def to_troubles(source: SourceReport) -> list[str]:
    """What a source suffered, in words; empty where nothing did."""
    words = []
    if source.reconnects or source.downtime >= 0.05:
        times = "once" if source.reconnects == 1 else f"{source.reconnects} times"
        words.append(f"came back {times}, away for {source.downtime:.1f} s")
    for what, counts in (("faults", source.faults), ("time stamps put in order", source.stamps)):
        if counts:
            words.append(f"{what}: {', '.join(f'{count} {kind}' for kind, count in sorted(counts.items()))}")
    if source.late:
        words.append(f"{source.late} frames too old to decode")
    return words


def _figures(source: SourceReport) -> list[str]:
    rate = f", {source.fps:.1f} fps" if source.fps else ""
    age = f", age {source.age.median:.0f} ms (median)" if source.age else ""
    return [f"{_counts(source.frames)}{rate}{age}", *([source.ended] if source.ended else [])]


def _counts(frames: FrameCounts) -> str:
    drops = ", ".join(f"{count} waiting for {stage}" for stage, count in frames.dropped.items() if count)
    return (
        f"{frames.received} in, {frames.shown} out, {sum(frames.dropped.values())} dropped"
        + (f" ({drops})" if drops else "")
        + (f", {frames.discarded} under way at the end" if frames.discarded else "")
        + (f", {frames.missed} missed or unreadable" if frames.missed else "")
        + (f", {frames.skipped} skipped on request" if frames.skipped else "")
    )
