"""The timing cache on disk, on the double of TensorRT's module; TensorRT's own needs a GPU."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from rtpsp.engine import tensorrt_builder
from rtpsp.engine.tensorrt_builder import PlanOptions, build_plan
from rtpsp.errors import ModelError
from rtpsp.machine import Gpu
from tests.engine.tensorrt_double import Double

GPU = Gpu("NVIDIA H200 NVL", "9.0", "580.65", 144 << 30, "13.0")
NAME = "tensorrt10.16.1-nvidia-h200-nvl-sm90.timings"


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_builder, "gpus", lambda: (GPU,))


def build(double: Double, folder: Path) -> tuple[str, ...]:
    return build_plan("tensorrt", b"graph", PlanOptions(timing_cache=folder), trt=double.module()).notes


def given(double: Double) -> list[bytes]:
    assert all(call[2] is False for call in double.calls if call[0] == "set_timing_cache"), "of another GPU: never"
    return [call[1] for call in double.calls if call[0] == "set_timing_cache"]


def test_a_second_build_is_given_what_the_first_measured(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "timings"
    first, second = Double(), Double()
    assert build(first, folder) == () and given(first) == [b""]
    assert [path.name for path in folder.iterdir()] == [NAME]
    assert (folder / NAME).read_bytes() == b"measured"
    second.caches, second.measured = [b"measured"], b"measured and more"
    assert build(second, folder) == () and given(second) == [b"measured"]
    assert (folder / NAME).read_bytes() == b"measured and more"


def test_a_cache_that_does_not_fit_is_told_of_and_replaced(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"of another driver")
    double = Double()
    (note,) = build(double, tmp_path)
    assert str(tmp_path / NAME) in note and "written anew" in note
    assert given(double) == [b"of another driver", b""]
    assert (tmp_path / NAME).read_bytes() == b"measured"


def test_it_is_not_written_when_nothing_was_measured(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"measured")
    before = (tmp_path / NAME).stat().st_ino
    double = Double()
    double.caches = [b"measured"]
    build(double, tmp_path)
    assert (tmp_path / NAME).stat().st_ino == before


def test_what_was_measured_outlives_a_build_that_fails(tmp_path: Path) -> None:
    double = Double()
    double.plan = None
    with pytest.raises(ModelError):
        build(double, tmp_path)
    assert (tmp_path / NAME).read_bytes() == b"measured"


def test_what_was_measured_outlives_a_build_that_is_cancelled(tmp_path: Path) -> None:
    double = Double()

    def during() -> None:
        work: Any = threading.current_thread()
        work.cancelled.wait(10)

    def progress(phase: str, share: float) -> None:
        raise KeyboardInterrupt

    double.during = during

    with pytest.raises(KeyboardInterrupt):
        build_plan("tensorrt", b"", PlanOptions(timing_cache=tmp_path), progress, trt=double.module())
    assert double.cancelled and (tmp_path / NAME).read_bytes() == b"measured"


def test_a_folder_that_cannot_be_used_costs_the_cache_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    notes = build(Double(), tmp_path / "file")
    assert len(notes) == 2 and "cannot be read" in notes[0] and "is not kept" in notes[1]


def test_none_is_kept_where_none_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    double = Double()
    build_plan("tensorrt", b"graph", trt=double.module())
    assert given(double) == [] and list(tmp_path.iterdir()) == []
