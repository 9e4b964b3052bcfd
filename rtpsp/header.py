"""The header of an engine file: what was built, from what, by what, and for which machine."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from rtpsp.errors import EngineFileError, ModelError
from rtpsp.spec import ModelSpec

Precision = Literal["fp32", "fp16", "int8"]

MAX_BATCH = 1024
FRAMES = "frames"  # input and outputs of the graph inside an engine, by which a backend finds them
CLASS_MAP = "class_map"
CONFIDENCE = "confidence"
SCORES = "scores"
TAILS = ("graph", "host")
_CAPABILITY = re.compile(r"[1-9][0-9]?\.[0-9]")
_VERSION = re.compile(r"[0-9]+(\.[0-9]+)*")


@dataclass(frozen=True)
class Target:
    """The machine that an engine was built for.

    Attributes:
        machine: Instruction set of the building machine as Python names it, e.g. ``x86_64``.
        gpu: Name of the GPU it was built on; empty for CPU engines and for those built ahead of time.
        compute_capabilities: What the plan holds code for, e.g. ``("9.0",)``; empty for CPU engines.
        or_later: GPUs of a later compute capability run it too.
        driver: Version of NVIDIA's driver on the building machine; empty where there was none. A fact, no bound: what a
            driver has to be is decided by the release that runs the plan.
        version_compatible: Later releases of the backend, of the same major version, load it too, instead of only the
            one that built it.
    """

    machine: str = field(default_factory=platform.machine)
    gpu: str = ""
    compute_capabilities: tuple[str, ...] = ()
    or_later: bool = False
    driver: str = ""
    version_compatible: bool = False

    @property
    def needs_gpu(self) -> bool:
        """Whether the payload is code for a GPU."""
        return bool(self.compute_capabilities)

    @property
    def generations(self) -> str:
        """The GPUs that run it, in words: ``compute capability 8.0, 8.9 or later``; empty for CPU engines."""
        later = " or later" if self.or_later else ""
        return f"compute capability {', '.join(self.compute_capabilities)}{later}" if self.needs_gpu else ""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Target:
        """From plain JSON values.

        Raises:
            ValueError: A field is of the wrong kind.
        """
        given = {key: value for key, value in values.items() if key in {f.name for f in fields(cls)}}
        for name in ("machine", "gpu", "driver"):
            if not _is_line(given.setdefault(name, "")):
                raise ValueError(f"target: {name} is {given[name]!r:.40}, expected a line of text")
        for name in ("or_later", "version_compatible"):
            if not isinstance(given.setdefault(name, False), bool):
                raise ValueError(f"target: {name} is {given[name]!r:.40}, expected true or false")
        capabilities = given.get("compute_capabilities", [])
        if not isinstance(capabilities, list) or not all(
            isinstance(value, str) and _CAPABILITY.fullmatch(value) for value in capabilities
        ):
            raise ValueError(f"target: compute_capabilities are {capabilities!r:.40}, expected a list such as ['9.0']")
        if given["driver"] and not _VERSION.fullmatch(given["driver"]):
            raise ValueError(f"target: driver is {given['driver']!r:.40}, expected a version such as '580.65'")
        return cls(**{**given, "compute_capabilities": tuple(capabilities)})


@dataclass(frozen=True)
class EngineHeader:
    """What an engine file says of its payload.

    Attributes:
        spec: The model's own spec.
        backend: Name in the backend table, e.g. ``openvino``.
        precision: What was asked for; what ran is told by an open engine.
        model_digest: sha256 of the ONNX file that was lowered, in hex.
        versions: Package versions at build time, ``rtpsp`` and the backend's among them.
        calibration_digest: Digest of the calibration set, for INT8.
        options: What the builder was told and chose beyond that, by name: ``batch`` (frames of one inference),
            ``confidence`` (whether it gives one), ``tail`` (whether the graph gives the class map, or scores of which
            the host makes it), ``head`` (``plain`` or ``split``), ``int8`` (what stayed in floating point and why),
            ``plan`` (what TensorRT's builder was told), ``model`` (name of the ONNX file), ``shipped`` (whether that
            came with rtpsp).
        target: The machine that it was built for.
    """

    spec: ModelSpec
    backend: str
    precision: Precision
    model_digest: str
    versions: dict[str, str] = field(default_factory=dict)
    calibration_digest: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    target: Target = field(default_factory=Target)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        target = {**asdict(self.target), "compute_capabilities": list(self.target.compute_capabilities)}
        return {**asdict(self), "spec": self.spec.to_dict(), "target": target}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EngineHeader:
        """The inverse of `to_dict`; fields of a later release are passed over.

        Raises:
            EngineFileError: A field is missing or of the wrong kind.
        """
        known = {f.name for f in fields(cls)}
        try:
            given = {key: value for key, value in values.items() if key in known}
            spec = ModelSpec.from_dict(given["spec"])
            header = cls(**{**given, "spec": spec, "target": Target.from_dict(given.get("target", {}))})
            _check(header)
            return header
        except (AttributeError, KeyError, TypeError, ValueError, ModelError) as error:
            raise EngineFileError(f"engine header cannot be read ({error}): build the engine again") from error


def _check(header: EngineHeader) -> None:
    for name in ("backend", "model_digest"):
        if not _is_line(getattr(header, name)):
            raise ValueError(f"{name} is {getattr(header, name)!r:.40}, expected a line of text")
    if not header.backend:
        raise ValueError("backend is empty, expected a name")
    if header.precision not in get_args(Precision):
        raise ValueError(f"precision is {header.precision!r:.40}, expected one of {', '.join(get_args(Precision))}")
    if not isinstance(header.versions, dict) or not all(
        _is_line(part) for pair in header.versions.items() for part in pair
    ):
        raise ValueError(f"versions are {header.versions!r:.40}, expected texts by package")
    if header.calibration_digest is not None and not _is_line(header.calibration_digest):
        raise ValueError(f"calibration_digest is {header.calibration_digest!r:.40}, expected a line of text")
    if not isinstance(header.options, dict):
        raise ValueError(f"options are {header.options!r:.40}, expected an object")
    batch, confidence = header.options.get("batch", 1), header.options.get("confidence", False)
    if type(batch) is not int or not 1 <= batch <= MAX_BATCH:
        raise ValueError(f"batch is {batch!r:.40}, expected 1 to {MAX_BATCH}")
    if not isinstance(confidence, bool):
        raise ValueError(f"confidence is {confidence!r:.40}, expected true or false")
    if header.options.get("tail", "graph") not in TAILS:
        raise ValueError(f"tail is {header.options['tail']!r:.40}, expected one of {', '.join(TAILS)}")
    if not _is_line(header.options.get("model", "")):
        raise ValueError(f"model is {header.options['model']!r:.40}, expected the name of a file")


def _is_line(value: object) -> bool:
    """Whether it is text that prints on one line: errors and reports show these fields, whoever wrote them."""
    return isinstance(value, str) and value.isprintable()
