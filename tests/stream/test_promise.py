"""A camera's promised rate against what it gives."""

from __future__ import annotations

import pytest

from rtpsp.stream.frame import Frame, Image
from rtpsp.stream.health import Health
from rtpsp.stream.promise import Promise


def nothing(out: Image | None) -> Image:
    raise AssertionError("nobody asked for a picture")


def look(promise: Promise, rate: float, seconds: float, every: int = 1) -> None:
    for i in range(0, int(rate * seconds) + 1, every):
        promise.look(Frame(i, i / rate, 500 + i / rate, 1, 1, nothing))


@pytest.mark.parametrize("fps", [30.0, None])
def test_a_promise_that_is_kept_or_was_not_made_is_not_spoken_of(
    fps: float | None, caplog: pytest.LogCaptureFixture
) -> None:
    health = Health()
    look(Promise("camera 0", fps, health), 27.5, 60)
    assert health.stamps == {} and not caplog.records


def test_frames_that_were_lost_on_the_way_were_given() -> None:
    health = Health()
    look(Promise("camera 0", 30.0, health), 30, 60, every=4)
    assert health.stamps == {}


def test_half_a_rate_is_told_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    health = Health()
    look(Promise("camera 0", 30.0, health), 14.96, 61)
    assert health.stamps == {"slow": 6}
    assert [record.getMessage() for record in caplog.records] == [
        "camera 0 promises 30 frames a second and gives 14.96: more light, or a smaller size, may help"
    ]
