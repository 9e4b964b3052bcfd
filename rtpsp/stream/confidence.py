"""Which pixels an engine is sure enough of."""

from __future__ import annotations

import numpy as np

from rtpsp.arrays import ClassMap, Image
from rtpsp.fit import no_class
from rtpsp.spec import ModelSpec


def drop_unsure(class_map: ClassMap, confidence: Image, least: float, spec: ModelSpec) -> ClassMap:
    """Takes their class from the pixels that an engine is less sure of than asked for.

    Args:
        class_map: Class ids [H, W]; written into, where its type can hold the id.
        confidence: uint8 [H, W] in steps of 1/255.
        least: A pixel keeps its class where confidence / 255 >= `least`.
        spec: Gives the number of classes.

    Returns:
        `class_map`, or an int32 array in its place, with `rtpsp.fit.no_class` at those pixels.
    """
    unknown = no_class(len(spec.labels))
    if unknown < 0:
        class_map = class_map.astype(np.int32, copy=False)
    step = sum(value / 255 < least for value in range(256))  # ceil(255 least) can be one too many: it is rounded
    # 255 in a byte and -1 have every bit set: or-ing them in takes a thirtieth of the time of an indexed write.
    class_map |= (confidence < step) * class_map.dtype.type(unknown)
    return class_map
