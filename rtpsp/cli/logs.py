"""What goes to standard error: lines for people, or one JSON object a line for machines; never a secret."""

from __future__ import annotations

import io
import json
import logging
import sys
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Literal

from rtpsp.cli.console import stderr
from rtpsp.redaction import Scrubbing, scrub

if TYPE_CHECKING:
    from collections.abc import MutableMapping

Format = Literal["text", "json"]
FORMATS: tuple[Format, ...] = ("text", "json")

_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)
_handler: logging.Handler | None = None
_json: _Printed | None = None


def configure(format: Format = "text", verbose: int = 0) -> None:
    """Send log records, and all that a command prints on standard error, there in this form; may be called again.

    A JSON line has ``time`` (UTC, ISO 8601), ``level``, ``logger`` and ``message``; ``exception`` with the traceback;
    ``stage`` for records of a thread of the live loop; and what a record carries beside, such as ``source``.

    Args:
        format: ``text`` or ``json``.
        verbose: 0 for warnings and errors, 1 for more, 2 for everything.
    """
    global _handler, _json
    release()
    root = logging.getLogger()
    # the stream is looked up for each line: whoever swaps sys.stderr means us too
    stream = _Stderr()
    _handler = logging.StreamHandler(stream)
    _handler.addFilter(Scrubbing())
    _handler.setFormatter(_json_formatter() if format == "json" else logging.Formatter("rtpsp: %(message)s"))
    root.addHandler(_handler)
    root.setLevel(_LEVELS[min(verbose, len(_LEVELS) - 1)])
    _json = _Printed(_handler) if format == "json" else None
    stderr.file = _json  # type: ignore[assignment]  # None is its own default: sys.stderr as it is then
    stderr.soft_wrap = _json is not None  # a line is a record, whatever its length


def release() -> None:
    """Undo `configure`, but for the level: logging is the caller's again where the process is."""
    global _handler, _json
    if _handler is not None:
        logging.getLogger().removeHandler(_handler)
    _handler = _json = None
    stderr.file, stderr.soft_wrap = None, False  # type: ignore[assignment]


def say(message: str, level: int = logging.ERROR) -> bool:
    """Write a line of the command itself with the level that it has, where lines are JSON.

    Returns:
        False where they are not: the line is the caller's to print.
    """
    if _json is None:
        return False
    _json.emit(message, level)
    return True


def to_line(message: str) -> str:
    """The line that says an error, without its end, for those who write past every handler: in a signal's."""
    if _json is None:
        return f"rtpsp: {scrub(message)}"
    values = {"time": _iso(datetime.now(timezone.utc)), "level": "error", "logger": "rtpsp", "message": scrub(message)}
    return json.dumps(values)


class _Stderr(io.TextIOBase):
    """Standard error as it is at the moment of writing."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text) if sys.stderr is not None else len(text)

    def flush(self) -> None:
        if sys.stderr is not None:
            sys.stderr.flush()


class _Printed(io.TextIOBase):
    """A file whose every line becomes a record: what is printed for people, on a console that is no terminal."""

    def __init__(self, handler: logging.Handler) -> None:
        self._handler = handler
        self._rest = ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if line.strip():
                self.emit(line.rstrip(), logging.INFO)
        return len(text)

    def emit(self, message: str, level: int) -> None:
        """One line, whatever the level that was asked for: people would read it too."""
        self._handler.handle(logging.LogRecord("rtpsp", level, "", 0, message.removeprefix("rtpsp: "), None, None))


def _json_formatter() -> logging.Formatter:
    from pythonjsonlogger.json import JsonFormatter

    class Formatter(JsonFormatter):
        """Our names for the fields, in our order."""

        def process_log_record(self, log_data: MutableMapping[str, Any]) -> Any:
            record = dict(log_data)
            thread = str(record.pop("threadName"))
            level = str(record.pop("levelname")).lower()
            time = _iso(datetime.fromtimestamp(record.pop("created"), timezone.utc))
            if thread.startswith("rtpsp-"):
                record.setdefault("stage", thread.split("-")[1])
            return {"time": time, "level": level, "logger": record.pop("name"), **record}

    return Formatter(
        ["created", "levelname", "name", "message", "threadName"],
        rename_fields={"exc_info": "exception", "stack_info": "stack"},
    )


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
