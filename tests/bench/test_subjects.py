"""What is measured: engine files, a model in several precisions and backends, networks of random weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rtpsp.bench.frames import to_batches
from rtpsp.bench.lanes import EngineLane
from rtpsp.bench.subjects import SubjectOptions, Subjects, choose_backends, open_subjects
from rtpsp.bench.truth import check_truth
from rtpsp.build import build_engine
from rtpsp.build_options import BuildOptions
from rtpsp.errors import EngineFileError, ModelError, UsageError
from rtpsp.header import Precision
from tests.bench.tiny import SIZE, pictures, tiny_networks

ALL_THREE: tuple[Precision, ...] = ("fp32", "fp16", "int8")


@pytest.fixture(scope="module")
def random() -> Iterator[Subjects]:
    options = SubjectOptions(model="pspnet50", size=SIZE, classes=19, precisions=ALL_THREE, threads=1)
    with tiny_networks(), open_subjects(options) as subjects:
        yield subjects


def test_a_random_network_in_every_precision(random: Subjects) -> None:
    assert [entry.name for entry in random.entries] == ["fp32 openvino", "fp16 openvino", "int8 openvino"]
    assert random.first_fp32 is random.entries[0] and not random.skipped
    for entry in random.entries:
        spec = entry.header.spec
        assert (spec.name, spec.size, len(spec.labels)) == ("pspnet50-random", SIZE, 19)
        assert not entry.trained and entry.file_bytes > 100_000
    assert random.entries[2].header.calibration_digest is not None
    assert random.entries[2].file_bytes < 0.5 * random.entries[0].file_bytes, "INT8's weights are bytes"


def test_each_answers_as_the_model_does(random: Subjects) -> None:
    batches = to_batches(pictures(), random.entries[0].header.spec)
    for entry in random.entries:
        right = random.reference(entry, batches, 1)
        assert right is not None and len(np.unique(right)) > 3
        with EngineLane(entry.name, entry.load(1), batches) as lane:
            answers = [lane.class_map(index) for index in range(len(batches))]
            check_truth(entry.name, answers, right, precision=entry.header.precision, trained=entry.trained)
            if entry.header.precision == "int8":
                assert lane.engine.ran in ("u8", "i8")


def test_what_was_built_is_gone_at_the_end() -> None:
    options = SubjectOptions(model="pspnet18", size=SIZE, precisions=("fp32",), threads=1)
    with tiny_networks(), open_subjects(options) as subjects:
        path = subjects.entries[0].path
        assert path.is_file()
    assert not path.parent.exists()


def test_a_model_file_brings_no_ranges_for_int8(pspnet_model: Path) -> None:
    seen: list[tuple[str, float]] = []
    options = SubjectOptions(model=str(pspnet_model), precisions=("fp32", "int8"), threads=1)
    with open_subjects(options, tell=lambda what, share: seen.append((what, share))) as subjects:
        (entry,) = subjects.entries
        assert entry.name == "fp32 openvino" and entry.trained and subjects.model == pspnet_model
        (skipped,) = subjects.skipped
    assert skipped.name == "int8 openvino" and "--calib" in skipped.reason
    shares = [share for _, share in seen]
    assert shares == sorted(shares) and shares[-1] <= 1 and seen[0][0].startswith("fp32 openvino: ")


def test_where_nothing_can_be_built_the_reason_is_the_error(tmp_path: Path) -> None:
    options = SubjectOptions(model=str(tmp_path / "none.onnx"), precisions=("fp32", "fp16"))
    with pytest.raises(ModelError, match=r"none\.onnx: cannot be read"), open_subjects(options):
        pass


def test_engine_files_are_taken_as_they_are(colour_engine: Path) -> None:
    with open_subjects(SubjectOptions(engines=(str(colour_engine), str(colour_engine)))) as subjects:
        first, second = subjects.entries
        assert (first.name, second.name) == ("colours.engine", "colours.engine (2)")
        assert first.path == colour_engine and subjects.model is None
        batches = to_batches(pictures()[:1], first.header.spec)
        assert subjects.reference(first, batches, 1) is not None, "its model lies beside it"
    assert colour_engine.exists()
    with pytest.raises(EngineFileError), open_subjects(SubjectOptions(engines=("nowhere.engine",))):
        pass


def test_the_shipped_models_engine_that_is_there_is_not_built_again(
    colour_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rtpsp.build_options import engine_name, to_header
    from rtpsp.files import sha256_of
    from rtpsp.onnx_file import load_model

    spec = load_model(colour_model)[1]
    monkeypatch.setattr("rtpsp.zoo.model_path", lambda: colour_model)
    monkeypatch.setattr("rtpsp.zoo.model_digest", lambda: sha256_of(colour_model))
    monkeypatch.setattr("rtpsp.zoo.model_spec", lambda: spec)
    monkeypatch.setenv("RTPSP_ENGINES", str(tmp_path))
    build = BuildOptions("fp32", "openvino")
    there = build_engine(colour_model, tmp_path / engine_name(to_header(spec, build)), build).path
    written = there.stat().st_mtime_ns
    with open_subjects(SubjectOptions(precisions=("fp32", "fp16"), backends=("openvino",))) as subjects:
        fp32, fp16 = subjects.entries
        assert fp32.path == there and fp16.path.parent != tmp_path
    assert there.stat().st_mtime_ns == written


def test_a_person_may_stop_it() -> None:
    answers = iter([False, True])
    options = SubjectOptions(model="pspnet18", size=SIZE, precisions=("fp32", "fp16"), threads=1)
    with tiny_networks(), open_subjects(options, stopped=lambda: next(answers)) as subjects:
        assert [entry.name for entry in subjects.entries] == ["fp32 openvino"]
        assert subjects.skipped[0].to_dict() == {"name": "fp16 openvino", "reason": "stopped before it was built"}


def test_all_backends_are_those_that_run_here(monkeypatch: pytest.MonkeyPatch) -> None:
    why = {"tensorrt": "no GPU", "onnxruntime-cuda": "not installed", "tensorrt-rtx": "no GPU"}
    monkeypatch.setattr("rtpsp.bench.subjects.why_not_here", why.get)
    names, skipped = choose_backends(("all",))
    assert names == ["openvino", "onnxruntime"]
    assert {one.name: one.reason for one in skipped} == why
    assert choose_backends(("onnxruntime", "openvino", "onnxruntime")) == (["onnxruntime", "openvino"], [])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"engines": ("a.engine",), "model": "pspnet18"}, "got the engine a.engine and --model, expected one of them"),
        ({"engines": ("a.engine",), "precisions": ("fp16",)}, "and --precisions, expected one"),
        ({"precisions": ("int4",)}, "no precision 'int4': use one of fp32"),
        ({"backends": ("cuda",)}, "no backend 'cuda': use one of openvino"),
        ({"size": (64, 96)}, "a size and the shipped model, whose size is in its file"),
        ({"size": (64, 96), "model": "own.onnx"}, "a size and own.onnx"),
    ],
)
def test_options_that_contradict_each_other(given: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SubjectOptions(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model": "pspnet51"}, "no architecture 'pspnet51': use one of pspnet18"),
        ({"model": "pspnet18", "size": (8, 96)}, "size is 8x96, expected 64x64 or more"),
        ({"model": "pspnet18", "output_stride": 32}, "output stride is 32, expected 8 or 16"),
        ({"model": "pspnet18", "classes": 0}, "at least 1 class"),
    ],
)
def test_networks_that_there_are_not(given: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message), open_subjects(SubjectOptions(**given)):  # type: ignore[arg-type]
        pass
