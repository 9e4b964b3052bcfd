"""What is asked of an engine that not every engine can do."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from rtpsp.errors import UsageError
from rtpsp.fit import MaskSize

if TYPE_CHECKING:
    from rtpsp.engine.base import Engine


def check_scores(engine: Engine, option: str) -> None:
    """What is decided or filtered here needs the scores that a class map is made of.

    Args:
        engine: Need not be open.
        option: What needs them, as it is spelt on the command line.

    Raises:
        UsageError: The engine does not give them.
    """
    if not engine.gives_scores:
        raise UsageError(
            f"engine of {engine.spec.name} gives class maps of its own size alone, {option} needs its scores: build it "
            f"with 'rtpsp build-engine MODEL --tail host'"
        )


def check_mask_size(value: MaskSize | None, engine: Engine | None = None) -> None:
    """A class map is of the model's size or the frame's, and the latter needs an engine that gives scores.

    Args:
        value: None asks for neither.
        engine: Need not be open.

    Raises:
        UsageError: It is neither, or the engine does not.
    """
    if value is not None and value not in get_args(MaskSize):
        raise UsageError(f"mask_size is {value!r}, expected one of {', '.join(get_args(MaskSize))}")
    if value == "frame" and engine is not None:
        check_scores(engine, "--mask-size frame")
