"""What systemd is told of a service of ``Type=notify``: that it is ready, alive, stopping, and how it fares.

The protocol is that of sd_notify(3): datagrams of ``NAME=value`` to the socket that ``$NOTIFY_SOCKET`` names. Nothing
here fails where there is no systemd.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping
from types import TracebackType

from rtpsp.outside.condition import reasons
from rtpsp.stream.snapshot import Snapshot
from rtpsp.timing import now

_log = logging.getLogger(__name__)

STATUS_SECONDS = 10.0
"""How often the line of ``systemctl status`` is made anew."""
STARTING_SECONDS = 0.25
"""How often we look whether the engine is ready, as long as it is not."""
JOIN_SECONDS = 2.0


def notify(state: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Tell systemd, if it wants to be told.

    Args:
        state: Lines such as ``READY=1`` or ``STATUS=29.8 fps``.
        environ: Where ``NOTIFY_SOCKET`` stands.

    Returns:
        Whether it was sent.
    """
    place = environ.get("NOTIFY_SOCKET", "")
    if not place.startswith(("/", "@")) or not hasattr(socket, "AF_UNIX"):
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | getattr(socket, "SOCK_CLOEXEC", 0)) as out:
            out.settimeout(1.0)
            out.sendto(state.encode(), "\0" + place[1:] if place.startswith("@") else place)
    except OSError as error:
        _log.debug("systemd cannot be told %s: %s", state, error)
        return False
    return True


def watchdog_seconds(environ: Mapping[str, str] = os.environ) -> float | None:
    """After how much silence systemd ends this process; None for never, or where another process is meant."""
    try:
        seconds = int(environ.get("WATCHDOG_USEC", "0")) / 1e6
        meant = int(environ.get("WATCHDOG_PID", os.getpid())) == os.getpid()
    except ValueError:
        return None
    return seconds if meant and seconds > 0 else None


class Keeper:
    """Keeps systemd informed while a run goes on, from a thread of its own; used around it with ``with``.

    It says that the service is ready once the engine is, and that it is alive at half of the time that
    ``WatchdogSec=`` allows, as long as no stage stands still: a source that is away is no reason to start anew, a hang
    in a driver is the only thing that a new process cures. Does nothing where systemd did not ask.

    Args:
        snapshot: `rtpsp.stream.pipeline.Pipeline.snapshot`.
        environ: Where systemd's variables stand.
        wait: Waits for so many seconds, or until told to end, and returns whether it was; a test's own.
    """

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        environ: Mapping[str, str] = os.environ,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        self._snapshot = snapshot
        self._environ = environ
        self._end = threading.Event()
        self._wait = wait or self._end.wait
        self._interval = min((watchdog_seconds(environ) or 2 * STATUS_SECONDS) / 2, STATUS_SECONDS)
        self._pings = watchdog_seconds(environ) is not None
        self._ready = self._stopping = False
        self._told = -STATUS_SECONDS
        self._thread: threading.Thread | None = None
        if environ.get("NOTIFY_SOCKET"):
            self._thread = threading.Thread(target=self._run, name="outside-systemd", daemon=True)

    def __enter__(self) -> Keeper:
        if self._thread:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end.set()
        if self._thread:
            self._thread.join(JOIN_SECONDS)
            self._say_stopping()

    def tell(self) -> None:
        """Look once, and say what there is to be said."""
        snapshot = self._snapshot()
        if snapshot.ready and not self._ready:
            self._ready = notify("READY=1", self._environ)
        if self._pings and not snapshot.stalled:
            notify("WATCHDOG=1", self._environ)
        if snapshot.stopping:
            self._say_stopping()
        elif now() - self._told >= min(STATUS_SECONDS, self._interval):
            self._told = now()
            notify(f"STATUS={to_status(snapshot)}", self._environ)

    def _run(self) -> None:
        while True:
            try:
                self.tell()
            except Exception:  # then systemd hears nothing, and does what it is there for
                _log.warning("systemd cannot be told how the run fares", exc_info=True)
            if self._wait(self._interval if self._ready else min(STARTING_SECONDS, self._interval)):
                return

    def _say_stopping(self) -> None:
        if not self._stopping:
            self._stopping = notify("STOPPING=1", self._environ)


def to_status(snapshot: Snapshot) -> str:
    """A run in one line: what is wrong with it, or else its rate and how old its pictures are."""
    found = reasons(snapshot)
    if found:
        return "; ".join(found)
    fps = sum(source.fps or 0 for source in snapshot.sources)
    ages = [source.last_age for source in snapshot.sources if source.last_age is not None]
    several = f" of {len(snapshot.sources)} sources" if len(snapshot.sources) > 1 else ""
    return f"{fps:.1f} fps{several}" + (f", frames up to {max(ages) * 1e3:.0f} ms old" if ages else "")
