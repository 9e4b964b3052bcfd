"""What Ctrl-C, SIGTERM and SIGHUP do: they end the process at once, or while a verb works are raised in it.

A signal that is raised inside an import is lost more often than not: C modules turn it into an error of theirs, or drop
it. Nothing is open yet at that time, so that there is nothing to close in order.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

from rtpsp.errors import EXIT_INTERRUPTED, EXIT_TERMINATED

EXIT_HUNG_UP = 129

NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
EXIT_OF = {signal.SIGINT: EXIT_INTERRUPTED, signal.SIGTERM: EXIT_TERMINATED}
if hasattr(signal, "SIGHUP"):  # the terminal was closed; Windows has none
    NAMES[signal.SIGHUP], EXIT_OF[signal.SIGHUP] = "SIGHUP", EXIT_HUNG_UP

Handler = Callable[[int, FrameType | None], Any] | int | None


class Terminated(BaseException):
    """SIGTERM or SIGHUP arrived."""


def end_at_once(number: int, frame: FrameType | None) -> NoReturn:
    """Say why, and end with 130, 143 or 129."""
    # this module comes before all others, so that the one that knows how lines look may not be there yet
    to_line = getattr(sys.modules.get("rtpsp.cli.logs"), "to_line", "rtpsp: {}".format)
    with contextlib.suppress(OSError):
        os.write(2, f"{to_line(f'stopped by {NAMES[signal.Signals(number)]}')}\n".encode())
    os._exit(EXIT_OF[signal.Signals(number)])


class Raise:
    """Raises `KeyboardInterrupt` or `Terminated`.

    Attributes:
        arrived: The last signal. Whatever error it was turned into on its way up, it is what ended the verb.
    """

    def __init__(self) -> None:
        self.arrived: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> NoReturn:
        self.arrived = number
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated


def install(handler: Handler) -> dict[signal.Signals, Handler]:
    """Hand these signals to `handler`, but for one that is ignored: under nohup and behind a shell's ``&`` it stays so.

    Returns:
        What handled them before; for `restore`.
    """
    before: dict[signal.Signals, Handler] = {number: signal.getsignal(number) for number in NAMES}
    for number, old in before.items():
        if old is not signal.SIG_IGN:
            signal.signal(number, handler)
    return before


def restore(before: dict[signal.Signals, Handler]) -> None:
    """Undo `install`."""
    for number, handler in before.items():
        if handler is not None:  # installed from C: it cannot be put back, nor was it there in a process of Python's
            signal.signal(number, handler)


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Around heavy imports inside a verb, before it opens anything: a signal ends the process at once."""
    before = install(end_at_once)
    try:
        yield
    finally:
        restore(before)
