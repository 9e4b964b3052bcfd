"""INT8 of a small PSPNet from frames and from a cache: the parts in float, the bound, and what a header keeps of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from rtpsp import int8
from rtpsp.build import BuildOptions, to_header
from rtpsp.calibration_cache import CalibrationCache, read_cache, write_cache
from rtpsp.engine import saturation
from rtpsp.errors import DataError, ModelError, UsageError
from rtpsp.graph.groups import groups
from rtpsp.graph.verify import sample_frames
from rtpsp.int8 import Int8Options, Quantised, quantise_model, refuse
from rtpsp.maker import Maker
from rtpsp.onnx_file import load_model
from tests.conftest import save_frames

LEAST = 0.97
"""What the small model keeps with some of its parts in float, and not with none: it is untrained, on noise."""


def maker_of(path: Path) -> Maker:
    model, spec = load_model(path)
    return Maker(model, spec, to_header(spec, BuildOptions()), sample_frames(spec, count=1), "host", threads=1)


@dataclass(frozen=True)
class Done:
    """One calibration, and what it left."""

    data: Path
    calib: Path
    maker: Maker
    found: Quantised
    steps: list[str]

    @property
    def path(self) -> Path:
        (path,) = self.calib.glob("small-*.json")
        return path


INTEGERS = f"u8 data, {7 if saturation.saturates('openvino') else 8}-bit weights"


@pytest.fixture(scope="module")
def done(pspnet_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A labelled folder of twenty frames: sixteen for ranges, two to choose on, two to report on."""
    folder = tmp_path_factory.mktemp("int8")
    save_frames(folder / "data", 20)
    steps = list[str]()
    maker = maker_of(pspnet_model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RTPSP_CALIB", str(folder / "calib"))
        options = Int8Options(str(folder / "data"), min_agreement=LEAST, max_miou_drop=50)
        found = quantise_model(maker, options, "plain", lambda step, at, total: steps.append(step))
    return Done(folder / "data", folder / "calib", maker, found, steps)


@pytest.fixture(autouse=True)
def shelf(done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what the calibration left, for a test of its own."""
    monkeypatch.setenv("RTPSP_CALIB", str(tmp_path / "calib"))
    write_cache(tmp_path / "calib" / done.path.name, read_cache(done.path))
    return tmp_path / "calib"


def quantised(done: Done, options: Int8Options) -> tuple[Quantised, list[str]]:
    steps = list[str]()
    done.maker.ranges = done.maker.integers = None
    return quantise_model(done.maker, options, "plain", lambda step, at, total: steps.append(step)), steps


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"calib": "x", "cache": Path("y")}, "leave --calib or --calib-cache out"),
        ({"min_agreement": 99.0}, "min_agreement is 99.0, expected a share from 0 to 1"),
        ({"min_agreement": float("nan")}, "min_agreement is nan"),
        ({"max_miou_drop": -1.0}, "max_miou_drop is -1.0, expected points of mIoU, 0 or more"),
        ({"max_miou_drop": float("nan")}, "max_miou_drop is nan"),
    ],
)
def test_options_that_contradict_each_other(given: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Int8Options(**given)


def test_frames_give_ranges_parts_and_an_accuracy(done: Done) -> None:
    found = done.found
    steps = list(dict.fromkeys(done.steps))
    expected = ["look at the frames", "calibrate (mse)", "FP32's answers", "sensitivity of each part", "INT8"]
    assert steps[:5] == expected and all(step.startswith("INT8 with ") for step in steps[5:])
    assert [part.group for part in found.parts] == list(groups(done.maker.lowered("plain")))
    left = {part.group for part in found.parts if not part.int8}
    assert left and len(left) < len(found.parts), "the bound is one that needs some of them in float"
    worst = sorted((part for part in found.parts), key=lambda part: -(part.loss or 0))[: len(left)]
    assert {part.group for part in worst} == left
    names = groups(done.maker.lowered("plain"))
    assert found.form.keep == {name for group in left for name in names[group]}
    cost = found.cost
    assert cost is not None and cost.frames == 2 and cost.agreement >= LEAST and cost.miou_drop is not None
    assert found.failed == ""


def test_what_was_measured_is_kept(done: Done) -> None:
    cache, found = read_cache(done.path), done.found
    assert cache.images == 16 and found.cost is not None
    (measured,) = cache.measured.values()
    assert list(cache.measured) == [INTEGERS] and (measured["backend"], measured["head"]) == ("openvino", "plain")
    assert measured["bound"] == found.cost.to_dict() == found.told["cost"]
    assert measured["sensitivity"] == [part.to_dict() for part in found.parts] == found.told["parts"]
    assert measured["tries"] >= 1 and measured["data"] == found.told["on"] == f"{done.data.name} (train)"
    assert found.told["cache"] == done.path.name
    assert found.told["asked"] == "a class agreement of 97.00% or more and a drop of 50.00 mIoU or less"
    ranges, *others, accuracy = found.notes
    assert ranges == f"ranges: mse over 16 frames of {done.data}, kept in {done.path}"
    assert accuracy.startswith(
        f"accuracy against FP32: {found.cost} of {done.data.name} (train), held out of the calibration"
    )
    assert "plain head" in others[-1]
    assert all("\n" not in note for note in found.notes)


def test_another_bound_measures_nothing_anew(done: Done) -> None:
    found, steps = quantised(done, Int8Options(str(done.data), min_agreement=0.5, max_miou_drop=50))
    assert "sensitivity of each part" not in steps and not any(step.startswith("calibrate") for step in steps)
    assert [part.loss for part in found.parts] == pytest.approx([part.loss for part in done.found.parts], abs=1e-6)
    assert all(part.int8 for part in found.parts) and found.form.keep == frozenset()


def test_a_bound_that_cannot_hold(done: Done, shelf: Path) -> None:
    found, _ = quantised(done, Int8Options(str(done.data), min_agreement=1.0))
    assert found.failed.startswith(
        "expected a class agreement of 100.00% or more and a drop of 0.50 mIoU or less, got "
    )
    error = refuse(found, Path("x-below-bound.engine"))
    assert "\n" not in str(error) and "the best engine is kept as x-below-bound.engine: ask for less" in str(error)
    assert error.exit_code == 6
    assert found.cost is not None and f"got {found.cost}" in found.failed


def test_without_labels_agreement_alone_counts(done: Done) -> None:
    found, steps = quantised(done, Int8Options(str(done.data / "images"), min_agreement=LEAST))
    assert found.cost is not None and found.cost.miou_drop is None and found.cost.frames == 4
    assert found.told["asked"] == "a class agreement of 97.00% or more"
    assert not any(step.endswith("other frames") for step in steps)


@pytest.mark.parametrize(
    ("folder", "count", "says"),
    [
        ("images", 300, "images has no labels to measure it with"),
        (".", 7, r"1 labelled frame\(s\) held out to measure it on, expected 2"),
    ],
)
def test_a_drop_that_nothing_can_measure_is_refused_before_hours_of_work(
    done: Done, monkeypatch: pytest.MonkeyPatch, folder: str, count: int, says: str
) -> None:
    monkeypatch.setattr(int8, "calibrate", None)
    with pytest.raises(
        UsageError, match=rf"{says}: give --calib a labelled folder .* or bound .* with --min-agreement"
    ):
        quantised(done, Int8Options(str(done.data / folder), count, max_miou_drop=0.5))


def test_labels_of_other_classes_are_found_before_the_parts_are_measured(done: Done, tmp_path: Path) -> None:
    import cv2
    import numpy as np

    save_frames(tmp_path / "data", 20)
    for path in (tmp_path / "data" / "labels").iterdir():
        cv2.imwrite(str(path), np.full((48, 64), 99, np.uint8))
    steps = list[str]()
    with pytest.raises(DataError, match="label has class ids 99"):
        quantise_model(
            done.maker, Int8Options(str(tmp_path / "data")), "plain", lambda step, at, total: steps.append(step)
        )
    assert "sensitivity of each part" not in steps


def test_a_cache_leaves_the_same_parts_in_float(done: Done, shelf: Path) -> None:
    found, steps = quantised(done, Int8Options(cache=Path(done.path.name)))
    assert steps == [] and found.parts == tuple(
        replace(part, loss=round(part.loss or 0, 6)) for part in done.found.parts
    )
    assert found.form == done.found.form, "without that its accuracy would be that of another engine"
    assert found.cost is not None and done.found.cost is not None
    assert found.cost.to_dict() == done.found.cost.to_dict() == found.told["cost"]
    assert found.told["cache"] == done.path.name and "asked" not in found.told
    assert found.notes[0] == f"ranges: mse over 16 frames, from {shelf / done.path.name}"
    assert found.notes[-1].endswith("when the ranges were measured")


def test_a_bound_without_frames_is_what_was_measured(done: Done) -> None:
    cache = Path(done.path.name)
    found, _ = quantised(done, Int8Options(cache=cache, min_agreement=LEAST))
    assert found.told["asked"] == "a class agreement of 97.00% or more"
    with pytest.raises(
        UsageError, match=r"99\.99% or more is asked for, and the ranges come with .*% class agr.*--calib"
    ):
        quantised(done, Int8Options(cache=cache, min_agreement=0.9999))


def test_ranges_without_an_accuracy_promise_none(done: Done, shelf: Path) -> None:
    bare = replace(read_cache(done.path), measured={}, images=0)
    write_cache(shelf / "bare.json", bare)
    found, _ = quantised(done, Int8Options(cache=shelf / "bare.json"))
    assert (found.parts, found.cost, found.form.keep) == ((), None, frozenset())
    assert "parts" not in found.told and not any("accuracy" in note for note in found.notes)
    assert found.notes[0].startswith("ranges: mse of a TensorRT table, from ")
    with pytest.raises(UsageError, match="the ranges come with no measured accuracy: give frames"):
        quantised(done, Int8Options(cache=shelf / "bare.json", min_agreement=0.5))


def test_a_cpu_of_other_integers(done: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    """What other integers lost is not what these lose; which parts are better left in float is a good guess still."""
    seven = "7-bit" in INTEGERS  # of a CPU whose products saturate
    monkeypatch.setattr(saturation, "why_saturates", lambda backend: None if seven else f"{backend} adds in 16 bits")
    found, _ = quantised(done, Int8Options(cache=Path(done.path.name)))
    assert done.maker.integers is not None and done.maker.integers.weight_bits == (8 if seven else 7)
    assert ("7-bit weights: openvino adds in 16 bits" in found.notes) is not seven
    assert found.cost is None and all(part.loss is None for part in found.parts)
    assert found.form.keep == done.found.form.keep
    with pytest.raises(UsageError, match="no measured accuracy"):
        quantised(done, Int8Options(cache=Path(done.path.name), min_agreement=0.5))
    _, steps = quantised(done, Int8Options(str(done.data), min_agreement=0.5, max_miou_drop=50))
    assert "sensitivity of each part" in steps, "it is measured again"


@pytest.mark.parametrize("rows", [5, "head", [{"group": "head"}], [{"group": "a", "convolutions": 1, "loss": "x"}]])
def test_sensitivities_that_are_none(done: Done, shelf: Path, rows: Any) -> None:
    good = read_cache(done.path)
    entry = {**good.measured[INTEGERS], "sensitivity": rows}
    cache: CalibrationCache = replace(good, measured={INTEGERS: entry})
    write_cache(shelf / "odd.json", cache)
    with pytest.raises(DataError, match=r"cache of small has no sensitivities .*calibrate again with"):
        quantised(done, Int8Options(cache=shelf / "odd.json"))


def test_a_model_without_a_convolution_for_int8(colour_model: Path) -> None:
    with pytest.raises(ModelError, match=r"nothing to do in colours.*--fp32 or --fp16"):
        quantise_model(maker_of(colour_model), Int8Options(), "auto", lambda step, at, total: None)
