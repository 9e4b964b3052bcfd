"""Is the age that rtpsp reports the truth? ``python bench/age.py``

A simulated camera draws into each picture when it was really exposed; a sink reads that time code out of the picture it
is shown, after the whole loop, and compares. The engine is a fake of 50 ms, so 20 fps at best; the camera gives 30.

    latest     policy `latest`: frames are dropped, the picture stays fresh
    bursts     the same, but the network delivers six frames at a time, so five of six come late
    backlog    policy `every` on a live source whose fifo loses nothing: what a queue in front of a slow model does
"""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

import rtpsp
from rtpsp.sim.timecode import read_timecode
from rtpsp.stream.frame import Rendered
from rtpsp.stream.slot import Policy
from rtpsp.timing import Series, now

CAMERA = "sim://street?w=320&h=240&fps=30&live=1&timecode=1&frames={frames}"
SCENARIOS: dict[str, tuple[str, Policy]] = {
    "latest": ("", "latest"),
    "bursts": ("&burst=6&fifo=30", "latest"),
    "backlog": ("&fifo=100000", "every"),
}
LATENCY = 0.05


class TimeCodes(rtpsp.Sink):
    """Reads the true capture time out of every picture.

    Attributes:
        true_age: Hand-over minus the time code.
        error: |captured - time code|: how far the reported capture time is off.
        unread: Pictures without a readable code.
    """

    view = "frame"

    def __init__(self) -> None:
        self.true_age, self.error = Series(), Series()
        self.unread = 0

    def write(self, item: Rendered) -> None:
        """Compare one picture."""
        code = read_timecode(item.pictures["frame"])
        if code is None:
            self.unread += 1
            return
        self.true_age.add(now() - code / 1e6)
        self.error.add(abs(item.stamps.captured - code / 1e6))


@click.command()
@click.option("--seconds", default=60.0, show_default=True, help="Of each scenario.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path))
def main(seconds: float, json_path: Path | None) -> None:
    """Compare reported and true ages in three scenarios."""
    table = Table(title=f"30 fps camera, {LATENCY * 1e3:.0f} ms engine, {seconds:.0f} s each; ages in ms")
    for column in ("", "shown", "dropped", "reported p50", "p99", "max", "true p50", "p99", "max", "stamp off by, max"):
        table.add_column(column, justify="right")
    figures = {}
    for name, (faults, policy) in SCENARIOS.items():
        sink = TimeCodes()
        uri = CAMERA.format(frames=round(30 * seconds)) + faults
        report = rtpsp.run(uri, rtpsp.FakeEngine(latency=LATENCY), [sink], rtpsp.RunOptions(policy=policy))
        frames, reported, true, error = report.frames, report.age, sink.true_age.summary(), sink.error.summary()
        assert reported and true and error and not sink.unread
        assert frames.received == frames.shown + sum(frames.dropped.values()) + frames.discarded
        cells = [
            "-" if value is None else f"{value:.0f}"
            for value in (reported.median, reported.p99, reported.max, true.median, true.p99, true.max)
        ]
        dropped = f"{sum(frames.dropped.values())} of {frames.received}"
        table.add_row(name, str(frames.shown), dropped, *cells, f"{error.max:.1f}")
        figures[name] = {
            "report": report.to_dict(), "true_age_ms": true.to_dict(), "stamp_error_ms": error.to_dict()
        }  # fmt: skip
    Console(width=140).print(table)
    if json_path:
        json_path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
