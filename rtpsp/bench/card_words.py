"""The precision card's verdicts: what an engine brings and costs, in a sentence that says what to do."""

from __future__ import annotations

from dataclasses import dataclass

from rtpsp.bench.ratios import PairRatio
from rtpsp.comparison import AS_FAST
from rtpsp.int8 import MAX_MIOU_DROP

WORTH = 1.15
"""Times as fast from which a coarser format is worth any loss at all: less is lost in decoding and drawing."""
SAME_MIOU = 0.05
"""Points of mIoU below which two engines are as right: the figure is told with one decimal."""
CLOSE_AGREEMENT = 98.5
"""Percent of pixels from which, without labels, nothing speaks against an engine."""


@dataclass(frozen=True)
class Offer:
    """What a verdict is about.

    Attributes:
        name: What the engine is called: ``INT8``, or ``INT8 by onnxruntime``.
        reference: What it is held against: ``FP32``.
        ratio: Latency of the reference over its own; None where it was not timed.
        same_format: The number format that ran, where that is the reference's own and the same backend's; else empty.
        miou_difference: Points of mIoU, its own minus the reference's; None without labels.
        agreement: With FP32, in percent of pixels; None where there was nothing to ask.
        trained: False for random weights, of which accuracy says nothing.
    """

    name: str
    reference: str
    ratio: PairRatio | None
    same_format: str = ""
    miou_difference: float | None = None
    agreement: float | None = None
    trained: bool = True


def verdict(offer: Offer) -> str:
    """What an engine is worth on this device.

    Returns:
        ``INT8 is 3.9x as fast as FP32 and loses 0.1 mIoU: use it``, or ``INT8 is not worth it on this device: 1.06x as
        fast as FP32, and it loses 0.3 mIoU``; a sentence without its full stop.
    """
    if offer.ratio is None:
        return f"{offer.name} was not timed"
    if offer.same_format:
        return f"{offer.name} is no other engine on this device: {offer.reference} runs in {offer.same_format}, too"
    times = offer.ratio.median
    unclear = offer.ratio.interval is not None and 1.0 in offer.ratio.interval
    if times < 1 - AS_FAST and not unclear:
        return f"{offer.name} is not worth it on this device: it takes {1 / times:.2f}x as long as {offer.reference}"
    speed = f"{_times(times)} as fast as {offer.reference}"
    if times < WORTH or unclear:
        doubt = ", which this run cannot tell from equal" if unclear else ""
        return f"{offer.name} is not worth it on this device: {speed}{doubt}{_and(_cost(offer))}"
    return f"{offer.name} is {speed}{_and(_cost(offer))}{_advice(offer)}"


def _times(ratio: float) -> str:
    return f"{ratio:.1f}x" if ratio >= 1.95 else f"{ratio:.2f}x"


def _and(cost: str) -> str:
    return f" and {cost}" if cost else ""


def _cost(offer: Offer) -> str:
    """What it loses, as a sentence goes on."""
    if offer.miou_difference is not None:
        points = offer.miou_difference
        if abs(points) < SAME_MIOU:
            return "has the same mIoU"
        return f"{'gains' if points > 0 else 'loses'} {abs(points):.1f} mIoU"
    if offer.agreement is None or not offer.trained:
        return ""
    return f"agrees with it on {offer.agreement:.1f} % of pixels"


def _advice(offer: Offer) -> str:
    if offer.miou_difference is not None:
        if -offer.miou_difference > MAX_MIOU_DROP:
            return ": use it only where that accuracy is enough, or build it with --max-miou-drop"
        return ": use it"
    if not offer.trained:
        return ": what it costs in accuracy, random weights cannot tell"
    if offer.agreement is None:
        return ": what it costs in accuracy, --data tells"
    if offer.agreement < CLOSE_AGREEMENT:
        return ": see with --data what that costs in mIoU before you use it"
    return ": use it, unless --data shows that the rest matters"
