"""A stand-in for the module ``tensorrt``, which needs a GPU to build: it records what the builder is told.

It shows that each option reaches the call that TensorRT documents for it, and what becomes of its refusals; nothing of
what TensorRT makes of them. Whether those calls exist is asked of the real bindings, in ``tests/bindings``.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, IntEnum
from types import SimpleNamespace
from typing import Any, cast

from rtpsp.engine.tensorrt_api import TensorRT

Flag = Enum("Flag", ["TF32", "VERSION_COMPATIBLE", "WORKSPACE", "LAYER_NAMES_ONLY", "DETAILED", "AMPERE_PLUS",
                     "SAME_COMPUTE_CAPABILITY"])  # fmt: skip
Severity = IntEnum("Severity", ["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"], start=0)


class Logger:
    Severity = Severity


class Memory(bytes):
    pass


class Cache:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def serialize(self) -> bytes:
        return self.data


class Config:
    """A builder's configuration; what is set or called is told to `calls`."""

    double: Double

    def __init__(self, double: Double) -> None:
        object.__setattr__(self, "double", double)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "progress_monitor":
            object.__setattr__(self, name, value)
        else:
            self.double.calls.append((name, value))

    def create_timing_cache(self, data: bytes) -> Cache | None:
        return Cache(data)

    def set_timing_cache(self, cache: Cache, ignore_mismatch: bool) -> bool:
        self.double.calls.append(("set_timing_cache", cache.data, ignore_mismatch))
        taken = not cache.data or cache.data in self.double.caches
        if taken:
            self.double.cache = cache
        return taken

    def get_timing_cache(self) -> Cache | None:
        return self.double.cache

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments: self.double.calls.append((name, *arguments))


class Double:
    """What a test tells it and asks it.

    Attributes:
        calls: What the configuration was told, in order.
        caches: Timing caches that it takes, beside the empty one.
        cache: The timing cache that is set.
        measured: What a build leaves in it.
        parser_errors: Description, node and operator of each.
        says: Severity and line of what it logs when it builds.
        plan: What it builds; None is its refusal.
        builds: Whether a builder can be made at all.
        during: Called in the midst of a build.
        cancelled: Whether the last build was.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.caches: list[bytes] = []
        self.cache: Cache | None = None
        self.measured = b"measured"
        self.parser_errors: list[tuple[str, str, str]] = []
        self.says: list[tuple[Severity, str]] = []
        self.plan: bytes | None = b"plan"
        self.builds = True
        self.during: Callable[[], object] = lambda: None
        self.cancelled = False

    def module(self) -> TensorRT:
        """It as a module."""
        double = self

        class Builder:
            def __init__(self, log: Any) -> None:
                self.log = log
                if not double.builds:
                    double.speak(log)
                    raise TypeError("pybind11::init(): factory function returned nullptr")

            def create_network(self, flags: int) -> Any:
                double.calls.append(("create_network", flags))
                return SimpleNamespace(num_layers=1)

            def create_builder_config(self) -> Config:
                return Config(double)

            def build_serialized_network(self, network: Any, config: Any) -> bytes | None:
                config.progress_monitor.phase_start("Building engine", None, 2)
                double.during()
                double.speak(self.log)
                if double.cache is not None:
                    double.cache.data = double.measured
                double.cancelled = not config.progress_monitor.step_complete("Building engine", 0)
                if double.cancelled:
                    return None
                config.progress_monitor.phase_finish("Building engine")
                return double.plan

        class Parser:
            num_errors = property(lambda self: len(double.parser_errors))

            def __init__(self, network: Any, log: Any) -> None:
                pass

            def parse(self, model: bytes) -> bool:
                return not double.parser_errors

            def get_error(self, index: int) -> Any:
                told = double.parser_errors[index]
                return SimpleNamespace(
                    **{
                        name: (lambda value=value: value)
                        for name, value in zip(("desc", "node_name", "node_operator"), told, strict=True)
                    }
                )

        return cast(TensorRT, SimpleNamespace(
            __version__="10.16.1", ILogger=Logger, IProgressMonitor=object, Builder=Builder, OnnxParser=Parser,
            BuilderFlag=Flag, MemoryPoolType=Flag, ProfilingVerbosity=Flag, HardwareCompatibilityLevel=Flag,
            NetworkDefinitionCreationFlag=IntEnum("NetworkDefinitionCreationFlag", {"STRONGLY_TYPED": 1}),
        ))  # fmt: skip

    def speak(self, log: Any) -> None:
        """Log what it has to say."""
        for severity, line in self.says:
            log.log(severity, line)
