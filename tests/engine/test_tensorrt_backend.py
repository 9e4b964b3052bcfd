"""What of the TensorRT engines needs no GPU; `tests/double/test_runtime.py` runs the rest on a driver's double."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from rtpsp.engine import tensorrt_api
from rtpsp.engine.base import EngineOptions
from rtpsp.engine.cuda import CudaDevice
from rtpsp.engine.tensorrt_api import RuntimeModule, flavour_of
from rtpsp.engine.tensorrt_backend import TensorRTEngine, TensorRTRTXEngine, read_layers
from rtpsp.engine.tensorrt_layers import Layer, convolutions_ran, parse_layers
from rtpsp.engine.tensorrt_plan import KernelCache, LoadedPlan
from rtpsp.errors import EngineFileError, MissingError, UsageError
from tests.engine.contract import header_of

TENSOR = {"Name": "x", "Location": "Device", "Dimensions": [1, 64, 90, 120]}
TEN = {
    "Layers": [
        {
            "Name": "Reformatting CopyNode for Input Tensor 0 to conv1",
            "LayerType": "Reformat",
            "Inputs": [{**TENSOR, "Format/Datatype": "Row major linear FP32"}],
            "Outputs": [{**TENSOR, "Format/Datatype": "Channel major FP16 format where channel % 8 == 0"}],
            "TacticName": "",
        },
        {
            "Name": "layer1.0.conv1 + layer1.0.relu",
            "LayerType": "CaskConvolution",
            "Inputs": [{**TENSOR, "Format/Datatype": "Half"}],
            "Outputs": [{**TENSOR, "Format/Datatype": "Half"}],
            "Weights": {"Type": "Half", "Count": 36864},
            "TacticName": "sm80_xmma_fprop_implicit_gemm_f16f16_f16f16_f16_nhwckrsc_nhwc",
        },
        {
            "Name": "layer1.0.conv2",
            "LayerType": "CaskConvolution",
            "Inputs": [
                {**TENSOR, "Format/Datatype": "Int8"},
                {**TENSOR, "Format/Datatype": "Half"},
            ],
            "Outputs": [{**TENSOR, "Format/Datatype": "Int8"}],
            "Weights": {"Type": "Int8", "Count": 36864},
            "TacticName": "sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32",
        },
        {
            "Name": "layer1.1.conv1",
            "LayerType": "CaskConvolution",
            "Inputs": [{**TENSOR, "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}],
            "Outputs": [{**TENSOR, "Format/Datatype": "Int8"}],
            "Weights": {"Type": "Int8", "Count": 36864},
            "TacticName": "sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32",
        },
    ],
    "Bindings": ["frames", "class_map"],
}
"""As TensorRT 10 writes it, with an execution context and without one."""


def eleven(ten: dict[str, Any]) -> dict[str, Any]:
    """The same as TensorRT 11 writes it."""

    def tensor(old: dict[str, Any]) -> dict[str, Any]:
        text = old["Format/Datatype"]
        kind = next(name for word, name in (("FP16", "Half"), ("FP32", "Float"), ("Int8", "Int8"), ("Half", "Half"))
                    if word in text)  # fmt: skip
        return {**TENSOR, "Format": "N/A due to dynamic shapes", "DataType": kind}

    layers = [
        {**layer, **{side: [tensor(one) for one in layer[side]] for side in ("Inputs", "Outputs")}}
        for layer in ten["Layers"]
    ]
    names = [{"Name": name, "IOMode": "Input", "DataType": "UInt8"} for name in ten["Bindings"]]
    return {"Layers": layers, "I/O Tensors": names}


@pytest.mark.parametrize("information", [TEN, eleven(TEN)], ids=["TensorRT 10", "TensorRT 11"])
def test_layers_of_both_forms(information: dict[str, Any]) -> None:
    layers = parse_layers(json.dumps(information))
    assert [layer.inputs for layer in layers] == [("f32",), ("f16",), ("i8", "f16"), ("i8",)]
    assert [layer.outputs for layer in layers] == [("f16",), ("f16",), ("i8",), ("i8",)]
    assert [layer.weights for layer in layers] == ["", "f16", "i8", "i8"]
    assert [layer.convolves for layer in layers] == [False, True, True, True]
    assert layers[1].name == "layer1.0.conv1 + layer1.0.relu" and layers[1].shapes == ((1, 64, 90, 120),)
    assert layers[2].tactic.startswith("sm80_xmma_fprop")
    assert convolutions_ran(layers) == "i8"


def test_layers_of_a_plan_without_details() -> None:
    layers = parse_layers(json.dumps({"Layers": ["conv1 + relu", "head"], "Bindings": ["frames"]}))
    assert layers == [Layer("conv1 + relu"), Layer("head")]
    assert convolutions_ran(layers) == ""


@pytest.mark.parametrize("information", ["", "not JSON", "[]", '{"Layers": 3}', '{"Layers": [3]}', "{}"])
def test_what_is_no_report_has_no_layers(information: str) -> None:
    assert parse_layers(information) == []


@pytest.mark.parametrize(
    ("tactics", "ran"),
    [
        (["sm80_xmma_fprop_implicit_gemm_tf32f32_tf32f32_f32"] * 2 + ["ampere_scudnn_128x64_relu"], "tf32"),
        (["ampere_scudnn_128x64_relu"] * 2 + ["sm80_xmma_fprop_implicit_gemm_tf32f32_tf32f32_f32"], "f32"),
    ],
)
def test_tf32_is_told_by_the_kernels(tactics: list[str], ran: str) -> None:
    convolution = {"LayerType": "CaskConvolution", "Inputs": [{**TENSOR, "DataType": "Float"}], "Outputs": []}
    information = {"Layers": [{"Name": tactic, "TacticName": tactic, **convolution} for tactic in tactics]}
    assert convolutions_ran(parse_layers(json.dumps(information))) == ran


def test_kernels_are_kept_for_a_plan_and_a_gpu(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "runtime-cache"
    cache = KernelCache(folder, b"plan", "GPU")
    assert cache.read() is None
    cache.write(b"")
    assert not folder.exists(), "nothing new is not written"
    cache.write(b"kernels")
    assert KernelCache(folder, b"plan", "GPU").read() == b"kernels"
    assert KernelCache(folder, b"plan", "another").read() is None
    assert KernelCache(folder, b"another", "GPU").read() is None
    cache.path.unlink()
    cache.path.mkdir()
    assert cache.read() is None
    cache.write(b"kernels")
    assert "compiled again" in caplog.text and len(caplog.records) == 2


@pytest.fixture(scope="module")
def rtx() -> RuntimeModule:
    try:
        return tensorrt_api.load("tensorrt-rtx")
    except MissingError as error:
        pytest.skip(str(error))


@contextmanager
def no_device() -> Iterator[CudaDevice]:
    yield cast(CudaDevice, None)  # a plan that does not load asks nothing of it


def test_a_damaged_plan_is_one_line(rtx: RuntimeModule) -> None:
    engine = TensorRTRTXEngine(header_of("tensorrt-rtx"), b"not a plan" * 50, trt=rtx, device=no_device)
    with pytest.raises(EngineFileError) as caught, engine:
        pass
    message = str(caught.value)
    assert message.startswith("TensorRT-RTX 1.") and "\n" not in message
    assert message.endswith("build it again on this machine with 'rtpsp build-engine'")
    assert "it gives no reason" not in message, "TensorRT's own words are quoted"
    with pytest.raises(UsageError, match="not open"):
        engine.frame_buffer()


def test_tensorrt_s_objects_are_gone_when_a_plan_does_not_load(rtx: RuntimeModule) -> None:
    plan = LoadedPlan(rtx, flavour_of("tensorrt-rtx"))
    with pytest.raises(EngineFileError):
        plan.load(b"")
    assert plan._runtime is not None
    plan.close()
    assert plan._runtime is None


def test_no_gpu_is_one_line_and_the_engine_stays_closed() -> None:
    def refused() -> Any:
        raise MissingError("no GPU here")

    engine = TensorRTEngine(header_of("tensorrt"), b"", trt=cast(RuntimeModule, object()), device=refused)
    with pytest.raises(MissingError, match="no GPU here"), engine:
        pass
    with pytest.raises(UsageError, match="not open"):
        engine.kernel_times(3)


def test_layers_are_asked_of_tensorrt_engines_alone() -> None:
    with pytest.raises(UsageError, match="flavour 'openvino'"):
        read_layers(header_of("openvino"), b"")


@pytest.mark.parametrize(
    ("tail", "confidence", "batch", "reason"),
    [
        ("graph", False, 1, "build it with 'rtpsp build-engine --tail host'"),
        ("host", True, 1, "build it without --confidence"),
        ("host", False, 2, "build it without --batch"),
    ],
)
def test_device_io_says_why_not(
    tail: str, confidence: bool, batch: int, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    def refused() -> Any:
        raise MissingError("opened")

    header = header_of("tensorrt", tail, confidence=confidence, batch=batch)
    trt = cast(RuntimeModule, object())
    asked = TensorRTEngine(header, b"", EngineOptions(device_io="on"), trt=trt, device=refused)
    with pytest.raises(UsageError, match=reason), asked:
        pass
    with (
        caplog.at_level(logging.INFO),
        pytest.raises(MissingError, match="opened"),
        TensorRTEngine(header, b"", trt=trt, device=refused),
    ):
        pass
    assert reason in caplog.text
