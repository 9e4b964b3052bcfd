"""Checks of the NVIDIA GPU, its driver, and all that engines run on it with."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any, NamedTuple

from rtpsp.doctor.check import Context
from rtpsp.doctor.finding import Finding
from rtpsp.engine import BACKENDS
from rtpsp.engine.choice import bindings_for
from rtpsp.engine.compatibility import reason_and_fix
from rtpsp.engine.cuda_contexts import BINDINGS, MIN_CUDA
from rtpsp.errors import MissingError
from rtpsp.runtimes import PACKAGES, installed_version, instead

GIB = 1 << 30
NVIDIA_GPU = "NVIDIA GPU"
CHOICE = "GPU engines"
"""The names under which the verdict finds the GPU and the backend that is taken for it."""


class _Runtime(NamedTuple):
    title: str
    use: str


_RUNTIMES = {
    "tensorrt": _Runtime("TensorRT", "NVIDIA's compiler of engines, for every GPU"),
    "tensorrt-rtx": _Runtime("TensorRT for RTX", "the same for GeForce RTX and RTX workstation GPUs"),
    "onnxruntime-cuda": _Runtime("ONNX Runtime CUDA", "runs engines on a GPU without TensorRT"),
}
_PACKAGES = {"TensorRT": "tensorrt", "TensorRT for RTX": "tensorrt-rtx", "ONNX Runtime CUDA": "onnxruntime-gpu",
             "PyCUDA": "pycuda", "CUDA Python": "cuda-bindings", "NVRTC": "nvrtc"}  # fmt: skip


def look(context: Context) -> Iterator[Finding]:
    """NVIDIA GPUs, and the packages that use them: two lines for all where there is no GPU."""
    answer: dict[str, Any] = context.ask("gpus")
    versions = {title: installed_version(package) for title, package in _PACKAGES.items()}
    if not answer["gpus"]:
        yield from _without_gpu(context, str(answer["why_none"]), versions)
        return
    for gpu in answer["gpus"]:
        yield _gpu(gpu)
    gpu = answer["gpus"][0]  # the one that is used
    found = {name: _backend(context, name, versions, gpu) for name in _RUNTIMES}
    yield from found.values()
    bindings = _bindings(context, str(gpu["cuda"]))
    yield bindings
    yield _kernels(context, str(gpu["compute_capability"]))
    yield _choice([name for name, finding in found.items() if finding.state == "ok"], bindings)


def _without_gpu(context: Context, why: str, versions: dict[str, str | None]) -> Iterator[Finding]:
    reason, fix = reason_and_fix(why)
    yield Finding("GPU", NVIDIA_GPU, "missing", reason, fix)
    there = ", ".join(f"{title} {version}" for title, version in versions.items() if version)
    told = f"{there or 'none'}; of use with an NVIDIA GPU only"
    if versions["TensorRT for RTX"]:  # the one of them that has something to do here
        try:
            context.ask("load", _module("tensorrt-rtx"))
        except MissingError as error:
            told = f"{there}; TensorRT for RTX does not load: {error}"
            fix = instead("tensorrt-rtx", BACKENDS["tensorrt-rtx"].install)
            yield Finding("GPU", "NVIDIA packages", "warning", told, fix, versions)
            return
        told = f"{there}; here TensorRT for RTX builds engines for GPUs elsewhere, nothing runs them"
    yield Finding("GPU", "NVIDIA packages", "ok" if there else "missing", told, details=versions)


def _module(package: str) -> str:
    modules = PACKAGES[package].modules
    return next((name for name in modules if importlib.util.find_spec(name)), modules[0])


def _gpu(gpu: dict[str, Any]) -> Finding:
    told = (
        f"{gpu['name']}, {gpu['memory'] / GIB:.1f} GiB, compute capability {gpu['compute_capability']}; "
        f"driver {gpu['driver']}, CUDA up to {gpu['cuda']}"
    )
    if int(str(gpu["cuda"]).split(".")[0]) < MIN_CUDA:
        fix = f"upgrade NVIDIA's driver to one for CUDA {MIN_CUDA} or later"
        return Finding("GPU", NVIDIA_GPU, "warning", f"{told}: too old for TensorRT", fix, gpu)
    return Finding("GPU", NVIDIA_GPU, "ok", told, details=gpu)


def _backend(context: Context, name: str, versions: dict[str, str | None], gpu: dict[str, Any]) -> Finding:
    title, use = _RUNTIMES[name]
    backend, version = BACKENDS[name], versions[title]
    install, details = backend.install_for(str(gpu["cuda"])), {"version": version}
    if not backend.runs_on(str(gpu["compute_capability"])):
        told = f"{version or 'not installed'}; it is for GPUs of {backend.generations}"
        return Finding("GPU", title, "missing", told, details=details)
    if version is None:
        return Finding("GPU", title, "missing", f"not installed: {use}", f"pip install {install}", details)
    try:
        why = context.ask("backend", name)
    except MissingError as error:  # it crashed
        why = f"{error}: {instead(backend.package, install)}"
    if why is None:
        return Finding("GPU", title, "ok", f"{version} loads", details=details)
    reason, fix = reason_and_fix(why)
    return Finding("GPU", title, "warning", f"{version} does not run here: {reason}", fix, details)


def _bindings(context: Context, cuda: str) -> Finding:
    """TensorRT's engines need one of them, and CUDA graphs the second."""
    works, broken, details = [], [], {}
    for name, binding in BINDINGS.items():
        if (version := installed_version(binding.install)) is None:
            continue
        try:
            answer = context.ask("cuda", name)
        except MissingError as error:
            reason, fix = reason_and_fix(str(error))
            broken.append((f"{name} {version} does not open the GPU: {reason}", fix))
            continue
        details[name] = answer | {"version": version}
        works.append(f"{name} {version}")
    install = f"pip install {bindings_for(cuda)}"
    if broken:
        return Finding("GPU", "CUDA bindings", "warning", "; ".join(told for told, _ in broken), broken[0][1], details)
    if not works:
        return Finding("GPU", "CUDA bindings", "missing", "none, and TensorRT's engines need one", install)
    if "cuda-python" not in details:
        told = f"{works[0]} works; without cuda-python no CUDA graphs"
        return Finding("GPU", "CUDA bindings", "warning", told, install, details)
    return Finding("GPU", "CUDA bindings", "ok", f"{' and '.join(works)} work{'' if works[1:] else 's'}", "", details)


def _kernels(context: Context, capability: str) -> Finding:
    try:
        compiler = context.ask("kernels", capability)
    except MissingError as error:
        reason, fix = reason_and_fix(str(error))
        told = f"none, so that frames are resized and drawn on the CPU: {reason}"
        return Finding("GPU", "kernel compiler", "missing", told, fix)
    return Finding("GPU", "kernel compiler", "ok", f"{compiler} compiles ours", details={"compiler": compiler})


def _choice(usable: list[str], bindings: Finding) -> Finding:
    usable = [name for name in usable if bindings.details or not BACKENDS[name].plan]
    if usable:
        return Finding("GPU", CHOICE, "ok", f"built for {usable[0]}", details={"backend": usable[0]})
    told = "none can be run: the CPU is used"
    return Finding("GPU", CHOICE, "warning", told, "mend one of the lines above", {"backend": None})
