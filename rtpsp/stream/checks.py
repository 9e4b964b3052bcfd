"""What of an engine can be asked in a live run, checked before anything is opened."""

from __future__ import annotations

from rtpsp.engine.base import Engine
from rtpsp.engine.exchange import DeviceIOChoice
from rtpsp.errors import UsageError
from rtpsp.fit import MaskSize


def check_min_confidence(value: float | None, engine: Engine | None = None) -> None:
    """A threshold is a probability, and one above 0 needs an engine that tells its own.

    Raises:
        UsageError: It is not, or the engine does not.
    """
    if value is None:
        return
    if not 0 <= value <= 1:
        raise UsageError(f"min_confidence is {value}, expected 0 (every pixel keeps its class) to 1")
    if value and engine is not None and not engine.gives_confidence:
        raise UsageError(
            f"engine of {engine.spec.name} gives no confidence, --min-confidence needs it: build it with "
            f"'rtpsp build-engine MODEL --confidence'"
        )


def check_device_io(
    choice: DeviceIOChoice, min_confidence: float | None, mask_size: MaskSize | None, smooth: bool = False
) -> None:
    """A device that takes whole frames gives no confidence and no scores, and class maps of the frame's size alone.

    Raises:
        UsageError: It is ``on`` beside options that ask for something else.
    """
    if choice != "on":
        return
    if min_confidence:
        raise UsageError("device IO gives no confidence, which --min-confidence needs: leave it or --device-io on out")
    if mask_size == "model":
        raise UsageError(
            "device IO makes class maps of the frame's size, and --mask-size is model: leave it or --device-io on out"
        )
    if smooth:
        raise UsageError("device IO keeps scores to itself, and --smooth needs them: leave it or --device-io on out")
