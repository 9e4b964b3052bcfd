"""A short run of the live loop on frames from memory: what rate a machine gives with an engine and its options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rtpsp.arrays import Image
from rtpsp.bench.frames import PictureSource
from rtpsp.engine.base import Engine
from rtpsp.live import RunOptions, run
from rtpsp.stream.frame import Rendered, View
from rtpsp.stream.sink import Sink
from rtpsp.timing import Rate, now

PROBE_SECONDS = 1.0
"""Seconds that count."""
WARMUP = 3
"""Frames before, in which caches fill."""
_LEAST = 5


class RateSink(Sink):
    """Counts frames after a warm-up, and stops the run when it has counted for long enough.

    Args:
        seconds: That count.
        view: The picture that is to be drawn, and is thrown away.
    """

    def __init__(self, seconds: float, view: View | None = None) -> None:
        self.view = view
        self._seconds = seconds
        self._before = 0
        self._rate = Rate()

    def write(self, item: Rendered) -> None:
        """Count a frame."""
        del item
        if self._before < WARMUP:
            self._before += 1
        else:
            self._rate.add(now())

    @property
    def wants_to_stop(self) -> bool:
        """Once so many seconds, and frames enough for a rate, were counted."""
        return self._rate.count > _LEAST and self._rate.seconds >= self._seconds

    @property
    def fps(self) -> float:
        """(n - 1) / seconds of those that count; 0 before there are two."""
        return self._rate.fps or 0.0


def loop_rate(
    engine: Path | Engine,
    pictures: Sequence[Image],
    options: RunOptions,
    view: View | None = None,
    seconds: float = PROBE_SECONDS,
) -> float:
    """Frames a second of the loop: fit, inference, class map at the frame's size, and the picture if one is wanted.

    Neither a camera nor a decoder nor an encoder runs beside it.

    Args:
        engine: An engine file, or an engine that is not open.
        pictures: Frames, uint8 [H, W, planes] each, all of one size and with the model's planes.
        options: How the run goes; source, pace and end are the probe's own.
        view: The picture to draw; None draws none.
        seconds: To count for.

    Raises:
        RtpspError: As `rtpsp.run`.
    """
    sink, usual = RateSink(seconds, view), RunOptions()
    how = replace(options, source=usual.source, policy="every", pace=usual.pace, every=1, max_fps=None, max_frames=None)
    run(PictureSource(pictures), engine, [sink], how)
    return sink.fps
