"""The simulator as a source: a drawn street with its own ground truth, and a camera's faults on request.

`rtpsp.stream.simulator_uri` lists what a URI may say. Without live=1 the simulator is like a file: as fast as it is
read, nothing is lost. With live=1 it is a camera that starts with the first read and then exposes frame i at i/fps
seconds on its own clock, whether or not anyone reads (`rtpsp.stream.simulated_device`).

`Frame.captured` is worked out from time stamp and arrival as for any camera; the simulator does not tell what it knows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Protocol

from rtpsp.errors import SourceError, SourceLost
from rtpsp.sim.street import Street
from rtpsp.sim.timecode import draw_timecode
from rtpsp.stream.clock import CaptureClock
from rtpsp.stream.frame import Frame, Image
from rtpsp.stream.names import shown
from rtpsp.stream.promise import Promise
from rtpsp.stream.simulated_device import Device
from rtpsp.stream.simulator_uri import Simulation as Simulation
from rtpsp.stream.simulator_uri import parse_simulation as parse_simulation
from rtpsp.stream.source import Source, SourceInfo, SourceOptions, refuse_others
from rtpsp.stream.timeline import Timeline

READ_TIMEOUT = 2.0
"""Seconds that a read may take where `SourceOptions` does not say: as a camera's."""


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
    scene = _street(uri, simulation)
    if simulation.resize is not None:
        _street(uri, _resized(simulation))  # now, and not in a run of hours
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
    """A connection to a camera with its own clock; see `rtpsp.stream.simulator_uri` for its faults.

    `clock` and `sleep` stand in for time itself in tests. `device` is the camera, where it is already there.
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
        device: Device | None = None,
    ) -> None:
        self._simulation, self._scene, self._options = simulation, scene, options
        self._clock, self._sleep = clock, sleep
        self._timeout = READ_TIMEOUT if options.read_timeout is None else options.read_timeout
        self._device = device or Device(simulation, None if options.loop else simulation.frames)
        self._last = self._device.connect(clock())
        self._connection = self._device.connection
        self._deaths = 0 if device is None else device.deaths(device.elapsed(clock()))
        self._timeline = Timeline(self.health, CaptureClock())
        self._first_pts: float | None = None
        self.info = _info(uri, simulation, self._device.count)
        self._promise = Promise(uri, simulation.fps, self.health)

    def read(self) -> Frame | None:
        """The oldest frame that the device holds, or the next one to be delivered; None at the end.

        Raises:
            SourceLost: Nothing was delivered within the read time-out, or the device went away.
        """
        device = self._device
        called = now = self._clock()
        if device.hangs(device.elapsed(now)):
            device.hung = True
            self._sleep(self._simulation.hang_for)
            now = self._clock()
        while self._connection == device.connection:
            elapsed = device.elapsed(now)
            if device.deaths(elapsed) > self._deaths:
                raise SourceLost(f"{self.info.uri} went away")
            if device.holds(elapsed):
                return self._take(now)
            coming, death = device.next_delivery, device.next_death(elapsed)
            if coming is None:
                self._count_missed(device.count or 0)
                return None
            if now >= called + self._timeout:
                raise SourceLost(f"{self.info.uri} delivered no frame for {self._timeout:g} s", "time-out")
            due = min(called + self._timeout, now + coming - elapsed)
            self._sleep(max(0.0, (due if death is None else min(due, now + death - elapsed)) - now))
            now = self._clock()
        return None

    def reopen(self) -> Source:
        """Connect to the same device again; it has the size of `resize` once it was away.

        Raises:
            SourceError: The device is away, with the kind that `refuse` says.
        """
        device, simulation, scene = self._device, self._simulation, self._scene
        elapsed = device.elapsed(self._clock())
        if device.away_for(elapsed):
            kind = simulation.refuse
            raise SourceError(f"{self.info.uri} cannot be opened: {kind}, as its refuse says", kind)
        if device.deaths(elapsed) and simulation.resize is not None:
            simulation = _resized(simulation)
            scene = _street(self.info.uri, simulation)
        return LiveSimulator(
            self.info.uri, simulation, scene, self._options, clock=self._clock, sleep=self._sleep, device=device
        )

    def close(self) -> None:
        """End the connection; the device goes on without it."""
        self._connection = -1

    def _take(self, now: float) -> Frame:
        device, s = self._device, self._simulation
        index = device.take()
        self._count_missed(index)
        pts, captured = self._timeline.place(device.stamp(index), now, 1 / s.fps)
        if self._first_pts is None:
            self._first_pts = index / device.rate
        picture = index % s.frames if s.frames else index
        exposed = round(device.exposed(index) * 1e6)
        frame = _frame(s, self._scene, index, picture, self._first_pts + pts, captured, exposed)
        self._promise.look(frame)
        return frame

    def _count_missed(self, index: int) -> None:
        self.missed += max(0, index - self._last - 1)
        self._last = index


def _street(uri: str, s: Simulation) -> Street:
    try:
        return Street(s.h, s.w, s.fps, s.seed)
    except ValueError as error:
        raise SourceError(f"{uri}: {error}") from error


def _resized(s: Simulation) -> Simulation:
    assert s.resize is not None
    return replace(s, w=s.resize[0], h=s.resize[1])


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
