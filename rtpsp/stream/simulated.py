"""The simulator as a source: a drawn street with its own ground truth, and a camera's faults on request.

`rtpsp.stream.simulator_uri` lists what a URI may say. Without live=1 the simulator is like a file: as fast as it is
read, nothing is lost. With live=1 it is a camera that starts with the first read and then exposes frame i at i/fps
seconds on its own clock, whether or not anyone reads.

`Frame.captured` is worked out from time stamp and arrival as for any camera; the simulator does not tell what it knows.
"""

from __future__ import annotations

import itertools
import math
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

from rtpsp.errors import SourceError, SourceLost
from rtpsp.sim.street import Street
from rtpsp.sim.timecode import draw_timecode
from rtpsp.stream.clock import CaptureClock
from rtpsp.stream.frame import Frame, Image
from rtpsp.stream.names import shown
from rtpsp.stream.simulator_uri import Simulation as Simulation
from rtpsp.stream.simulator_uri import parse_simulation as parse_simulation
from rtpsp.stream.source import Source, SourceInfo, SourceOptions, refuse_others

STALL_AT = 5.0  # seconds into an endless run where a stall begins if it is not said


class Scene(Protocol):
    """What is drawn: `rtpsp.sim.street.Street`, or a stand-in of it."""

    def draw(self, index: int, out: Image | None = None) -> Image:
        """Picture `index` as uint8 [height, width, 3] BGR, written into `out` where it is given."""

    def truth(self, index: int) -> Image:
        """Class ids of picture `index` as uint8 [height, width]."""


def open_simulator(uri: str, options: SourceOptions) -> Source:
    """Open the simulator.

    Args:
        uri: `sim://street?…`, with the parameters that `rtpsp.stream.simulator_uri` lists.
        options: `loop` and `read_timeout` are read, and without live=1 `start` and `end`.

    Raises:
        SourceError: An unknown scene, or a parameter that is unknown, malformed or without effect.
        UsageError: `start` or `end` with live=1: a camera has neither.
    """
    simulation = parse_simulation(uri)
    uri = shown(uri)
    if simulation.live:
        refuse_others(options, "a live simulator", ("loop",))
    try:
        scene = Street(simulation.h, simulation.w, simulation.fps, simulation.seed)
    except ValueError as error:
        raise SourceError(f"{uri}: {error}") from error
    return (LiveSimulator if simulation.live else FileSimulator)(uri, simulation, scene, options)


class FileSimulator(Source):
    """Frames as fast as they are read; the picture is drawn by `to_bgr`, so that reading costs next to nothing."""

    def __init__(self, uri: str, simulation: Simulation, scene: Scene, options: SourceOptions) -> None:
        frames = simulation.frames or 300
        self._first = math.ceil(options.start * simulation.fps - 1e-6)
        beyond = frames if options.end is None else min(frames, math.ceil(options.end * simulation.fps - 1e-6))
        self._count = beyond - self._first
        if self._count < 1:
            raise SourceError(f"{uri}: no frame between {options.start:g} s and {beyond / simulation.fps:g} s")
        self._simulation, self._scene, self._loop = simulation, scene, options.loop
        self._index = 0
        self.info = _info(uri, simulation, None if options.loop else self._count)

    def read(self) -> Frame | None:
        """The next frame, or None at the end."""
        if not self._loop and self._index >= self._count:
            return None
        index, self._index = self._index, self._index + 1
        pts = index / self._simulation.fps
        picture = self._first + index % self._count
        return _frame(self._simulation, self._scene, index, picture, pts, time.monotonic(), round(pts * 1e6))

    def close(self) -> None:
        """End it: there is nothing to let go of."""
        self._index, self._loop = self._count, False


class LiveSimulator(Source):
    """A camera with its own clock; see `rtpsp.stream.simulator_uri` for its faults.

    It needs no thread: when each frame is exposed and delivered is known beforehand, so that a read works out what the
    device holds by now. `clock` and `sleep` stand in for time itself in tests.
    """

    def __init__(
        self,
        uri: str,
        simulation: Simulation,
        scene: Scene,
        options: SourceOptions,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._simulation, self._scene, self._timeout = simulation, scene, options.read_timeout
        self._clock, self._sleep = clock, sleep
        self._count = None if options.loop else simulation.frames
        self._capture_clock = CaptureClock()
        self._start: float | None = None
        self._deliveries = _deliveries(simulation, self._count)
        self._coming = next(self._deliveries, None)
        self._device: deque[int] = deque(maxlen=simulation.fifo)
        self._last = -1
        self.info = _info(uri, simulation, self._count)

    def read(self) -> Frame | None:
        """The oldest frame that the device holds, or the next one to be delivered; None at the end.

        Raises:
            SourceLost: Nothing was delivered within the read time-out.
        """
        called = now = self._clock()
        if self._start is None:
            self._start = now
        while not self._held(now - self._start):
            if self._coming is None:
                self._count_missed(self._count or 0)
                return None
            due = min(self._start + self._coming[1], called + self._timeout)
            if now >= called + self._timeout:
                raise SourceLost(f"{self.info.uri} delivered no frame for {self._timeout:g} s")
            self._sleep(max(0.0, due - now))
            now = self._clock()
        index = self._device.popleft()
        self._count_missed(index)
        pts = index / self._simulation.fps
        captured = self._capture_clock.captured(pts, now)
        picture = index % self._simulation.frames if self._simulation.frames else index
        return _frame(self._simulation, self._scene, index, picture, pts, captured, round((self._start + pts) * 1e6))

    def close(self) -> None:
        """Switch the camera off: there is nothing to let go of."""
        self._deliveries, self._coming, self._count = iter(()), None, None
        self._device.clear()

    def _held(self, elapsed: float) -> deque[int]:
        """What the device holds when so many seconds have passed; a full fifo lets go of its oldest frame."""
        while self._coming is not None and self._coming[1] <= elapsed + 1e-6:  # the rounding of a sleep until then
            self._device.append(self._coming[0])
            self._coming = next(self._deliveries, None)
        return self._device

    def _count_missed(self, index: int) -> None:
        self.missed += max(0, index - self._last - 1)
        self._last = index


def _deliveries(simulation: Simulation, count: int | None) -> Iterator[tuple[int, float]]:
    """Each frame that the device gets out and its time in seconds from the start, unless one ahead holds it up."""
    chance = random.Random(simulation.seed)
    third = STALL_AT if count is None else count / simulation.fps / 3
    stall_at = third if simulation.stall_at is None else simulation.stall_at
    held: list[int] = []
    for index in itertools.count() if count is None else range(count):
        # Both are drawn for every frame, so that one fault does not change where the other strikes.
        lost, delay = chance.random() < simulation.drop, chance.random() * simulation.jitter
        if not lost:
            held.append(index)
        if (index + 1) % simulation.burst and index + 1 != count:
            continue
        due = index / simulation.fps + delay
        if stall_at <= due < stall_at + simulation.stall:
            due = stall_at + simulation.stall
        yield from ((frame, due) for frame in held)
        held = []


def _frame(s: Simulation, scene: Scene, index: int, picture: int, pts: float, captured: float, exposed: int) -> Frame:
    draw = partial(_draw, scene, picture, exposed if s.timecode else None)
    return Frame(index, pts, captured, s.h, s.w, draw, truth=partial(scene.truth, picture))


def _draw(scene: Scene, picture: int, exposed: int | None, out: Image | None) -> Image:
    image = scene.draw(picture, out)
    if exposed is not None:
        draw_timecode(image, exposed)
    return image


def _info(uri: str, s: Simulation, frames: int | None) -> SourceInfo:
    return SourceInfo(uri, "sim", s.h, s.w, s.fps, frames, s.live, f"street with seed {s.seed}")
