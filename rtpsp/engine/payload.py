"""What an engine's payload takes and gives, against what its header promises."""

from __future__ import annotations

import re
from collections.abc import Mapping

from rtpsp.errors import EngineFileError
from rtpsp.header import CLASS_MAP, CONFIDENCE, FRAMES, SCORES, EngineHeader


def check_payload(
    header: EngineHeader, inputs: Mapping[str, str], outputs: Mapping[str, str]
) -> tuple[int, int] | None:
    """A payload takes and gives what its header promises, and nothing else.

    Args:
        header: Of the engine.
        inputs: Type and shape by name, such as ``uint8 [1, 360, 480, 3]`` of ``frames``.
        outputs: The same, such as ``uint8 [1, 360, 480]`` of ``class_map``, or ``float32 [1, 11, 45, 60]`` of
            ``scores``.

    Returns:
        (h, w) of the scores, where it gives some.

    Raises:
        EngineFileError: It does not.
    """
    spec, cells = header.spec, None
    batch = int(header.options.get("batch", 1))
    pixels = [batch, *spec.size]
    takes, gives = {FRAMES: f"uint8 {[*pixels, spec.planes]}"}, {CLASS_MAP: f"{spec.class_dtype} {pixels}"}
    if header.options.get("tail") == "host":
        start = f"float32 [{batch}, {len(spec.labels)}, "
        told = re.fullmatch(re.escape(start) + r"(\d+), (\d+)\]", outputs.get(SCORES, ""))
        gives = {SCORES: told.string if told else f"{start}h, w]"}
        cells = (int(told[1]), int(told[2])) if told else None
    elif header.options.get(CONFIDENCE, False):
        gives[CONFIDENCE] = f"uint8 {pixels}"
    for verb, found, expected in (("takes", inputs, takes), ("gives", outputs, gives)):
        if dict(found) != expected:
            raise EngineFileError(
                f"engine {verb} {_listed(found)}, its header promises {_listed(expected)}: build the engine again"
            )
    return cells


def _listed(tensors: Mapping[str, str]) -> str:
    return " and ".join(f"{name} {tensors[name]}" for name in sorted(tensors)) or "nothing"
