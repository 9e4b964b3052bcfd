"""The parts of the check, in the order of their worth, and what each needs."""

from __future__ import annotations

from importlib.util import find_spec

from gpu.models import NETWORKS, VARIANTS
from gpu.part import Need, Part, Results

DOUBLE = "Double"
"""What the driver's double of the tests calls its device: CUDA runs on it, TensorRT and torch do not."""
FLAVOURS = {"tensorrt-rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings"), "tensorrt": ("tensorrt",)}
"""TensorRT's flavours and their modules."""


def package(*modules: str) -> Need:
    """One of these modules is installed."""

    def need(results: Results) -> str:
        return "" if any(find_spec(module) for module in modules) else f"{' or '.join(modules)} is not installed"

    return need


def device(results: Results) -> str:
    """The driver opens a device."""
    data = results.get("facts", {}).get("data", {})
    return "" if data.get("device") else f"no device: {data.get('no_device', 'it could not be asked for one')}"


def gpu(results: Results) -> str:
    """The device is a GPU."""
    data = results.get("facts", {}).get("data", {})
    return device(results) or ("the device is the driver's double" if data["device"]["name"] == DOUBLE else "")


def accepted(flavour: str) -> Need:
    """A flavour of TensorRT runs engines on this GPU."""

    def need(results: Results) -> str:
        found = results.get(f"accepts-{flavour}", {})
        if found.get("data", {}).get("runs_on"):
            return ""
        why = found.get("reason") or found.get("error") or found.get("data", {}).get("refused")
        return f"{flavour} does not run on this device: {why or found.get('status', 'nobody asked')}"

    return need


def some(*needs: Need) -> Need:
    """One of these is fulfilled."""

    def need(results: Results) -> str:
        reasons = [one(results) for one in needs]
        return "" if "" in reasons else "; ".join(dict.fromkeys(reasons))

    return need


def built(part: str) -> Need:
    """An earlier part left an engine, however it ended."""

    def need(results: Results) -> str:
        found = results.get(part, {})
        plans = [one for one in found.get("data", {}).values() if "plan_mib" in one]
        return "" if plans else f"{part} is {found.get('status', 'missing')}"

    return need


def passed(part: str) -> Need:
    """An earlier part went well."""

    def need(results: Results) -> str:
        status = results.get(part, {}).get("status", "missing")
        return "" if status == "ok" else f"{part} is {status}"

    return need


def onnxruntime_cuda(results: Results) -> str:
    """The package with the CUDA provider is installed."""
    versions = results.get("facts", {}).get("data", {}).get("versions", {})
    return "" if "onnxruntime-gpu" in versions else "onnxruntime-gpu is not installed"


TORCH = package("torch")
BINDINGS = {"pycuda": package("pycuda"), "cuda-python": package("cuda.bindings")}


def _engines(flavour: str, network: str) -> list[Part]:
    """Building, each engine alone, all of them in turn, and the loop around the best."""
    build, runs = f"build-{flavour}-{network}", accepted(flavour)
    alone = tuple(f"engine-{flavour}-{network}-{variant}" for variant in VARIANTS)
    return [
        Part(
            build, "engines:build", 120, (*_builder(flavour, network), passed(f"models-{network}")),
            (flavour, network), (f"models-{network}", f"accepts-{flavour}"),
        ),
        *(
            Part(
                f"engine-{flavour}-{network}-{variant}", "engines:alone", 60, (gpu, runs, built(build)),
                (flavour, network, str(variant)), (build,),
            )
            for variant in VARIANTS
        ),
        Part(f"race-{flavour}-{network}", "engines:race", 90, (gpu, runs, built(build)), (flavour, network), alone),
        Part(f"loop-{flavour}-{network}", "loop:loop", 60, (gpu, runs, built(build)), (flavour, network), alone),
    ]  # fmt: skip


def _builder(flavour: str, network: str) -> tuple[Need, ...]:
    """TensorRT-RTX builds small networks anywhere, ahead of time; else there has to be something to run them on."""
    if flavour == "tensorrt-rtx" and network == "pspnet18":
        return (package(*FLAVOURS[flavour]),)
    return (gpu, accepted(flavour))


def _models(network: str) -> Part:
    if network == "pspnet18":
        return Part(f"models-{network}", "models:prepare", 60, (), (network,))
    used = some(*(accepted(flavour) for flavour in FLAVOURS), onnxruntime_cuda)
    after = ("facts", *(f"accepts-{flavour}" for flavour in FLAVOURS))
    return Part(f"models-{network}", "models:prepare", 120, (gpu, used), (network,), after)


def _onnxruntime(network: str) -> Part:
    needs = (gpu, onnxruntime_cuda, passed(f"models-{network}"))
    after = (f"models-{network}",)
    return Part(f"onnxruntime-cuda-{network}", "peers:onnxruntime_cuda", 60, needs, (network,), after)


PARTS: tuple[Part, ...] = (
    Part("facts", "facts:facts", 30),
    Part("kernels-compile", "kernels:compile_all", 90),
    Part("ceilings-copies", "ceilings:copies", 30, (device,), (), ("facts",)),
    Part("ceilings-matrices", "ceilings:matrices", 60, (gpu, TORCH), (), ("facts",)),
    *(
        Part(f"accepts-{flavour}", "flavours:accepts", 60, (package(*modules),), (flavour,), ("facts",))
        for flavour, modules in FLAVOURS.items()
    ),
    *(
        Part(f"kernels-{binding}", "kernels:check", 60, (device, need), (binding,), ("facts",))
        for binding, need in BINDINGS.items()
    ),
    *(
        Part(f"runtime-{binding}", "runtime:overlap", 60, (device, need), (binding,), ("facts",))
        for binding, need in BINDINGS.items()
    ),
    Part("tests-cuda", "suites:cuda", 60, (device,), (), ("facts",)),
    Part("tests-runtime", "suites:runtime", 90, (device,), (), ("facts",)),
    Part("kernels-times", "kernels:times", 30, (device,), (), ("facts",)),
    *(Part(f"torch-{network}", "peers:torch_peer", 60, (gpu, TORCH), (network,), ("facts",)) for network in NETWORKS),
    *(
        part
        for network in NETWORKS
        for part in (
            _models(network),
            *(one for flavour in FLAVOURS for one in _engines(flavour, network)),
            _onnxruntime(network),
        )
    ),
    Part("tests-engines", "suites:engines", 90, (gpu,), (), ("facts",)),
    Part("torch-compiled-pspnet50", "peers:torch_compiled", 90, (gpu, TORCH), ("pspnet50",), ("facts",)),
    Part("floors", "floors:floors", 20),
)


def part_named(name: str) -> Part:
    """One of `PARTS`."""
    return next(part for part in PARTS if part.name == name)
