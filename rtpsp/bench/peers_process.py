"""A peer in its own process, and the lane that lets it take its turns.

``bench/peers/protocol/serve.py`` is the other side and holds the protocol. While another lane has its turn, the process
is *stopped* (SIGSTOP): many libraries let their threads spin for a while after an inference, and what spins takes the
processor from whoever comes next.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from rtpsp.arrays import ClassMap
from rtpsp.bench.peers_environment import bare_environ
from rtpsp.errors import MissingError
from rtpsp.timing import now

LOAD_SECONDS = 1200.0
"""For a peer to be ready: it may quantise, and compile C++."""
TURN_SECONDS = 120.0
"""For one frame."""
IDLE_SECONDS = 0.5
_STEP = 0.5


class StoppedByUser(Exception):
    """Whoever started the race wants it to end; what was measured so far stays."""


class PeerProcess:
    """One peer in one precision, loaded and paused.

    Args:
        name: For people, with its precision.
        python: The interpreter of its environment.
        peer: Its file, ``bench/peers/NAME/NAME_peer.py``.
        job: The fields of ``bench/peers/protocol/peer_job.py``'s `Job`, as plain JSON values.
        folder: Where it may write; there is such a folder.
        stopped: Asked while it is waited for.
        load_seconds: How long it may take to be ready.
        turn_seconds: How long it may take for one frame.

    Raises:
        MissingError: It is not for this machine, died, or was not ready in time.
        StoppedByUser: `stopped` said so.
    """

    def __init__(
        self,
        name: str,
        python: Path,
        peer: Path,
        job: Mapping[str, Any],
        folder: Path,
        *,
        stopped: Callable[[], bool] | None = None,
        load_seconds: float = LOAD_SECONDS,
        turn_seconds: float = TURN_SECONDS,
    ) -> None:
        self.name, self._stopped, self.turn_seconds = name, stopped or (lambda: False), turn_seconds
        self._log, self._rest, self._paused = folder / "output.txt", b"", False
        (folder / "job.json").write_text(json.dumps(dict(job)), encoding="utf-8")
        serve, root = peer.parents[1] / "protocol" / "serve.py", peer.parents[3]
        with self._log.open("wb") as log:
            self._child = subprocess.Popen(
                [str(python), str(serve), str(peer), str(folder / "job.json")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=folder,
                env=bare_environ(root),
            )
        try:
            answer = self._answer(load_seconds)
            if "not_here" in answer:
                raise MissingError(f"{name}: {answer['not_here']}")
            self.ready: dict[str, Any] = answer["ready"]
            self.pause()
        except BaseException:
            self.close()
            raise

    def ask(self, patience: float | None = None, **request: Any) -> dict[str, Any]:
        """One request and its answer; the process runs only in between.

        Args:
            patience: Seconds that it may take; None is a turn's.
            request: As ``serve.py`` takes it.

        Raises:
            MissingError: It died, or did not answer in time; it is ended then.
            StoppedByUser: `stopped` said so.
        """
        self.resume()
        stdin = self._child.stdin
        assert stdin is not None
        try:
            stdin.write(json.dumps(request).encode() + b"\n")
            stdin.flush()
        except OSError:  # it is gone: which reading will tell
            pass
        answer = self._answer(self.turn_seconds if patience is None else patience)
        self.pause()
        return answer

    def idle_percent(self) -> float:
        """CPU that the process burns in the half second after an inference, in percent of one core, if it is let."""
        self.ask(do="run", index=0)
        burnt: float = self.ask(do="idle", seconds=IDLE_SECONDS)["cpu"]
        return 100 * burnt / IDLE_SECONDS

    def pause(self) -> None:
        """Stop all its threads, and wait until they stand."""
        if self._paused or self._child.poll() is not None:
            return
        self._child.send_signal(signal.SIGSTOP)
        if hasattr(os, "waitid"):
            os.waitid(os.P_PID, self._child.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        self._paused = True

    def resume(self) -> None:
        """Let its threads go on."""
        if self._paused:
            self._child.send_signal(signal.SIGCONT)
            self._paused = False

    def close(self) -> None:
        """End it with all that it has started; may be called again."""
        self.resume()
        child = self._child
        if child.stdin is not None:
            with contextlib.suppress(OSError):
                child.stdin.close()
        try:
            child.wait(5.0)
        except subprocess.TimeoutExpired:
            self._kill()
        if child.stdout is not None:
            child.stdout.close()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            group = os.getpgid(self._child.pid)  # its own, unless it has not come so far
            if group == self._child.pid:
                os.killpg(group, signal.SIGKILL)
            else:
                self._child.kill()
        self._child.wait()

    def _answer(self, seconds: float) -> dict[str, Any]:
        line = self._line(seconds)
        try:
            values = json.loads(line)
        except ValueError:
            values = None
        if not isinstance(values, dict):
            self._kill()
            raise MissingError(f"{self.name}: its process answered {line[:80]!r}, expected one JSON object")
        return values

    def _line(self, seconds: float) -> bytes:
        stdout = self._child.stdout
        assert stdout is not None
        deadline = now() + seconds
        while b"\n" not in self._rest:
            if self._stopped():
                self._kill()
                raise StoppedByUser
            left = deadline - now()
            if left <= 0:
                self._kill()
                raise MissingError(f"{self.name}: no answer within {seconds:.0f} s: its process was ended")
            if select.select([stdout], [], [], min(left, _STEP))[0]:
                data = os.read(stdout.fileno(), 1 << 16)
                if not data:
                    self._died()
                self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _died(self) -> NoReturn:
        try:
            code = self._child.wait(5.0)
        except subprocess.TimeoutExpired:
            self._kill()
            code = self._child.wait()
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        said = f": {lines[-1].strip()[:300]}" if lines else ""
        raise MissingError(f"{self.name}: its process ended with exit code {code}{said}")


class PeerLane:
    """A peer's process as a lane (`rtpsp.bench.lanes.Lane`): from a BGR frame to its class map, all inside."""

    def __init__(self, process: PeerProcess) -> None:
        self.name, self._process = process.name, process
        self._cpu = self._wall = 0.0

    def run(self, index: int) -> tuple[float, float]:
        """Segment a frame; begin and end in seconds of `rtpsp.timing.now`, taken in the peer's process."""
        answer = self._process.ask(do="run", index=index)
        self._cpu += answer["cpu"]
        self._wall += answer["end"] - answer["begin"]
        return answer["begin"], answer["end"]

    @property
    def cores_busy(self) -> float | None:
        """Processor seconds a second of its turns: how many cores it kept busy; None before the first."""
        return self._cpu / self._wall if self._wall else None

    def class_map(self, index: int) -> ClassMap:
        """The answer to a frame, [H, W]."""
        found: ClassMap = np.load(self._process.ask(do="answer", index=index)["saved"])
        return found

    def loop(self, frames: int) -> list[float]:
        """Play the video once; when each picture was there, in seconds of `rtpsp.timing.now`."""
        stamps: list[float] = self._process.ask(self._process.turn_seconds * 5, do="loop", frames=frames)["stamps"]
        return stamps

    def close(self) -> None:
        """Pause it: its process is the race's owner's."""
        self._process.pause()
