"""The parts of the check, in the order of their worth, and what each needs."""

from __future__ import annotations

from importlib.util import find_spec

from gpu.models import FIRST, NETWORKS, REST, VARIANTS, Variant
from gpu.part import Need, Part, Results

DOUBLE = "Double"
"""What the driver's double of the tests calls its device: CUDA runs on it, TensorRT and torch do not."""
FLAVOURS = {"tensorrt-rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings"), "tensorrt": ("tensorrt",)}
"""TensorRT's flavours and their modules."""
TARGETS: dict[str, dict[str, tuple[str, ...]]] = {
    "tensorrt-rtx": {"default": (), "sm80": ("8.0",), "sm89": ("8.9",)},
    "tensorrt": {"default": ()},
}
"""What is built for when nothing is asked for, and single compute capabilities, by the flavours that know them."""


def package(*modules: str) -> Need:
    """One of these modules is installed."""

    def need(results: Results) -> str:
        return "" if any(map(_is_there, modules)) else f"{' or '.join(modules)} is not installed"

    return need


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that it is in
        return False


def device(results: Results) -> str:
    """The driver opens a device."""
    data = results.get("facts", {}).get("data", {})
    return "" if data.get("device") else f"no device: {data.get('no_device', 'it could not be asked for one')}"


def gpu(results: Results) -> str:
    """The device is a GPU."""
    data = results.get("facts", {}).get("data", {})
    return device(results) or ("the device is the driver's double" if data["device"]["name"] == DOUBLE else "")


def runs_on(results: Results, flavour: str) -> list[str]:
    """The targets whose engines a flavour runs on this GPU."""
    return [
        target for target in TARGETS[flavour] if results.get(_accepts(flavour, target), {}).get("data", {}).get("runs")
    ]


def accepted(flavour: str) -> Need:
    """A flavour of TensorRT runs engines on this GPU."""

    def need(results: Results) -> str:
        if runs_on(results, flavour):
            return ""
        found = [results.get(_accepts(flavour, target), {}) for target in TARGETS[flavour]]
        reasons = [one.get("reason") or one.get("data", {}).get("refused") or one.get("status") for one in found]
        told = "; ".join(dict.fromkeys(filter(None, reasons))) or "nobody asked"
        return f"{flavour} does not run on this device: {told}"

    return need


def _accepts(flavour: str, target: str) -> str:
    return f"accepts-{flavour}" + ("" if len(TARGETS[flavour]) == 1 else f"-{target}")


def some(*needs: Need) -> Need:
    """One of these is fulfilled."""

    def need(results: Results) -> str:
        reasons = [one(results) for one in needs]
        return "" if "" in reasons else "; ".join(dict.fromkeys(reasons))

    return need


def built(part: str) -> Need:
    """An earlier part left an engine."""

    def need(results: Results) -> str:
        found = results.get(part, {})
        return "" if "plan_mib" in found.get("data", {}) else f"{part} is {found.get('status', 'missing')}"

    return need


def prepared(network: str, variant: str = "") -> Need:
    """An earlier part left the graph of a variant, or of any."""

    def need(results: Results) -> str:
        found = results.get(f"models-{network}", {})
        there = found.get("data", {}).get("variants", ())
        if variant in there or (there and not variant):
            return ""
        return f"models-{network} is {found.get('status', 'missing')}, and has left no graph of {variant or 'it'}"

    return need


def onnxruntime_cuda(results: Results) -> str:
    """The package with the CUDA provider is installed."""
    versions = results.get("facts", {}).get("data", {}).get("versions", {})
    return "" if "onnxruntime-gpu" in versions else "onnxruntime-gpu is not installed"


TORCH = package("torch")
BINDINGS = {"pycuda": package("pycuda"), "cuda-python": package("cuda.bindings")}


def _each(network: str, variants: tuple[Variant, ...]) -> list[Part]:
    """Building engines, and measuring each alone."""
    return [
        part
        for flavour in FLAVOURS
        for variant in variants
        for build in [f"build-{flavour}-{network}-{variant}"]
        for part in (
            Part(
                build, "engines:build", 120, (*_builder(flavour, network), prepared(network, str(variant))),
                (flavour, network, str(variant)), (f"models-{network}", *_asked(flavour)),
            ),
            Part(
                f"engine-{flavour}-{network}-{variant}", "engines:alone", 75, (gpu, accepted(flavour), built(build)),
                (flavour, network, str(variant)), (build,),
            ),
        )
    ]  # fmt: skip


def _compared(name: str, function: str, network: str, variants: tuple[Variant, ...]) -> list[Part]:
    """What is done with the engines that went well alone."""
    return [
        Part(
            f"{name}-{flavour}-{network}", function, 60,
            (gpu, accepted(flavour), some(*(built(f"build-{flavour}-{network}-{variant}") for variant in variants))),
            (flavour, network), tuple(f"engine-{flavour}-{network}-{variant}" for variant in variants),
        )
        for flavour in FLAVOURS
    ]  # fmt: skip


def _builder(flavour: str, network: str) -> tuple[Need, ...]:
    """TensorRT-RTX builds small networks anywhere, ahead of time; else there has to be something to run them on."""
    if flavour == "tensorrt-rtx" and network == "pspnet18":
        return (package(*FLAVOURS[flavour]),)
    return (gpu, accepted(flavour))


def _asked(flavour: str) -> tuple[str, ...]:
    return tuple(_accepts(flavour, target) for target in TARGETS[flavour])


def _models(network: str) -> Part:
    if network == "pspnet18":
        return Part(f"models-{network}", "models:prepare", 60, (), (network,))
    used = some(*(accepted(flavour) for flavour in FLAVOURS), onnxruntime_cuda)
    after = ("facts", *(part for flavour in FLAVOURS for part in _asked(flavour)))
    return Part(f"models-{network}", "models:prepare", 120, (gpu, used), (network,), after)


def _onnxruntime(network: str) -> Part:
    needs = (gpu, onnxruntime_cuda, prepared(network))
    after = (f"models-{network}",)
    return Part(f"onnxruntime-cuda-{network}", "peers:onnxruntime_cuda", 60, needs, (network,), after)


def _of_bindings(name: str, function: str, limit: float) -> list[Part]:
    return [
        Part(f"{name}-{binding}", function, limit, (device, need), (binding,), ("facts",))
        for binding, need in BINDINGS.items()
    ]


PARTS: tuple[Part, ...] = (
    # What decides all the rest, and takes seconds each: two minutes.
    Part("facts", "facts:facts", 30),
    *(
        Part(_accepts(flavour, target), "flavours:accepts", 45, (package(*modules),), (flavour, target), ("facts",))
        for flavour, modules in FLAVOURS.items()
        for target in TARGETS[flavour]
    ),
    Part("tests-cuda", "suites:cuda", 60, (device,), (), ("facts",)),
    *_of_bindings("runtime", "runtime:overlap", 60),
    Part("kernels-times", "kernels:times", 30, (device,), (), ("facts",)),
    Part("ceilings-copies", "ceilings:copies", 30, (device,), (), ("facts",)),
    Part("ceilings-matrices", "ceilings:matrices", 60, (gpu, TORCH), (), ("facts",)),
    *(Part(f"torch-{network}", "peers:torch_peer", 60, (gpu, TORCH), (network,), ("facts",)) for network in NETWORKS),
    Part(
        "tests-engines", "suites:engines", 90, (gpu, some(*map(accepted, FLAVOURS), onnxruntime_cuda)), (), ("facts",)
    ),
    # The engines that are to be fast, of both networks: with TensorRT-RTX four minutes, with TensorRT six.
    *(part for network in NETWORKS for part in (_models(network), *_each(network, FIRST))),
    *(
        part
        for network in reversed(NETWORKS)
        for part in (
            *_compared("race", "engines:race", network, FIRST),
            *_compared("loop", "loop:loop", network, FIRST),
        )
    ),
    # The rest, as far as the time goes.
    *map(_onnxruntime, NETWORKS),
    Part("tests-runtime", "suites:runtime", 90, (device,), (), ("facts",)),
    *_of_bindings("kernels", "kernels:check", 60),
    *(part for network in reversed(NETWORKS) for part in _each(network, REST)),
    *(part for network in reversed(NETWORKS) for part in _compared("race-all", "engines:race", network, VARIANTS)),
    Part("torch-compiled-pspnet50", "peers:torch_compiled", 90, (gpu, TORCH), ("pspnet50",), ("facts",)),
    Part("kernels-compile", "kernels:compile_all", 60),
    Part("floors", "floors:floors", 20),
)


def part_named(name: str) -> Part:
    """One of `PARTS`."""
    return next(part for part in PARTS if part.name == name)
