"""TensorRT's calibration table, the text that its calibrators kept until TensorRT 11 dropped them.

    TRT-8501-EntropyCalibration2
    input: 3c010204
    layer1/conv1: 3d23d70a

The first line names the release that wrote it and the calibrator; each other one a tensor and the eight hex digits of
its scale, a big-endian IEEE 754 float32: what one step of the int8 is worth, a 127th of the range's end. NVIDIA
documents no format; this is how modelopt reads it (``modelopt.onnx.quantization.calib_utils``). Names may hold colons
and spaces. A tensor's least and largest value are not in it, nor what it was measured on.
"""

from __future__ import annotations

import hashlib
import math
import re
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from rtpsp.calibration_cache import TABLE, CalibrationCache, TensorRange, read_text, to_fit
from rtpsp.errors import DataError
from rtpsp.spec import ModelSpec

METHOD_OF = {
    "EntropyCalibration2": "entropy",
    "EntropyCalibration": "entropy",
    "MinMaxCalibration": "minmax",
    "LegacyCalibration": "percentile",  # it clips at a quantile
}
"""Our name of what each of TensorRT's calibrators does."""
DEFAULT_RELEASE = "8501"
DEFAULT_ALGORITHM = "EntropyCalibration2"
"""The calibrator that NVIDIA recommends for CNNs, and so the one that most programs read a table with."""

_HEADER = re.compile(r"TRT-(\w+)-(\w+)", re.ASCII)  # releases are digits; some programs write 8XXX
_SCALE = re.compile("[0-9a-fA-F]{8}")
_STEPS = 127
_SHOWN = 5
_OF_THE_PARSER = "(Unnamed Layer*"
_EXPORT = "give the table that TensorRT's calibrator wrote"


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        release: The TensorRT that wrote it, in digits: ``8501``.
        algorithm: Its calibrator, one of `METHOD_OF`.
        amax: The end of each tensor's range, in the tensor's unit, by name; exact, so that a 127th of it is the scale
            of the table to the bit.
        digest: sha256 of the table's text, in hex.
    """

    release: str
    algorithm: str
    amax: Mapping[str, float]
    digest: str

    @property
    def method(self) -> str:
        """The calibrator's method by our name."""
        return METHOD_OF[self.algorithm]


def to_table(cache: CalibrationCache, release: str | None = None, algorithm: str | None = None) -> str:
    """The text of a table with a cache's ranges, in the order of names.

    Args:
        cache: Its ranges are rounded to float32.
        release: Of the TensorRT that is to read it. By default that of the table which the cache came from, or
            `DEFAULT_RELEASE`.
        algorithm: The calibrator that is to read it: TensorRT passes over a table of another one. By default that of
            the table which the cache came from, or ``MinMaxCalibration`` for min-max and `DEFAULT_ALGORITHM` for all
            others, whose ranges it takes as they are.

    Raises:
        DataError: A range or a name cannot stand in a table, or there is no such calibrator.
    """
    origin = cache.measured.get("table")
    origin = origin if isinstance(origin, Mapping) else {}
    usual = "MinMaxCalibration" if cache.method == "minmax" else DEFAULT_ALGORITHM
    header = f"TRT-{release or origin.get('release', DEFAULT_RELEASE)}-{algorithm or origin.get('algorithm', usual)}"
    _parse_header(header)
    lines = [f"{_writable(name)}: {_to_hex(name, cache.ranges[name].amax)}" for name in sorted(cache.ranges)]
    return "\n".join([header, *lines, ""])


def from_table(text: str) -> Table:
    """The inverse of `to_table`.

    Raises:
        DataError: The text is no table; which line of it, what stands there, what was expected.
    """
    first, *lines = text.removesuffix("\n").split("\n")  # not by splitlines: a name may hold what that splits at
    release, algorithm = _parse_header(first.removesuffix("\r"))
    amax: dict[str, float] = {}
    for number, line in enumerate(lines, start=2):
        name, colon, digits = line.removesuffix("\r").rpartition(": ")
        if not (colon and name and _SCALE.fullmatch(digits)):
            raise DataError(
                f"line {number} of the table is {line!r:.60}, expected a tensor, a colon and eight hex digits: "
                f"{_EXPORT}"
            )
        (scale,) = struct.unpack(">f", bytes.fromhex(digits))
        if not math.isfinite(scale) or scale < 0:
            raise DataError(f"line {number} of the table: the scale of {name!r:.60} is {scale}, expected one from 0 up")
        if name in amax:
            raise DataError(f"line {number} of the table: tensor {name!r:.60} stands there twice: {_EXPORT}")
        amax[name] = scale * _STEPS
    if not amax:
        raise DataError(f"the table has a header and no tensor: {_EXPORT}")
    return Table(release, algorithm, amax, hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest())


def to_cache(
    table: Table, spec: ModelSpec, graph: str, *, tensors: Collection[str], stored: Collection[str]
) -> CalibrationCache:
    """A calibration cache with a table's ranges, for one network.

    Args:
        table: As read.
        spec: Of the model; it says how frames are brought to its size, which the table does not.
        graph: Digest of the network.
        tensors: Names of all of its tensors.
        stored: Names of those whose range INT8 needs.

    Returns:
        A cache that gives the same table again, but for the order of its lines.

    Raises:
        DataError: The table is of another network: it has a tensor that is not in this one, other than those to which
            TensorRT's parser gave a name of its own, or lacks one that INT8 needs.
    """
    foreign = [name for name in table.amax if name not in tensors and not name.startswith(_OF_THE_PARSER)]
    if foreign:
        raise DataError(
            f"of the table's {len(table.amax)} tensors {len(foreign)} are not in {spec.name} ({_some(foreign)}) and "
            f"{len(table.amax.keys() & set(tensors))} are: give the model that it was calibrated for"
        )
    lacking = [name for name in stored if name not in table.amax]
    if lacking:
        raise DataError(
            f"the table lacks {len(lacking)} of the {len(stored)} tensors of {spec.name} that INT8 stores "
            f"({_some(lacking)}): give the model that it was calibrated for"
        )
    return CalibrationCache(
        model=spec.name,
        graph=graph,
        frames=TABLE + table.digest,
        images=0,
        method=table.method,
        fit=to_fit(spec),
        ranges={name: TensorRange(None, None, amax) for name, amax in table.amax.items()},
        measured={"table": {"release": table.release, "algorithm": table.algorithm}},
    )


def read_table(path: Path) -> Table:
    """Reads a table's file.

    Raises:
        DataError: There is none, or its content is no table.
    """
    text = read_text(path, "a TensorRT calibration table", _EXPORT)
    if text.startswith("{"):
        raise DataError(
            f"{path} is JSON, a TensorRT calibration table was expected: look at it with 'rtpsp calib show'"
        )
    try:
        return from_table(text)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _parse_header(line: str) -> tuple[str, str]:
    found = _HEADER.fullmatch(line)
    if found is None:
        raise DataError(f"the table begins with {line!r:.60}, expected a line such as 'TRT-8501-EntropyCalibration2'")
    if found[2] not in METHOD_OF:
        raise DataError(f"the table is of {found[2]!r:.60}, expected one of {', '.join(METHOD_OF)}: {_EXPORT}")
    return found[1], found[2]


def _some(names: list[str]) -> str:
    return ", ".join(f"{name!r:.60}" for name in names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _writable(name: str) -> str:
    if "\n" in name or name.endswith("\r"):
        raise DataError(f"tensor {name!r:.60} cannot stand in a table, whose names end with the line: rename it")
    return name


def _to_hex(name: str, amax: float) -> str:
    try:
        return struct.pack(">f", amax / _STEPS).hex()
    except OverflowError as error:
        raise DataError(f"the range of {name!r:.60} ends at {amax:g}, beyond a table's float32: {_EXPORT}") from error
