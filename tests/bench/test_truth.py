from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from rtpsp.arrays import Image
from rtpsp.bench.frames import street_pictures, to_batches
from rtpsp.bench.truth import MODEL, OWN_GRAPH, check_truth, model_of, reference_answers, reference_of
from rtpsp.engine import load_engine
from rtpsp.engine.file import read_engine_file
from rtpsp.errors import BoundNotMet
from rtpsp.spec import ModelSpec


@pytest.fixture(scope="module")
def pictures() -> list[Image]:
    return street_pictures(count=2, size=(120, 160))


def answers_of(engine: Path, pictures: list[Image]) -> tuple[list[Image], list[Image]]:
    with load_engine(engine) as opened:
        batches = to_batches(pictures, opened.spec)
        return batches, [opened.infer(batch).class_map[0] for batch in batches]


def test_an_engine_that_answers_as_its_model(colour_engine: Path, pictures: list[Image]) -> None:
    batches, answers = answers_of(colour_engine, pictures)
    reference = reference_of(colour_engine, batches)
    assert reference is not None and reference.words == MODEL, "the model lies beside it"
    assert check_truth("it", answers, reference.answers, precision="fp32") > 99.9
    own = reference_answers(colour_engine.with_suffix(".onnx"), batches)
    assert all((one == other).all() for one, other in zip(own, reference.answers, strict=True))


def test_an_engine_whose_model_is_not_here(colour_engine: Path, pictures: list[Image], tmp_path: Path) -> None:
    alone = tmp_path / "alone.engine"
    shutil.copy(colour_engine, alone)
    assert model_of(read_engine_file(alone)) is None
    batches, answers = answers_of(alone, pictures)
    reference = reference_of(alone, batches)
    assert reference is not None and reference.words == OWN_GRAPH
    assert check_truth("it", answers, reference.answers, precision="fp32") > 99.9
    (tmp_path / "colours.onnx").write_bytes(b"another model of that name")
    assert model_of(read_engine_file(alone)) is None, "the name is not enough"


def test_the_shipped_model_is_found_wherever_its_engine_lies(tmp_path: Path) -> None:
    from rtpsp import zoo
    from rtpsp.engine.file import write_engine_file
    from rtpsp.header import EngineHeader

    header = EngineHeader(zoo.model_spec(), "openvino", "fp32", zoo.model_digest())
    write_engine_file(tmp_path / "x.engine", header, b"")
    assert model_of(read_engine_file(tmp_path / "x.engine")) == zoo.model_path()


def test_a_plan_without_its_model_cannot_be_asked(tmp_path: Path, pictures: list[Image]) -> None:
    from rtpsp.engine.file import write_engine_file
    from rtpsp.header import EngineHeader
    from rtpsp.labels import CAMVID

    spec = ModelSpec("x", "test", 48, 64, CAMVID)
    write_engine_file(tmp_path / "x.engine", EngineHeader(spec, "tensorrt", "fp16", "0" * 64), b"plan")
    assert reference_of(tmp_path / "x.engine", to_batches(pictures, spec)) is None


@pytest.mark.parametrize(
    ("precision", "trained", "wrong", "good"),
    [
        ("fp32", True, 0.004, True), ("fp32", True, 0.006, False), ("fp16", True, 0.02, True),
        ("fp16", True, 0.04, False), ("int8", True, 0.09, True), ("int8", True, 0.11, False),
        ("int8", False, 0.4, True), ("int8", False, 0.6, False),
    ],
)  # fmt: skip
def test_what_can_be_expected_depends_on_the_precision(precision: str, trained: bool, wrong: float, good: bool) -> None:
    right = np.zeros((100, 100), np.uint8)
    answer = right.copy()
    answer.ravel()[: round(wrong * answer.size)] = 1
    if good:
        found = check_truth("it", [answer, answer], [right, right], precision=precision, trained=trained)
        assert found == pytest.approx(100 * (1 - wrong))
        return
    with pytest.raises(
        BoundNotMet, match=r"it answers like FP32 on .* % of pixels, expected at least .*: it is not"
    ) as told:
        check_truth("it", [answer, answer], [right, right], precision=precision, trained=trained)
    assert told.value.exit_code == 6


def test_a_map_of_another_size_is_a_wrong_answer() -> None:
    with pytest.raises(BoundNotMet, match=r"class map of \[2, 2\], expected \[4, 4\]"):
        check_truth("it", [np.zeros((2, 2), np.uint8)], [np.zeros((4, 4), np.uint8)], precision="fp32")
