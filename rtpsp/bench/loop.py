"""What the live loop adds to a frame: the loop, and its very own engine alone, in slices that take turns.

    engine  loop  engine  loop  engine  loop ...

A slice lasts for about a second. The engine alone is timed in the loop's own inference thread, on the same object and
the same memory, while the loop's other threads wait: two engines of one file differ by as much as a good loop costs.
A slice's cost is 1/fps of the loop minus the mean time of the engine in the slice before it; the loop's is the median
of the slices' with the interval of `rtpsp.bench.ratios`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rtpsp.arrays import Image
from rtpsp.bench.lanes import Stopped, Tell
from rtpsp.bench.ratios import Interval, bootstrap_median
from rtpsp.bench.timeline import Timeline
from rtpsp.bench.turns import Alternating, Turns
from rtpsp.engine.base import Engine
from rtpsp.live import RunOptions, open_pipeline
from rtpsp.stream.report import RunReport
from rtpsp.stream.source import Source, SourceOptions
from rtpsp.timing import quantile, summarise

AGES_TOLD = 2000


@dataclass(frozen=True)
class LoopFigures:
    """The loop with a sink that does nothing.

    Attributes:
        report: As of any run. Its rate, seconds and ages are those of the slices that count, and frames that waited
            while the engine was alone have no age in it; its stages and frame counts are of all frames.
        engine: The engine alone, all slices.
        costs: Milliseconds that the loop added to a frame, slice by slice; none where the source sets the pace.
        ages: (seconds since the first frame that counts, milliseconds from captured to handed over), in order.
    """

    report: RunReport
    engine: Timeline
    costs: tuple[float, ...]
    ages: tuple[tuple[float, float], ...]

    @property
    def cost(self) -> float | None:
        """Milliseconds that the loop adds to a frame, the median; None where it cannot be told."""
        return quantile(sorted(self.costs), 0.5) if self.costs else None

    @property
    def cost_percent(self) -> float | None:
        """`cost` as a share of the engine's own time for a frame."""
        fps = self.engine.fps
        return None if self.cost is None or fps is None else 100 * self.cost / (1e3 / fps)

    @property
    def interval(self) -> Interval | None:
        """In which `cost` lies; None with too few slices."""
        return bootstrap_median(self.costs)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values: the report's, and ``cost_ms``, ``cost_percent``, ``cost_interval_ms``, ``slices``."""
        cost, percent, interval = self.cost, self.cost_percent, self.interval
        step = -(-len(self.ages) // AGES_TOLD) or 1
        return {
            **self.report.to_dict(),
            "slices": len(self.costs),
            "cost_ms": None if cost is None else round(cost, 3),
            "cost_percent": None if percent is None else round(percent, 2),
            "cost_interval_ms": interval.to_list(3) if interval else None,
            "age_series": [[round(at, 3), round(age, 3)] for at, age in self.ages[::step]],
        }


def measure_loop(
    engine: Engine,
    batches: Sequence[Image],
    source: Source | str,
    *,
    seconds: float,
    warmup: float,
    threads: int = 0,
    tell: Tell | None = None,
    stopped: Stopped | None = None,
) -> LoopFigures:
    """Run the loop with a null sink, and its engine alone in turn with it.

    Args:
        engine: Not open, of batches of 1.
        batches: uint8 [1, H, W, planes] of the model's size, for the engine alone.
        source: What the loop reads: a source, or the URI of one. A file that ends begins again.
        seconds: That count, of the engine alone and of the loop each.
        warmup: Seconds of the loop before anything counts.
        threads: CPU threads of the loop; 0 takes all. The engine keeps its own.
        tell: Told both medians.
        stopped: Asked often.

    Returns:
        With empty figures where a person wanted an end before the first slice. A live source sets the pace itself:
        then the engine is not timed, the loop is one long slice, and nothing can be said of its cost.

    Raises:
        RtpspError: As `rtpsp.live.run`.
    """
    turns = Turns(batches, seconds, warmup, tell, stopped)
    options = RunOptions(threads=threads)
    if isinstance(source, str) and _may_end(source):
        options = replace(options, source=SourceOptions(loop=True))
    pipeline = open_pipeline(source, Alternating(engine, turns), [turns], options)
    turns.alternate = not pipeline.report().source.live
    report = pipeline.run()
    rate = turns.fps
    return LoopFigures(
        replace(
            report,
            fps=rate,
            seconds=sum(each[-1] - each[0] for each in turns.slices),
            age=summarise(age for _, age in turns.ages),
            ended="measured" if turns.done else report.ended,
        ),
        Timeline.of(stamps for each in turns.alone for stamps in each),
        turns.costs(),
        tuple((at - turns.ages[0][0], 1e3 * age) for at, age in turns.ages),
    )


def _may_end(uri: str) -> bool:
    return not (uri.isdigit() or uri.startswith("/dev/"))
