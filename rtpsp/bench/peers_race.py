"""One peer after the other against our engines, each pairing in turn and in its own processes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from rtpsp.bench.lanes import Timelines, interleave
from rtpsp.bench.peers_environment import default_folder, environment_python
from rtpsp.bench.peers_material import Material
from rtpsp.bench.peers_process import PeerLane, PeerProcess, StoppedByUser
from rtpsp.bench.peers_row import OURS, PRECISION_OF, PeerRow, Skipped
from rtpsp.bench.timeline import Timeline
from rtpsp.bench.truth import check_truth
from rtpsp.build import BuildOptions, build_engine
from rtpsp.engine.file import read_engine_file
from rtpsp.errors import DataError, MissingError, RtpspError
from rtpsp.int8 import Int8Options

if TYPE_CHECKING:
    from rtpsp.bench.peers import Peer, PeersOptions
    from rtpsp.header import Precision

SETTLING_FRAMES = 3
"""First pictures of a play that do not count: queues fill, and ours has only just opened its engine."""
LEAST_FRAMES = 15
PRECISIONS = ("fp32", "fp16", "int8")


class Race:
    """Our engines in processes of their own, open as long as the race lasts, and the peers that come and go.

    Args:
        options: As `rtpsp.bench.peers.run_peers` has them.
        material: Frames, weights and the reference.
        folder: ``bench/peers``.
        model: The model file.
        slices: Plays of the video in a loop.
        skipped: What cannot be timed is added here.
        tell: As `run_peers`.
        stopped: Likewise.
    """

    def __init__(
        self,
        options: PeersOptions,
        material: Material,
        folder: Path,
        model: Path,
        slices: int,
        skipped: list[Skipped],
        tell: Callable[[str, float], None],
        stopped: Callable[[], bool] | None,
    ) -> None:
        self._options, self._material, self._folder, self._model = options, material, folder, model
        self._slices, self._skipped, self._tell = slices, skipped, tell
        self._asked = stopped or (lambda: False)
        self.stopped = False
        self._ours: dict[str, PeerLane] = {}
        self._our_default = "fp32"
        self._stack = ExitStack()

    def __enter__(self) -> Race:
        try:
            self._open_ours()
        except StoppedByUser:
            self.stopped = True
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def against(self, peer: Peer, precision: str, shares: tuple[float, float]) -> PeerRow | None:
        """Race one peer in one of its precisions.

        Args:
            peer: Which.
            precision: By its own name.
            shares: Of all the work, done before it and after it.

        Returns:
            None where it was not timed: `skipped` says why, unless a person wanted an end.
        """
        name = f"{peer.title} {precision}"
        begin, end = shares
        try:
            self._tell(f"prepare {name}", begin)
            python = environment_python(
                peer.folder / "requirements.txt", self._options.environments or default_folder()
            )
            with ExitStack() as stack:
                process = self._start(name, python, peer.file, {"precision": precision}, peer.loops)
                stack.callback(process.close)
                return self._race(
                    peer, precision, process, lambda what, share: self._tell(what, begin + (end - begin) * share)
                )
        except StoppedByUser:
            self.stopped = True
        except RtpspError as error:
            self._skipped.append(Skipped(name, str(error).removeprefix(f"{name}: ")))
        return None

    def _race(
        self, peer: Peer, precision: str, process: PeerProcess, tell: Callable[[str, float], None]
    ) -> PeerRow | None:
        lane, ready = PeerLane(process), process.ready
        ran = str(ready["ran"])
        alike, default = PRECISION_OF.get(ran), precision == peer.precisions[0]
        agreement = self._agreement(lane, alike or "int8")
        wanted = (alike, self._our_default if default else None)
        ours = {name: self._ours[name] for name in wanted if name in self._ours}
        ours = ours or {self._our_default: self._ours[self._our_default]}
        lanes = [lane, *ours.values()]
        idle = process.idle_percent()
        if peer.loops:
            found = self._loops(lanes, tell)
        else:
            found = interleave(
                lanes, self._material.count, seconds=self._options.seconds, warmup=self._options.warmup,
                tell=tell, stopped=self._stops,
            )  # fmt: skip
        if lane.name in found.failed:
            raise MissingError(found.failed[lane.name])
        if not len(found[lane.name]):
            return None
        beside = {name: found[our.name] for name, our in ours.items() if our.name in found}
        return PeerRow(
            peer.name, peer.title, precision, default, ran, ready["versions"], ready["threads"], peer.guide,
            found[lane.name], beside, alike if alike in beside else None, self._our_default, agreement,
            lane.cores_busy, idle, peer.loops,
        )  # fmt: skip

    def _loops(self, lanes: list[PeerLane], tell: Callable[[str, float], None]) -> Timelines:
        """Plays of the video in turn: of each, the seconds a frame, without its first few."""
        found = Timelines()
        frames = min(self._material.video_frames, LEAST_FRAMES)
        plays: dict[str, list[tuple[float, float]]] = {lane.name: [] for lane in lanes}
        for number in range(self._slices + 1):  # the first is for warming up, and tells how long a play may be
            if self._stops():
                break
            first = number % len(lanes)
            slowest = 0.0
            for lane in [*lanes[first:], *lanes[:first]]:
                stamps = lane.loop(frames)[SETTLING_FRAMES:]
                if len(stamps) < 2:
                    raise DataError(
                        f"{lane.name} showed {len(stamps) + SETTLING_FRAMES} frames of the video, expected "
                        f"{SETTLING_FRAMES + 2} or more: give a longer one"
                    )
                seconds = (stamps[-1] - stamps[0]) / (len(stamps) - 1)
                slowest = max(slowest, seconds)
                if number:
                    plays[lane.name].append((0.0, seconds))
            if not number and slowest:
                room = SETTLING_FRAMES + round(self._options.seconds / self._slices / slowest)
                frames = min(self._material.video_frames, max(frames, room))
            tell(f"{lanes[0].name}, the whole loop", (number + 1) / (self._slices + 1))
        counted = min(map(len, plays.values()))
        for name, taken in plays.items():
            found[name] = Timeline.of(taken[:counted])
        return found

    def _agreement(self, lane: PeerLane, precision: str) -> float:
        """With the model in FP32, in percent.

        Raises:
            BoundNotMet: Less than can be expected.
        """
        reference = self._material.reference
        answers = [lane.class_map(index) for index in range(len(reference))]
        trained = self._options.trained
        return check_truth(lane.name, answers, reference, precision=precision, trained=trained)

    def _start(self, name: str, python: Path, file: Path, told: dict[str, Any], loops: bool) -> PeerProcess:
        folder = self._material.folder / name.replace(" ", "-")
        folder.mkdir()
        job = {**self._material.job, "folder": str(folder), **told}
        if loops:
            job["frames"] = self._material.small_frames
        return PeerProcess(name, python, file, job, folder, stopped=self._stops)

    def _open_ours(self) -> None:
        """Build and open our engines; the default has to be there, others may be missing on this machine."""
        engines: dict[str, Path] = dict(self._options.engines)
        wanted: tuple[str, ...] = tuple(engines) or PRECISIONS
        if not engines:
            self._tell(f"build the engine that {OURS} takes by itself", 0.0)
            path = self._build(None)
            engines[read_engine_file(path).header.precision] = path
        self._our_default = next(iter(engines))
        for precision in wanted:
            name = f"{OURS} {precision}"
            try:
                if precision not in engines:
                    self._tell(f"build {name}", 0.0)
                    engines[precision] = self._build(precision)
                told = {"precision": precision, "engine": str(engines[precision].resolve())}
                file = self._folder / OURS / f"{OURS}_peer.py"
                process = self._start(name, Path(sys.executable), file, told, loops=False)
                self._stack.callback(process.close)
                self._agreement(PeerLane(process), precision)
                self._ours[precision] = PeerLane(process)
            except RtpspError as error:
                if precision == self._our_default:
                    raise
                self._skipped.append(Skipped(name, str(error)))

    def _build(self, precision: str | None) -> Path:
        path = self._material.folder / f"{precision or 'default'}.engine"
        options = BuildOptions(cast("Precision | None", precision), threads=self._options.threads)
        if precision == "int8" and not self._material.brings_ranges:
            # of random weights nobody can ask an accuracy; whether it computes rightly is checked before it is timed
            bound = None if self._options.trained else 0.0
            int8 = Int8Options(calib=str(self._material.calibration_folder()), min_agreement=bound)
            options = replace(options, int8=int8)
        return build_engine(self._model, path, options).path

    def _stops(self) -> bool:
        self.stopped = self.stopped or self._asked()
        return self.stopped
