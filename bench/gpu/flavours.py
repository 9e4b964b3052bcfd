"""Does a flavour of TensorRT take this GPU? A tiny network for one target, built, loaded, run and compared."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any, cast

import numpy as np

from gpu.part import Job
from gpu.table import DOUBLE, TARGETS

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
    """Builds for one target, and on a GPU asks the flavour about it, loads it and runs it.

    Returns:
        ``runs``, whether it gave the right answer, and what led there; ``refused`` with the exact message where
        something on the way failed.
    """
    from rtpsp.engine.tensorrt_api import FLAVOURS, load
    from rtpsp.engine.tensorrt_builder import PlanOptions, build_plan

    name, target = job.arguments
    trt = load(name)
    device = job.results.get("facts", {}).get("data", {}).get("device")
    on_gpu = bool(device) and device["name"] != DOUBLE
    job.keep(version=trt.__version__, module=getattr(trt, "__name__", ""), runs=False, refused="there is no GPU")
    if not on_gpu and not FLAVOURS[name].rtx:
        return {"refused": "there is no GPU to build on"}
    model, frame, answer = tiny()
    begin = time.monotonic()
    try:
        plan = build_plan(name, model, PlanOptions(targets=TARGETS[name][target]))
        job.keep(build_seconds=round(time.monotonic() - begin, 3), plan_bytes=len(plan.data), notes=plan.notes)
        job.keep(built_for=plan.target.compute_capabilities)
        if on_gpu:
            job.keep(refused="it did not come to an end")
            _run(job, trt, name, plan.data, frame, answer)
            job.keep(runs=True, refused="")
    except Exception as error:  # a refusal is an answer, whatever it is called
        job.keep(refused=f"{type(error).__name__}: {error}")
    return {}


def _run(job: Job, trt: Any, name: str, plan: bytes, frame: np.ndarray[Any, Any], answer: np.ndarray[Any, Any]) -> None:
    """Loads a plan and runs it once."""
    from rtpsp.engine.cuda import open_device
    from rtpsp.engine.tensorrt_api import flavour_of
    from rtpsp.engine.tensorrt_plan import LoadedPlan

    with open_device() as device:
        job.keep(**_validity(trt, plan))
        stream = device.stream()
        there, back = device.allocate(frame.nbytes), device.allocate(answer.size * 4)
        got = np.full(answer.shape, np.nan, np.float32)
        device.upload(there, frame, stream)
        device.upload(back, got, stream)
        with closing(LoadedPlan(trt, flavour_of(name))) as loaded:
            begin = time.monotonic()
            loaded.load(plan)
            context = loaded.add_context()
            job.keep(load_seconds=round(time.monotonic() - begin, 3))
            loaded.bind(context, {"frames": there.pointer, "scores": back.pointer})
            begin = time.monotonic()
            loaded.enqueue(context, stream.handle)
            device.download(got, back, stream)
            stream.synchronize()
            job.keep(first_run_seconds=round(time.monotonic() - begin, 3))
    error = float(np.abs(got - answer).max() / answer.max())
    job.keep(error_relative=error)
    if not error < 1e-2:  # nor if it is no number; TF32 is allowed, as what is asked is whether it runs
        raise ArithmeticError(f"it runs, and is wrong by {error:.3g} of the largest score")


def _validity(trt: Any, plan: bytes) -> dict[str, Any]:
    """What TensorRT-RTX's runtime says of a plan before it is loaded."""
    from rtpsp.engine.tensorrt_api import make_log

    runtime = trt.Runtime(log := make_log(trt))
    if not hasattr(runtime, "get_engine_validity"):
        return {}
    validity, diagnostics = cast(Any, runtime).get_engine_validity(plan)
    return {"validity": validity.name, "diagnostics": int(diagnostics), "log": log.take()}
