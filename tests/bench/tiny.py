"""Networks a sixty-fourth as large as real ones, under their names: their engines take a fraction of a second."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import pytest

from rtpsp.arrays import Image
from rtpsp.bench.frames import street_pictures
from rtpsp.model.arch import ARCHS

SIZE = (64, 96)


@lru_cache(maxsize=1)
def pictures() -> tuple[Image, ...]:
    """Two frames of a street: composing one takes a second."""
    return tuple(street_pictures(count=2, size=(240, 320)))


@contextmanager
def tiny_networks() -> Iterator[None]:
    """All architectures with an eighth of their channels."""
    with pytest.MonkeyPatch.context() as patch:
        for name, arch in list(ARCHS.items()):
            patch.setitem(ARCHS, name, arch.narrowed(8))
        yield
