"""Filters over time: what each does to mIoU and to flicker, and what it costs.

    python bench/temporal.py ENGINE --data camvid --json FILE

ENGINE gives scores (rtpsp build-engine --tail host); DATA is a run with labels on every frame. It is measured in two
halves, so that what is chosen on the first can be shown on the second; both are of one drive. Then come streets of the
simulator at 15, 30 and 2 Hz, which need not resemble it. All filters work frame by frame in turn, on the same scores.

    average a           z(t) = a x(t) + (1 - a) z(t-1), of scores or of probabilities
    hysteresis b        a cell keeps its class until another one's score is larger by b
    still b             the class of the frame before is worth b where the picture did not change
    shift b             ... moved as the whole picture was, by phase correlation
    average, flow a     the average of scores, moved by optical flow, where the picture confirms it
    hysteresis, flow b  the class of the frame before, moved by optical flow, is worth b
    confirm             of class maps alone: a change counts from its second frame on, where flow says it is one point
    smooth b            rtpsp.smoothing
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from rtpsp.arrays import ClassMap, Image
from rtpsp.class_mapper import ClassMapper
from rtpsp.data.dataset import Dataset, Sample, open_dataset
from rtpsp.engine import load_engine
from rtpsp.engine.base import Engine, check_mask_size
from rtpsp.fit import plan_fit
from rtpsp.labels import LabelSet
from rtpsp.runs import find_runs
from rtpsp.smoothing import Plane, Smoother, _moved, _places, _reduced, _softmax
from rtpsp.spec import Planes
from rtpsp.temporal import evaluate_video
from rtpsp.upsampling import Grid, Scores

STREETS = (
    "sim://street?frames=60&seed=901,902&step=2",
    "sim://street?frames=60&seed=903&step=1",
    "sim://street?frames=60&seed=904&step=15",
)

Filter = Callable[[Scores, Image], Scores]


class Average:
    """Of scores or of probabilities; this frame's weight is `new`."""

    def __init__(self, new: float, probabilities: bool = False) -> None:
        self._new, self._probabilities = np.float32(new), probabilities
        self._before: Scores | None = None

    def __call__(self, scores: Scores, image: Image) -> Scores:
        given = _softmax(scores) if self._probabilities else scores
        before = given if self._before is None else self._before
        self._before = before + self._new * (given - before)
        return self._before


class Hysteresis:
    """A cell keeps its class unless another one's score is larger by `margin`."""

    def __init__(self, margin: float) -> None:
        self._margin = np.float32(margin)
        self._before: Scores | None = None

    def __call__(self, scores: Scores, image: Image) -> Scores:
        kept = scores if self._before is None else scores + self._margin * _winners(self._before)
        self._before = kept
        return kept


class Still(Smoother):
    """No motion is looked for."""

    def _motion(self, grey: Plane, before: Plane) -> Plane:
        return np.zeros((*grey.shape, 2), np.float32)


class Shift(Smoother):
    """The picture moves as a whole."""

    def _motion(self, grey: Plane, before: Plane) -> Plane:
        shift, _ = cv2.phaseCorrelate(grey, before)
        return np.full((*grey.shape, 2), shift, np.float32)


class FlowAverage(Smoother):
    """`Average` of scores along optical flow."""

    def __init__(self, new: float) -> None:
        super().__init__()
        self._new = np.float32(new)

    def __call__(self, scores: Scores, image: Image) -> Scores:
        cells = scores.shape[1], scores.shape[2]
        grey, mean = _reduced(image, cells), scores.copy()
        if self._belief is not None and self._grey is not None:
            trust, columns, rows = self._trust(grey, self._grey, cells)
            for plane, before in zip(mean, self._belief, strict=True):
                plane += (1 - self._new) * trust * (_moved(before, columns, rows) - plane)
        self._belief, self._grey = mean, grey
        return mean


class FlowHysteresis(Smoother):
    """`Hysteresis` along optical flow: no probabilities, the winner takes all."""

    def __call__(self, scores: Scores, image: Image) -> Scores:
        kept = super().__call__(scores, image)
        self._belief = _winners(kept)
        return kept


class Confirm(Smoother):
    """Of class maps alone: a pixel's change of class waits for a second frame that has it."""

    def __init__(self, mapper: ClassMapper) -> None:
        super().__init__()
        self._mapper = mapper
        self._raw: ClassMap | None = None
        self._told: ClassMap | None = None

    def to_map(self, scores: Scores, image: Image) -> ClassMap:
        """The class map of one frame."""
        raw = self._mapper(scores)
        told, (height, width), cells = raw, raw.shape, scores.shape[1:]
        grey = _reduced(image, (cells[0], cells[1]))
        if self._raw is not None and self._told is not None and self._grey is not None:
            motion = self._motion(grey, self._grey)
            expected = _moved(self._grey, *_places(motion[..., 0], motion[..., 1]))
            error = cv2.resize(abs(grey - expected), (width, height), interpolation=cv2.INTER_LINEAR)
            motion = np.asarray(cv2.resize(motion, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
            places = _places(motion[..., 0] * (width / grey.shape[1]), motion[..., 1] * (height / grey.shape[0]))
            raw_before, told_before = (
                cv2.remap(ids, *places, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=255)
                for ids in (self._raw, self._told)
            )
            told = np.where((raw != raw_before) & (told_before != 255) & (error < 10), told_before, raw)
        self._raw, self._told, self._grey = raw, told, grey
        return np.asarray(told)


def _winners(scores: Scores) -> Scores:
    best: Scores = (scores == scores.max(axis=0)).astype(np.float32)
    return best


def filters() -> dict[str, Callable[[], Filter]]:
    """Each filter by name; a new one for each run of frames."""
    return {
        "none": lambda: lambda scores, image: scores,
        "average 0.6": lambda: Average(0.6),
        "average 0.4": lambda: Average(0.4),
        "average 0.4, of probabilities": lambda: Average(0.4, True),
        "hysteresis 0.5": lambda: Hysteresis(0.5),
        "hysteresis 1": lambda: Hysteresis(1),
        "hysteresis 2": lambda: Hysteresis(2),
        "still 2": lambda: Still(2),
        "shift 2": lambda: Shift(2),
        "average, flow 0.4": lambda: FlowAverage(0.4),
        "average, flow 0.2": lambda: FlowAverage(0.2),
        "hysteresis, flow 1": lambda: FlowHysteresis(1),
        "hysteresis, flow 2": lambda: FlowHysteresis(2),
        "smooth 1": lambda: Smoother(1),
        "smooth 2, tolerance 10": lambda: Smoother(2, 10),
        "smooth 2": lambda: Smoother(2),
        "smooth 2, tolerance 40": lambda: Smoother(2, 40),
        "smooth 3": lambda: Smoother(3),
        "smooth 4": lambda: Smoother(4),
    }


@dataclass(frozen=True, eq=False)
class Kept:
    """A sample that is loaded once for all filters."""

    sample: Sample

    @property
    def name(self) -> str:
        """The sample's name."""
        return self.sample.name

    def load(self, planes: Planes = 3) -> Sample:
        """The sample."""
        return self.sample


def kept(samples: Dataset) -> Dataset:
    """The same data set, held in memory."""
    return replace(samples, entries=tuple(Kept(sample) for sample in samples))


def answers(engine: Engine, samples: Dataset) -> tuple[dict[str, list[ClassMap]], dict[str, list[float]]]:
    """Every filter's class maps of every frame, at the frame's size, and the milliseconds that it took."""
    starts = {run.start for run in find_runs(samples.names)}
    maps: dict[str, list[ClassMap]] = {name: [] for name in [*filters(), "confirm"]}
    took: dict[str, list[float]] = {name: [] for name in maps}
    working: dict[str, Callable[[Scores, Image], Any]] = {}
    for number, sample in enumerate(samples):
        plan = plan_fit((sample.image.shape[0], sample.image.shape[1]), engine.spec)
        image = plan.to_model(sample.image)
        scores = engine.infer(np.ascontiguousarray(image[np.newaxis])).scores
        assert scores is not None
        cells = scores.shape[2], scores.shape[3]
        mapper = ClassMapper(plan.grid(cells), engine.spec.class_dtype)
        if number in starts:
            model_mapper = ClassMapper(Grid.whole(cells, engine.spec.size), engine.spec.class_dtype)
            working = {**{name: make() for name, make in filters().items()}, "confirm": Confirm(model_mapper).to_map}
        for name, one in working.items():
            begin = time.perf_counter()
            filtered = one(scores[0], image)
            took[name].append(1000 * (time.perf_counter() - begin))
            placed = plan.to_source(filtered) if name == "confirm" else plan.place(mapper(filtered))
            maps[name].append(placed)
    return maps, took


def measured(samples: Dataset, maps: list[ClassMap], labels: LabelSet) -> dict[str, float | None]:
    """The figures of a part of a data set."""
    given = iter(maps)
    result = evaluate_video(lambda image: next(given), samples, labels)
    figures = {
        "miou": result.evaluation.miou, "pixel_accuracy": result.evaluation.pixel_accuracy, "flicker": result.flicker,
        "truth_changes_followed": result.changes_followed,
    }  # fmt: skip
    return {name: None if value is None else round(value, 3) for name, value in figures.items()}


@click.command()
@click.argument("path", metavar="ENGINE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--data", required=True, help="A run with labels on every frame, as for rtpsp eval.")
@click.option("--split", default="val", show_default=True)
@click.option("--street", multiple=True, default=STREETS, help="Of the simulator; repeat it for several.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path))
def main(path: Path, data: str, split: str, street: tuple[str, ...], json_path: Path | None) -> None:
    """Compare filters over time on one engine's scores."""
    cv2.setNumThreads(1)
    parts: dict[str, dict[str, dict[str, float | None]]] = {}
    took: dict[str, list[float]] = {}
    with load_engine(path) as engine:
        check_mask_size("frame", engine)
        labels, ran = engine.spec.labels, engine.ran
        for source in (data, *street):
            samples = kept(open_dataset(source, split))
            maps, times = answers(engine, samples)
            half = len(samples) // 2
            cuts = (
                {"first half": slice(half), "second half": slice(half, None)} if source == data else {"": slice(None)}
            )
            for name, cut in cuts.items():
                of = {way: measured(samples[cut], given[cut], labels) for way, given in maps.items()}
                parts[f"{source} {name}".strip()] = of
            for way, milliseconds in times.items():
                took.setdefault(way, []).extend(milliseconds[1:])
    table = Table(title=f"{engine.spec.name}, ran in {ran}: mIoU / flicker / changes followed, %")
    table.add_column("filter")
    for name in parts:
        table.add_column(name, justify="right")
    table.add_column("ms", justify="right")
    for way, milliseconds in took.items():
        figures = [" / ".join(f"{part[way][what]:.2f}" for what in ("miou", "flicker", "truth_changes_followed"))
                   for part in parts.values()]  # fmt: skip
        table.add_row(way, *figures, f"{np.median(milliseconds):.2f}")
    Console(width=200).print(table)
    if json_path:
        report = {
            "model": engine.spec.name, "ran": ran, "parts": parts,
            "median_ms": {way: round(float(np.median(of)), 3) for way, of in took.items()},
        }  # fmt: skip
        json_path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
