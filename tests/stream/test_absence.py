"""What is shown of a source that gives no frame."""

from __future__ import annotations

import numpy as np
import pytest

from rtpsp.stream.absence import PLAIN_SIZE, darkened, words_of, write_on
from rtpsp.stream.health import Health


def lost(attempt: int, next_try: float | None) -> Health:
    health = Health()
    health.lose()
    health.fault("refused", "rtsp://door: nothing listens there")
    health.attempt, health.next_try = attempt, next_try
    return health


@pytest.mark.parametrize(
    ("health", "last", "ended", "expected"),
    [
        (Health(), 98.0, "", ("last frame 2 s ago", "no frame comes")),
        (Health(present=False), None, "", ("no frame so far", "try 1 now", "it is not there yet")),
        (lost(2, 104.4), -100.0, "", ("last frame 3 min ago", "try 3 in 4 s", "rtsp://door: nothing listens there")),
        (lost(0, None), -9900.0, "", ("last frame 2 h 46 min ago", "try 1 now", "rtsp://door: nothing listens there")),
        (lost(9, None), 0.0, "gone for good", ("last frame 100 s ago", "gone for good")),
    ],
)
def test_words(health: Health, last: float | None, ended: str, expected: tuple[str, ...]) -> None:
    assert words_of(health, 100.0, last, ended) == ("NO SIGNAL", *expected)


@pytest.mark.parametrize("size", [(480, 640), (1080, 1920), (60, 80), (9, 400), (400, 9)])
def test_the_last_picture_is_darkened_and_written_on(size: tuple[int, int]) -> None:
    picture = np.full((*size, 3), 200, np.uint8)
    ground = darkened(picture)
    assert (ground == 60).all() and (picture == 200).all()
    words = words_of(lost(2, None), 100.0, 90.0)
    shown = write_on(ground, words)
    assert shown.shape == picture.shape and shown.dtype == np.uint8 and (ground == 60).all()
    if min(size) >= 60:
        assert shown.max() == 255
        assert (shown[:, 0] == 60).all() and (shown[:, -1] == 60).all(), "no line runs over the edge"


def test_without_a_picture_it_is_grey() -> None:
    assert darkened(None).shape == (*PLAIN_SIZE, 3)
    assert (write_on(darkened(None), ("NO SIGNAL", "тест\n")) != write_on(darkened(None), ("NO SIGNAL",))).any()
