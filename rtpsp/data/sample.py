"""One labelled image, and what can load one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from rtpsp.arrays import ClassMap, Image
from rtpsp.labels import LabelSet
from rtpsp.spec import Planes


@dataclass(frozen=True, eq=False)
class Sample:
    """A labelled image.

    Attributes:
        name: What an error message or a report calls it.
        image: uint8 [H, W, planes]: BGR, or grey or BGRX where that was asked for.
        truth: uint8 or int32 [H, W] class ids; may hold the label set's ignored id.
        labels: What the ids mean, where that is known; files do not say.
    """

    name: str
    image: Image
    truth: ClassMap
    labels: LabelSet | None = None


class Entry(Protocol):
    """A sample that has not been loaded."""

    @property
    def name(self) -> str:
        """The sample's name, known before it is loaded."""

    def load(self, planes: Planes = 3) -> Sample:
        """Read or draw the sample; the arrays are new, and the caller's own.

        Args:
            planes: Of the image (`rtpsp.planes`).

        Raises:
            DataError: Image and label cannot be read or do not fit together.
        """
