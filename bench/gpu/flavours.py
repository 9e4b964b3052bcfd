"""Does a flavour of TensorRT take this GPU? A tiny network for each target, built, loaded, run and compared."""

from __future__ import annotations

import time
from typing import Any, cast

import numpy as np

from gpu.part import Job
from gpu.table import DOUBLE

TARGETS: dict[str, tuple[str, ...]] = {"default": (), "sm80": ("8.0",), "sm89": ("8.9",), "sm120": ("12.0",)}
"""Of TensorRT-RTX: what it builds for when nothing is asked for, and single compute capabilities."""
SIZE, CHANNELS = (48, 64), 16


def tiny() -> tuple[bytes, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """A 3x3 convolution of frames with a ReLU as ONNX, a frame for it, and the answer in float64."""
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(4)
    weights = random.normal(0, 0.01, (CHANNELS, 3, 3, 3)).astype(np.float32)
    frame = random.integers(0, 256, (1, *SIZE, 3), np.uint8)
    nodes = [
        helper.make_node("Cast", ["frames"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["image"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["image", "weights"], ["sums"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["sums"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, frame.shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, (1, CHANNELS, *SIZE))],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    padded = np.pad(frame[0].astype(np.float64), ((1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(0, 1))  # [H, W, 3, 3, 3]
    answer = np.maximum(np.einsum("yxcij,mcij->myx", windows, weights.astype(np.float64)), 0)[None]
    return model.SerializeToString(), frame, answer


def accepts(job: Job) -> dict[str, Any]:
    """Builds for every target, and on a GPU asks the flavour about each, loads it and runs it.

    Returns:
        ``targets``, with the exact messages where one failed; ``runs_on``, the targets that gave the right answer;
        ``refused``, why there is none.
    """
    from rtpsp.engine.tensorrt_api import FLAVOURS, load

    (name,) = job.arguments
    trt = load(name)
    job.keep(version=trt.__version__, module=getattr(trt, "__name__", ""))
    found = job.results.get("facts", {}).get("data", {}).get("device")
    on_gpu = bool(found) and found["name"] != DOUBLE
    targets = TARGETS if FLAVOURS[name].rtx else {"default": ()}
    told: dict[str, Any] = {}
    for target, capabilities in targets.items():
        if not on_gpu and not FLAVOURS[name].rtx:
            told[target] = {"error": "TensorRT builds on a GPU alone"}
            continue
        told[target] = _one(job, name, trt, capabilities, on_gpu)
        job.keep(targets=told)
    runs_on = [target for target, found in told.items() if found.get("runs")]
    errors = list(dict.fromkeys(found["error"] for found in told.values() if "error" in found))
    refused = "" if runs_on else "; ".join(errors) if on_gpu else "there is no GPU"
    return {"targets": told, "runs_on": runs_on, "refused": refused}


def _one(job: Job, name: str, trt: Any, capabilities: tuple[str, ...], on_gpu: bool) -> dict[str, Any]:
    from rtpsp.engine.tensorrt_builder import PlanOptions, build_plan
    from rtpsp.errors import RtpspError

    model, frame, answer = tiny()
    told: dict[str, Any] = {}
    begin = time.monotonic()
    try:
        plan = build_plan(name, model, PlanOptions(targets=capabilities))
    except RtpspError as error:
        return {"error": str(error)}
    told |= {"build_seconds": round(time.monotonic() - begin, 3), "plan_bytes": len(plan.data), "notes": plan.notes}
    told["built_for"] = plan.target.compute_capabilities
    if on_gpu:
        try:
            told |= _run(trt, plan.data, frame, answer)
        except RtpspError as error:
            told["error"] = str(error)
    return told


def _run(trt: Any, plan: bytes, frame: np.ndarray[Any, Any], answer: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Loads a plan and runs it once, by TensorRT's own calls; its log where it refuses."""
    from rtpsp.engine.cuda import open_device
    from rtpsp.engine.tensorrt_api import make_log

    told: dict[str, Any] = {}
    with open_device() as device:
        log = make_log(trt)
        runtime = trt.Runtime(log)
        if hasattr(runtime, "get_engine_validity"):
            validity, diagnostics = cast(Any, runtime).get_engine_validity(plan)
            told["validity"], told["diagnostics"] = validity.name, int(diagnostics)
        begin = time.monotonic()
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            return {**told, "error": "; ".join(log.take()) or "not deserialised, without a message"}
        context = engine.create_execution_context()
        if context is None:
            return {**told, "error": "; ".join(log.take()) or "no execution context, without a message"}
        told["load_seconds"] = round(time.monotonic() - begin, 3)
        stream = device.stream()
        there, back = device.allocate(frame.nbytes), device.allocate(answer.size * 4)
        got = np.full(answer.shape, np.nan, np.float32)
        device.upload(there, frame, stream)
        device.upload(back, got, stream)
        addressed = context.set_tensor_address("frames", there.pointer)
        addressed = context.set_tensor_address("scores", back.pointer) and addressed
        begin = time.monotonic()
        if not addressed or not context.execute_async_v3(stream.handle):
            return {**told, "error": "; ".join(log.take()) or "not enqueued, without a message"}
        device.download(got, back, stream)
        stream.synchronize()
        told["first_run_seconds"] = round(time.monotonic() - begin, 3)
        del context, engine, runtime
        told["error_relative"] = float(np.abs(got - answer).max() / answer.max())
        told["runs"] = bool(told["error_relative"] < 1e-2)  # TF32 is allowed: what is asked is whether it runs
        if not told["runs"]:
            told["error"] = f"it runs, and is wrong by {told['error_relative']:.3g} of the largest score"
        told["log"] = log.take()
    return told
