"""ONNX Runtime's CUDA provider as far as a machine without a GPU goes: what it is told, and how it fails."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rtpsp.engine import onnxruntime_cuda as cuda
from rtpsp.engine.base import EngineOptions
from rtpsp.engine.compatibility import reason_and_fix
from rtpsp.errors import EngineFileError, MissingError
from rtpsp.header import EngineHeader
from rtpsp.machine import Gpu
from rtpsp.runtimes import import_onnxruntime
from tests.engine.contract import SPEC, brightest_channel, frames

HEADER = EngineHeader(SPEC, "onnxruntime-cuda", "fp16", model_digest="")
GPU = Gpu("NVIDIA L4", "8.9", "580.65.06", 24 << 30, "13.0")


@pytest.fixture
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU provider in the CUDA provider's place."""
    monkeypatch.setattr(cuda, "CUDA", "CPUExecutionProvider")
    monkeypatch.setattr(cuda, "provider_options", dict)


@pytest.fixture
def build_without_cuda_libraries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """An ONNX Runtime that has the provider and goes on without: as the wheel does where a library is missing."""
    real = import_onnxruntime()
    severities: list[int] = []

    def session(payload: bytes, settings: Any = None, **told: Any) -> Any:
        assert told.pop("providers")[0] in ("CUDAExecutionProvider", ("CUDAExecutionProvider", cuda.provider_options()))
        assert told.pop("enable_fallback") == 0, "else it prints, and makes a second session"
        return real.InferenceSession(payload, settings, providers=["CPUExecutionProvider"], **told)

    (tmp_path / "capi").mkdir()
    (tmp_path / "capi" / "libonnxruntime_providers_cuda.so").write_text("no library " * 100)
    double = SimpleNamespace(
        __version__="1.31.1",
        __file__=str(tmp_path / "__init__.py"),
        get_available_providers=lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"],
        InferenceSession=session,
        SessionOptions=real.SessionOptions,
        set_default_logger_severity=severities.append,
        preload_dlls=lambda: print("Failed to load libcublasLt.so.13"),
    )
    monkeypatch.setattr(cuda, "ort", double)
    monkeypatch.setattr("rtpsp.engine.onnxruntime_backend.ort", double)
    cuda._why_no_cuda.cache_clear()
    yield severities
    cuda._why_no_cuda.cache_clear()


def test_a_session_that_went_on_without_the_gpu_is_an_error(
    build_without_cuda_libraries: list[int], capfd: pytest.CaptureFixture[str]
) -> None:
    engine = cuda.ONNXRuntimeCUDAEngine(HEADER, brightest_channel())
    with (
        pytest.raises(MissingError, match=r"1\.31\.1 has no CUDA provider here \(.*invalid ELF header") as caught,
        engine,
    ):
        pass
    assert "pip install --upgrade 'onnxruntime-gpu[cuda,cudnn]'" in str(caught.value)
    assert "--backend onnxruntime" in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(MissingError, match="invalid ELF header") as caught:
        cuda.try_cuda()
    assert str(caught.value).endswith("pip install --upgrade 'onnxruntime-gpu[cuda,cudnn]'")
    assert build_without_cuda_libraries == [4, 2, 4, 2], "quiet while it tries, and loud again"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("driver", "package"),
    [("13.0", "'onnxruntime-gpu[cuda,cudnn]'"), ("12.4", "'onnxruntime-gpu[cuda,cudnn]<1.27'")],
)
def test_an_onnxruntime_without_the_provider(monkeypatch: pytest.MonkeyPatch, driver: str, package: str) -> None:
    """Of two packages with the same files the later one's lie there."""
    monkeypatch.setattr(import_onnxruntime(), "get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(cuda, "gpus", lambda: (replace(GPU, cuda=driver),))
    cuda._why_no_cuda.cache_clear()
    with pytest.raises(MissingError, match="was built without it") as caught:
        cuda.try_cuda()
    commands = f"pip uninstall -y onnxruntime onnxruntime-gpu && pip install {package}"
    assert reason_and_fix(str(caught.value))[1] == commands, "to be pasted as it is"
    with pytest.raises(MissingError, match=r"built without it\): pip .*, or build an engine with --backend o"):
        cuda.ONNXRuntimeCUDAEngine(HEADER, b"").__enter__()
    cuda._why_no_cuda.cache_clear()


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (
            "CUDA failure 35: CUDA driver version is insufficient",
            r"is insufficient\): upgrade NVIDIA's driver, or for CUDA 12 pip install 'onnxruntime-gpu.*<1\.27'",
        ),
        ("CUDA failure 2: out of memory ; GPU=0", "out of memory.*close other programs"),
        ("libcuda.so.1: cannot open shared object file", "libcuda.*install NVIDIA's driver"),
    ],
)
def test_what_the_gpu_says_reaches_the_user(on_the_cpu: None, said: str, says: str, monkeypatch: Any) -> None:
    def refuse(*given: Any, **told: Any) -> None:
        raise RuntimeError(said)

    monkeypatch.setattr(import_onnxruntime(), "InferenceSession", refuse)
    with pytest.raises(MissingError, match=says), cuda.ONNXRuntimeCUDAEngine(HEADER, brightest_channel()):
        pass


def test_a_graph_that_cannot_be_loaded_is_the_files_fault(on_the_cpu: None) -> None:
    with pytest.raises(EngineFileError, match="cannot load this engine"), cuda.ONNXRuntimeCUDAEngine(HEADER, b"no"):
        pass


def test_out_of_memory_shows_before_the_first_frame(on_the_cpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(self: Any, *given: Any) -> None:
        raise RuntimeError("Failed to allocate memory for requested buffer of size 9")

    monkeypatch.setattr(import_onnxruntime().InferenceSession, "run", run)
    engine = cuda.ONNXRuntimeCUDAEngine(HEADER, brightest_channel())
    with pytest.raises(MissingError, match=r"allocate memory.*smaller size or batch"), engine:
        pass


@pytest.mark.parametrize("batch", [1, 2])
def test_it_answers(on_the_cpu: None, batch: int) -> None:
    header = replace(HEADER, options={"batch": batch})
    with cuda.ONNXRuntimeCUDAEngine(header, brightest_channel(batch), EngineOptions(depth=2)) as engine:
        given = frames(3, batch)
        assert np.array_equal(engine.infer(given).class_map, given.argmax(axis=3))


@pytest.mark.parametrize(
    ("precision", "int8", "ran"),
    [
        ("fp32", None, "f32"),
        ("fp16", None, "f16"),
        ("int8", {"scales": "fp16"}, "f16"),
        ("int8", {"scales": "fp32"}, "f32"),
    ],
)
def test_what_it_runs_in(
    on_the_cpu: None, caplog: pytest.LogCaptureFixture, precision: Any, int8: Any, ran: str
) -> None:
    header = replace(HEADER, precision=precision, options={"int8": int8} if int8 else {})
    with cuda.ONNXRuntimeCUDAEngine(header, brightest_channel()) as engine:
        assert engine.ran == ran
    assert ("INT8 graphs in floating point" in caplog.text) == (precision == "int8")


def test_its_memory_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "gpus", lambda: (GPU,))
    options = cuda.provider_options()
    assert int(options["gpu_mem_limit"]) == 12 << 30 and options["arena_extend_strategy"] == "kSameAsRequested"
    assert options["use_tf32"] == "0", "fp32 is fp32"
    monkeypatch.setattr(cuda, "gpus", lambda: ())
    assert "gpu_mem_limit" not in cuda.provider_options()
