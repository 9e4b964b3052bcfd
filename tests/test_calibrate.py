"""Ranges of a small PSPNet: measured once and kept, or taken from a cache that holds for it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx_ir as ir
import pytest

from rtpsp import zoo
from rtpsp.calibrate import DEFAULT_METHOD, cached, calibrate, fitted
from rtpsp.calibration_cache import CalibrationCache, TensorRange, read_cache, to_fit, write_cache
from rtpsp.calibration_set import CalibrationSet, open_calibration
from rtpsp.errors import DataError, ModelError, OutputError, UsageError
from rtpsp.graph.lower import lower
from rtpsp.graph.quantize import quantise
from rtpsp.graph.ranges import canonical, graph_digest, tensors_of
from rtpsp.graph.resized import resized
from rtpsp.onnx_file import load_model
from rtpsp.spec import ModelSpec
from tests.conftest import save_frames

Model = tuple[ir.Model, ModelSpec]


@pytest.fixture(scope="module")
def model(pspnet_model: Path) -> Model:
    return load_model(pspnet_model)


@pytest.fixture
def frames(tmp_path: Path) -> CalibrationSet:
    save_frames(tmp_path / "data", 4)
    return open_calibration(str(tmp_path / "data" / "images"), folder=tmp_path / "manifests")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was really measured: grows by a line with each run over frames."""
    from rtpsp.graph import ranges

    log, right = list[str](), ranges.collect

    def collect(*args: object) -> object:
        log.append("measured")
        return right(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(ranges, "collect", collect)
    return log


def cache_of(model: Model, **changes: object) -> CalibrationCache:
    """A cache that holds for a model, without measuring."""
    ranges = {name: TensorRange(-1, 1, 1) for name in tensors_of(canonical(model[0]))}
    cache = CalibrationCache("small", graph_digest(model[0]), "cd" * 32, 9, "mse", to_fit(model[1]), ranges)
    return replace(cache, **changes)  # type: ignore[arg-type]


def test_ranges_are_measured_once(model: Model, frames: CalibrationSet, tmp_path: Path, measured: list[str]) -> None:
    told: list[tuple[str, int, int]] = []
    first, path = calibrate(
        *model, frames, folder=tmp_path / "calib", threads=1, progress=lambda *step: told.append(step)
    )
    assert told == [(f"calibrate ({DEFAULT_METHOD})", done, 4) for done in range(5)]
    assert set(first.ranges) == set(tensors_of(canonical(model[0]))) and first.images == 4
    assert (first.frames, first.graph, first.fit) == (frames.digest, graph_digest(model[0]), "stretch/area 48x64")
    assert read_cache(path) == first and path.parent == tmp_path / "calib"
    assert calibrate(*model, frames, folder=tmp_path / "calib") == (first, path) and measured == ["measured"]
    other, beside = calibrate(*model, frames[:2], folder=tmp_path / "calib", threads=1)
    assert beside != path and other.images == 2, "another set has a file of its own"
    wide, third = calibrate(*model, frames, "minmax", folder=tmp_path / "calib", threads=1)
    assert third not in (path, beside) and len(measured) == 3, "so has another method"
    assert all(first.ranges[name].amax <= found.amax for name, found in wide.ranges.items())


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda text: text[:300], "measured again, since .*not JSON"),
        (lambda text: text.replace('"fit": "stretch', '"fit": "crop'), "measured again, since .*its fit is crop/area"),
        (lambda text: text.replace('"backbone/maxpool"', '"another"'), ""),
    ],
)
def test_a_cache_that_does_not_hold_any_more_is_made_again(
    model: Model, frames: CalibrationSet, tmp_path: Path, measured: list[str], caplog: pytest.LogCaptureFixture,
    damage: Callable[[str], str], says: str,
) -> None:  # fmt: skip
    first, path = calibrate(*model, frames[:2], folder=tmp_path, threads=1)
    text = path.read_text()
    assert damage(text) != text
    path.write_text(damage(text))
    assert calibrate(*model, frames[:2], folder=tmp_path, threads=1) == (first, path)
    assert len(measured) == 2 and path.read_text() == text
    warnings = [record.getMessage() for record in caplog.records if "measured again" in record.getMessage()]
    assert len(warnings) == bool(says) and all(re.search(says, line) and "\n" not in line for line in warnings)


def test_to_stop_it_leaves_nothing_half_made(model: Model, frames: CalibrationSet, tmp_path: Path) -> None:
    def interrupt(step: str, done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate(*model, frames, folder=tmp_path / "calib", threads=1, progress=interrupt)
    assert not (tmp_path / "calib").exists()


def test_frames_of_any_size_become_the_models_own(model: Model, tmp_path: Path) -> None:
    for name, size in (("a", (48, 64)), ("b", (97, 31)), ("c", (48, 64))):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((*size, 3), 77, np.uint8))
    frames = open_calibration(str(tmp_path), folder=tmp_path / "calib")
    given = list(fitted(frames, model[1]))
    assert [image.shape for image in given] == [(1, 48, 64, 3)] * 3
    assert all(image.dtype == np.uint8 and (image == 77).all() for image in given)


def test_a_frame_that_changed_is_no_frame_of_the_set(model: Model, frames: CalibrationSet, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "data" / "images" / "02.png"), np.zeros((48, 64, 3), np.uint8))
    with pytest.raises(DataError, match=r"02\.png is not what it was"):
        calibrate(*model, frames, folder=tmp_path / "calib", threads=1)
    assert not (tmp_path / "calib").exists()


def test_a_model_that_is_quantised_already(model: Model, frames: CalibrationSet, tmp_path: Path) -> None:
    given = quantise(canonical(model[0]), cache_of(model).ranges)
    for refused in (
        lambda: calibrate(given, model[1], frames, folder=tmp_path),
        lambda: cached(given, model[1], None),
        lambda: lower(given, model[1]),
    ):
        with pytest.raises(ModelError, match=r"quantised already \(\d+ Q/DQ nodes, .* first\): give the FP32 model"):
            refused()


def test_a_folder_that_cannot_be_written(model: Model, frames: CalibrationSet, tmp_path: Path) -> None:
    (tmp_path / "calib").write_text("in the way")
    with pytest.raises(OutputError, match="name another file for the cache"):
        calibrate(*model, frames[:2], folder=tmp_path / "calib", threads=1)


def test_a_cache_serves_without_frames(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, path = cache_of(model), tmp_path / "shelf" / "c.json"
    write_cache(path, cache)
    assert cached(*model, path) == (cache, path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RTPSP_CALIB", str(path.parent))
    assert cached(*model, Path("c.json")) == (cache, path), "a bare name may lie in the folder of caches"
    write_cache(tmp_path / "c.json", replace(cache, images=3))
    assert cached(*model, Path("c.json"))[0].images == 3, "here comes first"
    with pytest.raises(DataError, match=r"^other/c\.json: cannot be read"):
        cached(*model, Path("other/c.json"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"graph": "ab" * 32}, r"its network is abababab\.\.\., expected"),
        ({"fit": "letterbox/area 48x64"}, "its fit is letterbox/area 48x64, expected stretch/area 48x64"),
        ({"fit": "stretch/area 360x480"}, "its fit is stretch/area 360x480"),
    ],
)
def test_a_cache_of_something_else(model: Model, tmp_path: Path, changes: dict[str, str], says: str) -> None:
    path = tmp_path / "c.json"
    write_cache(path, cache_of(model, **changes))
    with pytest.raises(DataError, match=rf"c\.json: calibration cache of small does not hold here: {says}.*calibrate"):
        cached(*model, path)


def test_ranges_that_come_with_a_model(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"inside small get, .*--calib, or a cache with --calib-cache"):
        cached(*model)
    path = tmp_path / "small.ranges.json"
    monkeypatch.setattr(zoo, "NAMES", ("small",))
    monkeypatch.setattr(zoo, "cache_path", lambda name=zoo.DEFAULT: path)
    cache = cache_of(model)
    write_cache(path, cache)
    assert cached(*model) == (cache, path)
    write_cache(path, replace(cache, graph="ab" * 32))
    with pytest.raises(UsageError, match="no ranges come with it"):  # another network of that name, not a stale cache
        cached(*model)


def test_ranges_that_come_with_a_model_serve_it_at_another_size(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "small.ranges.json"
    monkeypatch.setattr(zoo, "NAMES", ("small",))
    monkeypatch.setattr(zoo, "cache_path", lambda name=zoo.DEFAULT: path)
    parts = [{"group": "stem"}]
    cache = replace(cache_of(model), measured={"u8": {"sensitivity": parts, "bound": {"agreement": 0.99}, "data": "x"}})
    write_cache(path, cache)
    smaller = resized(*model, (24, 32))
    found, told = cached(*smaller)
    assert (told, found.ranges, found.frames) == (path, cache.ranges, cache.frames)
    assert (found.graph, found.fit) == (graph_digest(smaller[0]), "stretch/area 24x32")
    assert found.measured == {"u8": {"sensitivity": parts}}, "what stays in float, not the accuracy of the other size"
    weights = next(value for name, value in smaller[0].graph.initializers.items() if name.startswith("head.classifier"))
    assert weights.const_value is not None
    weights.const_value = ir.tensor(weights.const_value.numpy() + np.float32(1), name=weights.name)
    with pytest.raises(UsageError, match="no ranges come with it"):  # other weights, whatever the size
        cached(*smaller)
