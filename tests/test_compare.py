"""Two engines against each other: in turn, on the same frames, with the right figures and the right frames kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import rtpsp
from rtpsp.arrays import ClassMap, Image
from rtpsp.build import BuildOptions, build_engine
from rtpsp.compare import CompareOptions, compare_engines
from rtpsp.comparison import Ratio
from rtpsp.engine.base import Result, Ticket
from rtpsp.engine.fake import FakeEngine
from rtpsp.errors import DataError, InputError, SourceError, UsageError
from rtpsp.fit import no_class
from rtpsp.labels import CAMVID, CITYSCAPES
from rtpsp.spec import Fit, ModelSpec
from rtpsp.upsampling import Scores
from tests.conftest import save_colour_model

SPEC = ModelSpec("fake", "fake", 8, 12, CAMVID)
PALETTE_BGR = np.array(CAMVID.palette, np.uint8)[:, ::-1]


def by_blue(frames: Image) -> ClassMap:
    return np.asarray(frames[..., 0] % 11, np.uint8)


class Stamped(FakeEngine):
    """Writes down that it was asked, and says that each frame took so many seconds."""

    def __init__(self, name: str, seconds: list[float], asked: list[str], spec: ModelSpec = SPEC) -> None:
        super().__init__(spec, answer=by_blue)
        self.name, self.seconds, self.asked = name, seconds, asked

    def collect(self, ticket: Ticket, refine: Callable[[Scores], Scores] | None = None) -> Result:
        self.asked.append(self.name)
        took = self.seconds.pop(0) if len(self.seconds) > 1 else self.seconds[0]
        return replace(super().collect(ticket, refine), submitted=100.0, collected=100.0 + took)


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Five images of 8x12; image n has n + 1 pixels of blue 1, which the truth calls 1 too."""
    for name in ("images", "labels"):
        (tmp_path / "data" / name).mkdir(parents=True)
    for number in range(5):
        truth = np.zeros((8, 12), np.uint8)
        truth.flat[: number + 1] = 1
        image = np.zeros((8, 12, 3), np.uint8)
        image[..., 0] = truth
        cv2.imwrite(str(tmp_path / "data" / "images" / f"{number}.png"), image)
        cv2.imwrite(str(tmp_path / "data" / "labels" / f"{number}.png"), truth)
    return tmp_path / "data"


def test_they_take_turns_and_warm_up_does_not_count(labelled: Path) -> None:
    asked: list[str] = []
    a, b = Stamped("A", [9.0, 0.4, 0.2, 0.2, 0.2, 0.2], asked), Stamped("B", [0.001, 0.1], asked)
    report = compare_engines(a, b, CompareOptions(data=str(labelled), warmup=0))
    assert asked == ["A", "B"] * 6, "one round to warm up, one for each of five frames"
    assert report.ratio.count == 5 and report.ratio.median == pytest.approx(2) and report.ratio.max == pytest.approx(4)
    assert report.a.latency.max == pytest.approx(400) and report.b.latency.mean == pytest.approx(100)
    assert report.verdict == "B is 2.00x as fast as A; they agree on every pixel; B has the same mIoU"
    assert report.worst == ()


def test_figures_against_ground_truth_and_the_frames_that_differ_most(labelled: Path) -> None:
    b = FakeEngine(SPEC)  # calls everything Sky, and is wrong on n + 1 pixels of image n
    told: list[tuple[int, int]] = []
    report = compare_engines(
        FakeEngine(SPEC, answer=by_blue), b, CompareOptions(data=str(labelled), warmup=0, worst=3),
        lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert told == [(number, 5) for number in range(1, 6)]
    assert report.frames == str(labelled) and report.split == "val" and report.agreement.images == 5
    assert report.agreement.overall == pytest.approx(100 * (1 - 15 / 480))
    assert report.agreement.per_class[1] == 0
    assert report.pair.iou_differences[0] == pytest.approx(100 * 465 / 480 - 100)
    assert report.pair.miou_difference == pytest.approx((100 * 465 / 480 + 0) / 2 - 100)
    assert "they agree on 96.87 % of pixels; B loses 51.56 points of mIoU" in report.verdict
    assert [found.name for found in report.worst] == ["4.png", "3.png", "2.png"]
    worst = report.worst[0]
    assert worst.agreement == pytest.approx(100 * 91 / 96)
    np.testing.assert_array_equal(worst.first, worst.truth)
    assert not worst.second.any() and worst.image[..., 0].sum() == 5
    values = json.loads(json.dumps(report.to_dict()))
    assert values["verdict"] == report.verdict and values["images"] == 5 and values["agreement"] == 96.875
    assert values["a"]["accuracy"]["miou"] == 100 and values["miou_difference"] == -51.562
    assert values["per_class_iou_difference"]["Building"] == -100 and values["b"]["precision"] == "fp32"
    assert values["worst"][0] == {"name": "4.png", "agreement": 94.792}
    assert values["latency_ratio"]["count"] == 5 and values["latency_ratio"]["p10"] is None


def test_fewer_frames_are_spread_over_a_data_set_and_the_first_of_a_source(labelled: Path) -> None:
    names: list[str] = []
    for options in (
        CompareOptions(data=str(labelled), frames=3, warmup=0),
        CompareOptions(source=str(labelled / "images"), frames=3, warmup=0),
        CompareOptions(data=str(labelled), frames=9, warmup=0),
    ):
        report = compare_engines(FakeEngine(SPEC, answer=by_blue), FakeEngine(SPEC), options)
        names.append(" ".join(sorted(found.name for found in report.worst)))
    assert names == ["0.png 1.png 3.png", "0.png 1.png 2.png", "0.png 1.png 2.png 3.png 4.png"]


def test_a_source_has_no_labels_and_one_without_an_end_gets_one(labelled: Path) -> None:
    report = compare_engines(
        FakeEngine(SPEC), FakeEngine(SPEC), CompareOptions(source=str(labelled / "images"), warmup=0)
    )
    assert report.pair.first is None and "miou_difference" not in report.to_dict() and "mIoU" not in report.verdict
    assert report.split is None and report.agreement.images == 5
    totals: set[int] = set()
    report = compare_engines(
        FakeEngine(SPEC), FakeEngine(SPEC), CompareOptions(source="sim://street?live=1&fps=1000&w=160&h=120", warmup=0),
        lambda done, total: totals.add(total),
    )  # fmt: skip
    assert report.agreement.images == 100 and totals == {100}
    assert report.ratio.p10 is not None and report.ratio.p90 is not None


def test_without_data_it_is_a_street() -> None:
    report = compare_engines(FakeEngine(SPEC), FakeEngine(SPEC), CompareOptions(frames=2, warmup=0))
    assert report.frames.startswith("sim://street") and report.agreement.images == 2


@pytest.mark.parametrize(
    ("a", "b", "speed"),
    [
        (0.39, 0.1, "B is 3.90x as fast as A"),
        (0.1, 0.102, "B is as fast as A (0.98x)"),
        (0.1, 0.2, "B takes 2.00x as long as A"),
    ],
)
def test_the_verdict_says_which_is_faster(a: float, b: float, speed: str, labelled: Path) -> None:
    options = CompareOptions(data=str(labelled), frames=1, warmup=0)
    assert compare_engines(Stamped("A", [a], []), Stamped("B", [b], []), options).verdict.startswith(f"{speed}; ")


def test_a_ratio_is_of_pairs_and_its_percentiles_need_ten_beyond() -> None:
    assert Ratio.of([1, 9], [1, 3]) == Ratio(2, 1, None, None, 2, None, None, 3)
    few, more, many = (Ratio.of(range(1, count + 1), [1] * count) for count in (39, 40, 100))
    assert few.p25 is None and few.p75 is None
    assert more.p25 == 10.75 and more.p75 == 30.25 and more.p10 is None and more.p90 is None
    assert many.p10 == pytest.approx(10.9) and many.p90 == pytest.approx(90.1)
    assert many.to_dict()["median"] == 50.5


@pytest.mark.parametrize("fit", ["letterbox", "crop"])
def test_engines_of_other_sizes_and_fits_meet_at_the_frames_size(fit: Fit, colour_engine: Path, tmp_path: Path) -> None:
    model = tmp_path / "other.onnx"
    save_colour_model(model, fit, (48, 48))
    other = build_engine(model, tmp_path / "other.engine", BuildOptions("fp32")).path
    ids = np.full((96, 128), 8, np.uint8)
    ids[48:] = 3
    cv2.imwrite(str(tmp_path / "scene.png"), PALETTE_BGR[ids])
    report = rtpsp.compare_engines(
        colour_engine, other, CompareOptions(source=str(tmp_path / "scene.png"), warmup=0, threads=1)
    )
    assert report.a.engine["width"] == 64 and report.b.engine["fit"] == fit and report.b.engine["ran"] == "f32"
    if fit == "crop":
        assert report.agreement.overall == 75, "an eighth on either side is not seen"
        assert (report.worst[0].second[:, :16] == no_class(11)).all() and (report.worst[0].first == ids).all()
        assert report.agreement.per_class[8] == report.agreement.per_class[3] == 75
    else:
        assert report.agreement.overall == 100


def test_the_same_file_twice(colour_engine: Path, labelled: Path) -> None:
    report = compare_engines(colour_engine, colour_engine, CompareOptions(data=str(labelled), warmup=0, threads=1))
    assert report.agreement.overall == 100 and report.pair.miou_difference == 0 and report.threads == 1
    assert report.a.engine == report.b.engine and report.a.engine["file"] == colour_engine.name


def test_what_cannot_be_compared_is_refused(labelled: Path, tmp_path: Path) -> None:
    cityscapes = FakeEngine(replace(SPEC, labels=CITYSCAPES))
    with pytest.raises(InputError, match=r"A \(fake\) has the 11 classes of 'camvid', B \(fake\) the 19"):
        compare_engines(FakeEngine(SPEC), cityscapes)
    batched = FakeEngine(SPEC)
    batched.batch = 2
    with pytest.raises(UsageError, match="takes batches of 2, compare needs 1"):
        compare_engines(FakeEngine(SPEC), batched)
    with pytest.raises(UsageError, match="expected one of them"):
        CompareOptions(data="a", source="b")
    with pytest.raises(UsageError, match="frames is 0"):
        CompareOptions(frames=0)
    with pytest.raises(SourceError, match="no file"):
        compare_engines(FakeEngine(SPEC), FakeEngine(SPEC), CompareOptions(source=str(tmp_path / "none.mp4")))
    with pytest.raises(DataError, match="the model those of 'four'"):
        four = FakeEngine(replace(SPEC, labels=replace(CAMVID, name="four", names=(*CAMVID.names[:10], "boat"))))
        compare_engines(four, four_again(four), CompareOptions(data="sim://street?frames=1&w=160&h=120", warmup=0))


def four_again(engine: FakeEngine) -> FakeEngine:
    return FakeEngine(engine.spec)


def test_an_engine_that_fails_leaves_nothing_open(labelled: Path) -> None:
    def fails(frames: Image) -> ClassMap:
        raise InputError("no")

    good = FakeEngine(SPEC)
    with pytest.raises(InputError, match="no"):
        compare_engines(good, FakeEngine(SPEC, answer=fails), CompareOptions(data=str(labelled), warmup=0))
    with good:
        pass  # which an engine that is still open refuses
