"""Scores filtered over time in the live loop: what comes out is what `rtpsp.smoothing.Smoother` gives of them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import cv2
import numpy as np
import pytest

from rtpsp.arrays import ClassMap, Image
from rtpsp.class_mapper import ClassMapper
from rtpsp.engine.base import EngineOptions
from rtpsp.engine.fake import FakeEngine
from rtpsp.errors import UsageError
from rtpsp.fit import MaskSize, plan_fit
from rtpsp.labels import LabelSet, distinct_palette
from rtpsp.live import RunOptions, run
from rtpsp.planes import to_planes
from rtpsp.smoothing import Smoother
from rtpsp.spec import Fit, ModelSpec
from rtpsp.stream.frame import Frame
from rtpsp.stream.pipeline import Pipeline, PipelineOptions
from rtpsp.stream.report import RunReport
from rtpsp.stream.source import Source, SourceInfo
from rtpsp.timing import now
from rtpsp.upsampling import Grid, Scores, confidence_map
from tests.stream.doubles import Collector

CELLS, MODEL = (12, 16), (96, 128)
LABELS = LabelSet("three", ("a", "b", "c"), distinct_palette(3))


class Film(Source):
    """Pictures in their order."""

    def __init__(self, pictures: Sequence[Image]) -> None:
        height, width = pictures[0].shape[:2]
        self.info = SourceInfo("film", "sim", height, width, fps=30.0, frames=len(pictures), live=False)
        self._pictures = enumerate(pictures)

    def read(self) -> Frame | None:
        index, picture = next(self._pictures, (0, None))
        if picture is None:
            return None
        return Frame(index, index / 30, now(), picture.shape[0], picture.shape[1], lambda out: picture.copy())

    def close(self) -> None:
        pass


def spec(fit: Fit = "stretch") -> ModelSpec:
    return ModelSpec("three", "fake", *MODEL, LABELS, fit=fit)


def scores_of(frames: Image) -> Scores:
    """One class a plane, by how bright a cell is in it: noise moves its borders."""
    cells = [cv2.resize(frame, CELLS[::-1], interpolation=cv2.INTER_AREA).transpose(2, 0, 1) for frame in frames]
    return np.array(cells, np.float32) / np.float32(8)


def engine(fit: Fit = "stretch", depth: int = 1, **more: Any) -> FakeEngine:
    options = EngineOptions(depth=depth, device_io=more.pop("device_io", "auto"))
    return FakeEngine(spec(fit), scores=scores_of, cells=CELLS, options=options, **more)


def still(size: tuple[int, int] = (120, 200), seed: int = 0) -> Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 9, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC), np.uint8)


def shaken(picture: Image, count: int, seed: int = 1) -> list[Image]:
    """One picture as a poor camera sees it again and again: each 6x6 pixels are some grey levels too bright or dark."""
    random = np.random.default_rng(seed)
    blocks = np.ones((6, 6, 1))
    noise = (np.kron(random.normal(0, 6, (-(-picture.shape[0] // 6), -(-picture.shape[1] // 6), 3)), blocks)
             for _ in range(count))  # fmt: skip
    return [np.clip(picture + more[: picture.shape[0], : picture.shape[1]], 0, 255).astype(np.uint8) for more in noise]


def maps(pictures: Sequence[Image], smooth: bool = True, **how: Any) -> list[ClassMap]:
    """Class maps of a run."""
    return went(pictures, smooth, **how)[0]


def went(pictures: Sequence[Image], smooth: bool = True, **how: Any) -> tuple[list[ClassMap], RunReport]:
    mask_size: MaskSize | None = how.pop("mask_size", None)
    least: float | None = how.pop("min_confidence", None)
    sink = Collector()
    options = RunOptions(smooth=smooth, mask_size=mask_size, min_confidence=least)
    report = run(Film(pictures), engine(**how), [sink], options)
    return [item.class_map for item in sink.items], report


def offline(pictures: Iterable[Image], fit: Fit, mask_size: MaskSize, smoother: Smoother | None) -> list[ClassMap]:
    """The same without a loop: each frame fitted, scored, filtered, mapped."""
    found = []
    for picture in pictures:
        plan = plan_fit((picture.shape[0], picture.shape[1]), spec(fit))
        seen = plan.to_model(picture)
        scores = scores_of(seen[np.newaxis])[0]
        if smoother:
            scores = smoother(scores, seen)
        if mask_size == "frame":
            found.append(plan.place(ClassMapper(plan.grid(CELLS), "uint8")(scores)))
        else:
            found.append(plan.to_source(ClassMapper(Grid.whole(CELLS, MODEL), "uint8")(scores)))
    return found


def flicker(class_maps: Sequence[ClassMap]) -> float:
    return float(np.mean(np.diff(np.stack(class_maps).astype(int), axis=0) != 0))


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("mask_size", ["model", "frame"])
@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
def test_a_run_gives_what_the_filter_gives_frame_by_frame(fit: Fit, mask_size: MaskSize, depth: int) -> None:
    pictures = [np.roll(picture, 3 * number, axis=1) for number, picture in enumerate(shaken(still(), 8))]
    got, report = went(pictures, mask_size=mask_size, fit=fit, depth=depth)
    np.testing.assert_array_equal(got, offline(pictures, fit, mask_size, Smoother()))
    plain, unlike = went(pictures, False, mask_size=mask_size, fit=fit, depth=depth)
    np.testing.assert_array_equal(plain, offline(pictures, fit, mask_size, None))
    assert any((one != other).any() for one, other in zip(got, plain, strict=True)), "else nothing is shown"
    assert (report.engine["smooth"], unlike.engine["smooth"]) == (True, False)
    assert report.stages["smooth"].count == report.stages["infer"].count == len(pictures)
    assert list(report.stages) == ["capture", "preprocess", "infer", "smooth", "render", "sink"]
    assert "smooth" not in unlike.stages


def test_a_noisy_still_flickers_less() -> None:
    pictures = shaken(still(), 10)
    plain, smooth = maps(pictures, False), maps(pictures)
    assert flicker(smooth) < 0.7 * flicker(plain)
    np.testing.assert_array_equal(plain[0], smooth[0], err_msg="the first frame has nothing before it")


def test_frames_of_another_size_begin_anew() -> None:
    """A folder of two sizes in turn, a stream whose size changes: under letterbox their edges lie elsewhere."""
    first, second = shaken(still(), 2), shaken(still((150, 150)), 2)
    turns = [first[0], second[0], first[1], second[1]]
    np.testing.assert_array_equal(
        np.concatenate([m.ravel() for m in maps(turns, fit="letterbox")]),
        np.concatenate([m.ravel() for m in maps(turns, False, fit="letterbox")]),
    )
    again = maps([*first, *second], fit="letterbox")
    for pair, got in ((first, again[:2]), (second, again[2:])):
        np.testing.assert_array_equal(got, offline(pair, "letterbox", "model", Smoother()))


def test_a_source_that_begins_again_is_a_cut() -> None:
    """As --loop, and photographs of different places in one folder."""
    scenes = [still(seed=number) for number in range(4)]
    np.testing.assert_array_equal(maps(scenes), maps(scenes, False))


@pytest.mark.parametrize("mask_size", ["model", "frame"])
def test_a_threshold_holds_for_what_is_believed_after_the_filter(mask_size: MaskSize) -> None:
    pictures = shaken(still(MODEL), 4)
    how: dict[str, Any] = {"confidence": lambda frames: np.zeros(0, np.uint8)}
    got = maps(pictures, mask_size=mask_size, min_confidence=0.9, **how)
    smoother, grid = Smoother(), Grid.whole(CELLS, MODEL)
    for picture, class_map in zip(pictures, got, strict=True):
        sure = confidence_map(smoother(scores_of(picture[np.newaxis])[0], picture), grid) >= np.ceil(255 * 0.9)
        assert 0.1 < sure.mean() < 0.9
        np.testing.assert_array_equal(class_map != 255, sure)


@pytest.mark.parametrize("planes", [1, 4])
def test_other_planes_are_filtered_as_the_model_sees_them(planes: int) -> None:
    seen = [np.dstack([picture, picture[..., :1]])[..., :planes] if planes == 4 else to_planes(picture, 1)
            for picture in shaken(still(MODEL), 3)]  # fmt: skip
    model = ModelSpec(
        "other", "fake", *MODEL, LABELS, mean=(0.5,) * planes, std=(1.0,) * planes,
        channels="grey" if planes == 1 else "bgrx",
    )  # fmt: skip

    def scores(frames: Image) -> Scores:
        return scores_of(np.ascontiguousarray(np.resize(frames, (*frames.shape[:3], 3))))

    source, sink = Film(seen), Collector()
    if planes == 4:
        object.__setattr__(source.info, "planes", 4)
    run(source, FakeEngine(model, scores=scores, cells=CELLS), [sink], RunOptions(smooth=True))
    smoother, mapper = Smoother(), ClassMapper(Grid.whole(CELLS, MODEL), "uint8")
    for item, picture in zip(sink.items, seen, strict=True):
        np.testing.assert_array_equal(item.class_map, mapper(smoother(scores(picture[np.newaxis])[0], picture)))


# --- the engine's side -----------------------------------------------------------------------------------------------


def test_an_engine_makes_all_of_its_result_of_refined_scores() -> None:
    pictures = np.stack(shaken(still(MODEL), 2))
    with engine(confidence=lambda frames: np.zeros(0, np.uint8)) as opened:
        opened.batch = 2
        plain = opened.infer(pictures)
        assert plain.scores is not None
        asked: list[Scores] = []

        def refine(scores: Scores) -> Scores:
            asked.append(scores.copy())
            return scores[::-1] * np.float32(0.1)

        refined = opened.collect(opened.submit(pictures), refine)
    np.testing.assert_array_equal(np.stack(asked), plain.scores, err_msg="each frame's in turn, as the network gives")
    assert refined.scores is not None and refined.confidence is not None
    np.testing.assert_array_equal(refined.scores, plain.scores[:, ::-1] * np.float32(0.1))
    grid = Grid.whole(CELLS, MODEL)
    for number in range(2):
        expected = ClassMapper(grid, "uint8")(refined.scores[number])
        np.testing.assert_array_equal(refined.class_map[number], expected)
        np.testing.assert_array_equal(refined.confidence[number], confidence_map(refined.scores[number], grid))


def test_without_scores_there_is_nothing_to_refine() -> None:
    with FakeEngine(spec()) as opened, pytest.raises(UsageError, match="no scores to refine: expected a batch of"):
        opened.collect(opened.submit(np.zeros((1, *MODEL, 3), np.uint8)), lambda scores: scores)
    with engine(can_device_io=True) as opened:
        ticket = opened.submit_frame(still(MODEL), plan_fit(MODEL, spec()))
        with pytest.raises(UsageError, match="no scores to refine"):
            opened.collect(ticket, lambda scores: scores)


# --- what stands against it ------------------------------------------------------------------------------------------


def test_an_engine_of_class_maps_is_told_what_it_lacks() -> None:
    source = Film([still()])
    with pytest.raises(
        UsageError, match=r"^engine of fake gives .*, --smooth needs its scores: build it .*--tail host'$"
    ):
        run(source, FakeEngine(), options=RunOptions(smooth=True))


def test_device_io_keeps_the_scores() -> None:
    message = "device IO keeps scores to itself, and --smooth needs them: leave it or --device-io on out"
    with pytest.raises(UsageError, match=message):
        RunOptions(smooth=True, device_io="on")
    able = engine(can_device_io=True, device_io="on")
    with pytest.raises(UsageError, match=message):
        Pipeline(Film([still()]), able, options=PipelineOptions(smooth=True))


def test_a_device_that_could_take_whole_frames_does_not(caplog: pytest.LogCaptureFixture) -> None:
    pictures = shaken(still(), 3)
    with caplog.at_level(logging.WARNING):
        got, report = went(pictures, can_device_io=True)
    assert (report.engine["device_io"], report.engine["mask_size"]) == (False, "model")
    assert [record.getMessage() for record in caplog.records] == [
        "device IO is off: it keeps scores to itself, and --smooth needs them"
    ]
    np.testing.assert_array_equal(got, offline(pictures, "stretch", "model", Smoother()))


@pytest.mark.parametrize(("smooth", "expected"), [(True, "off"), (False, "auto")])
def test_an_engine_that_the_run_loads_is_opened_without(
    smooth: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[EngineOptions] = []

    def load(path: object, options: EngineOptions) -> FakeEngine:
        loaded.append(options)
        return engine()

    monkeypatch.setattr("rtpsp.live.load_engine", load)
    run(Film([still()]), "x.engine", options=RunOptions(smooth=smooth))
    assert [options.device_io for options in loaded] == [expected]
