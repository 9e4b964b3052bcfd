"""The two arrays that everything in rtpsp is about."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Image: TypeAlias = NDArray[np.uint8]
"""uint8 [H, W, 3] BGR, or a batch of them [N, H, W, 3]; of models of other planes [H, W, 1] grey or [H, W, 4] BGRX."""

ClassMap: TypeAlias = NDArray[np.integer]
"""Class ids [H, W] or [N, H, W]: uint8 up to 256 classes, int32 above."""
