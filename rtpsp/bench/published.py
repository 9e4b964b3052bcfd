"""Published speeds of PSPNet, each with its source and with what about it nobody could check.

They are facts of others: a device, a runtime and a way to measure that are not ours, of which little is told. A ratio
to one of them says nothing without what differs (`rtpsp.bench.differences`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

NOT_TOLD = "not told"


@dataclass(frozen=True)
class Published:
    """One row.

    Attributes:
        key: What a user types.
        title: Network, data set and input size.
        arch: Name in `rtpsp.model.arch.ARCHS` of the same backbone.
        size: Input (height, width) in pixels.
        classes: Of the data set.
        ms: Time of one frame.
        fps: As published; None where only the time is.
        miou: In percent; None where it is not told.
        source: Where it stands.
        device: What it ran on, as reported.
        runtime: With what, as reported.
        precision: In which, as reported.
        unchecked: What of all this could not be held against the paper's own table, a sentence each.
    """

    key: str
    title: str
    arch: str
    size: tuple[int, int]
    classes: int
    ms: float
    fps: float | None
    miou: float | None
    source: str
    device: str = NOT_TOLD
    runtime: str = NOT_TOLD
    precision: str = NOT_TOLD
    unchecked: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "key": self.key,
            "title": self.title,
            "published_ms": self.ms,
            "published_fps": self.fps,
            "published_miou": self.miou,
            "source": self.source,
            "unchecked": list(self.unchecked),
        }


_CAMVID = Published(
    key="camvid",
    title="PSPNet on CamVid, 720x960",
    arch="pspnet50",
    size=(720, 960),
    classes=11,
    ms=185.0,
    fps=5.4,
    miou=None,
    source="Papers with Code, Real-Time Semantic Segmentation on CamVid",
    device="a TitanX (Maxwell)",
    runtime="Caffe",
    unchecked=(
        "input size, PSPNet-50, the TitanX and Caffe are as commonly reported from the table of the ICNet paper "
        "(arXiv 1704.08545), which was not at hand",
    ),
)

_NYU = (
    "input size and device are as commonly reported; the rows are probably those of the TDNet paper (arXiv "
    "2004.01800), whose table was not at hand: the device decides what a ratio to them means"
)


def _nyu(layers: int, ms: float, miou: float) -> Published:
    return Published(
        key=f"nyudv2-{layers}",
        title=f"PSPNet-{layers} on NYU Depth v2, 480x640",
        arch=f"pspnet{layers}",
        size=(480, 640),
        classes=40,
        ms=ms,
        fps=None,
        miou=miou,
        source="Papers with Code, Real-Time Semantic Segmentation on NYU Depth v2",
        device="probably a Titan Xp",
        unchecked=(_NYU,),
    )


BASELINES = {row.key: row for row in (_CAMVID, _nyu(18, 19.0, 35.9), _nyu(50, 47.0, 41.8), _nyu(101, 72.0, 43.2))}
"""By key."""
