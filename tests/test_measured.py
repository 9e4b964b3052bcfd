"""What a cache tells of integers that nobody measured: what was left in float with others of as many bits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rtpsp import zoo
from rtpsp.calibration_cache import read_cache
from rtpsp.measured import parts_of

U8, U7, S8 = "u8 data, 8-bit weights", "u8 data, 7-bit weights", "s8 data, 8-bit weights"


def entry(int8: bool, loss: float) -> dict[str, object]:
    return {"sensitivity": [{"group": "head", "convolutions": 1, "loss": loss, "int8": int8}]}


@pytest.mark.parametrize(
    ("known", "int8", "loss"),
    [
        ({U7: entry(False, 0.2), U8: entry(True, 0.1), S8: entry(False, 0.3)}, False, 0.3),
        ({U7: entry(False, 0.2), U8: entry(True, 0.1)}, True, None),
        ({U7: entry(False, 0.2)}, False, None),
    ],
)
def test_the_nearest_that_was_measured(known: dict[str, object], int8: bool, loss: float | None) -> None:
    cache = replace(read_cache(zoo.cache_path()), measured=known)
    (part,) = parts_of(cache, S8)
    assert (part.int8, part.loss) == (int8, loss)


def test_nothing_was_measured() -> None:
    assert parts_of(replace(read_cache(zoo.cache_path()), measured={}), S8) == ()
