"""One command line from its words to an exit code: an error becomes one clear line."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import signal
import sys
import threading
import traceback

import click

from rtpsp.cli import _signals, logs
from rtpsp.cli._verbs import Asked, group
from rtpsp.cli.completion import COMPLETE
from rtpsp.cli.console import stderr
from rtpsp.errors import (
    EXIT_BUG,
    EXIT_INTERRUPTED,
    InputError,
    MissingError,
    OutputError,
    RtpspError,
    UsageError,
)
from rtpsp.redaction import scrub

_FULL = {errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def run(arguments: list[str]) -> int:
    """Do what a command line says, and write out what was printed.

    Returns:
        The exit code; where a thread of the live loop hangs, the process ends with it here.
    """
    code = _flushed(_run(arguments))
    if any(thread.name.startswith("rtpsp-") for thread in threading.enumerate()):
        # A stage hangs inside C, or a second Ctrl-C did not wait for it: to tear the interpreter down under it
        # aborts the process more often than not, and its code would be lost. Recordings are closed by now.
        logging.shutdown()
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(code)
    return code


def _run(arguments: list[str]) -> int:
    signals = _signals.Raise()
    asked = Asked(when_working=signals)
    try:
        if how := os.environ.get(COMPLETE):
            return _complete(group, how)
        # not group.main(): it takes an EOFError for Ctrl-C, and ends with 1 where standard output was closed
        try:
            with group.make_context("rtpsp", list(arguments), obj=asked) as context:
                result = group.invoke(context)
        finally:  # all is closed: a signal that was raised now would end in a traceback
            _signals.install(_signals.end_at_once)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except BaseException as error:
        if signals.arrived is not None:  # an error that it was turned into says less
            _print(f"rtpsp: stopped by {_signals.NAMES[signal.Signals(signals.arrived)]}")
            return _signals.EXIT_OF[signal.Signals(signals.arrived)]
        if isinstance(error, KeyboardInterrupt | click.Abort):
            _print("rtpsp: stopped by Ctrl-C")
            return EXIT_INTERRUPTED
        if not isinstance(error, Exception):
            raise
        told = _to_ours(error)
        if told is None:
            _print_traceback(error)
            _print("rtpsp: this is a bug in rtpsp; please report it with the lines above", "bold red")
            return EXIT_BUG
        return _show(told, asked.debug)


def _complete(group: click.Group, how: str) -> int:
    from click.shell_completion import shell_complete

    try:
        return shell_complete(group, {}, "rtpsp", COMPLETE, how)
    except Exception:  # a traceback in the middle of the line that is being typed helps nobody
        return 1


def _to_ours(error: Exception) -> RtpspError | None:
    """An error of our tree for one that is not a bug of ours."""
    ours: RtpspError
    if isinstance(error, RtpspError):
        return error
    if isinstance(error, click.ClickException):
        message = " ".join(error.format_message().split()).removesuffix(".")
        if isinstance(error, click.FileError):
            ours = InputError(message)
        else:
            context = error.ctx if isinstance(error, click.UsageError) else None
            message += _meant(message, context)
            ours = UsageError(f"{message} (try: {context.command_path} --help)" if context else message)
    elif isinstance(error, ImportError):
        ours = _missing(error)
    elif isinstance(error, OSError) and error.errno in _FULL:
        if error.errno == errno.EPIPE:
            ours = OutputError("standard output was closed before all was written: read it to its end")
        else:
            where = "standard output" if error.filename is None else error.filename
            ours = OutputError(f"{where} cannot be written ({error.strerror}): free the disk, or name another place")
    else:
        return None
    ours.__cause__ = error
    return ours


def _meant(message: str, context: click.Context | None) -> str:
    """What somebody meant who gave a source without its option, or a pattern that the shell has filled in."""
    extra = re.fullmatch(r"Got unexpected extra arguments? \((.+)\)", message)
    if extra is None or context is None or not any(param.name == "source" for param in context.command.params):
        return ""
    words = extra[1].split()
    if context.params.get("source"):
        return ": each source has a --source of its own; put a pattern in quotes, or else the shell fills it in"
    return f": did you mean --source {words[0]}?"


def _missing(error: ImportError) -> MissingError:
    """A package of the base install that does not load: damaged, or without a library of the system's."""
    what = error.name or "a package"
    how = "pip install --force-reinstall rtpsp"
    if ".so" in str(error):  # opencv-python's wheel links libGL and glib, which desktops have and bare servers have not
        how = "install the system's library; on Debian and Ubuntu: apt-get install libgl1 libglib2.0-0"
    return MissingError(f"{what} cannot be loaded ({error}): {how}")


def _show(error: RtpspError, debug: bool = False) -> int:
    if debug:
        _print_traceback(error)
    _print(f"rtpsp: {error}", "bold red")
    return error.exit_code


def _print_traceback(error: BaseException) -> None:
    _print("".join(traceback.format_exception(error)).rstrip())


def _print(text: str, style: str | None = None) -> None:
    with contextlib.suppress(OSError):  # the exit code is what is left to tell
        if not logs.say(scrub(text)):
            stderr.print(scrub(text), style=style, markup=False, highlight=False, soft_wrap=True)


def _flushed(code: int) -> int:
    """Write out what waits for standard output: at exit it is too late for an exit code."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError) as error:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or it would fail again at exit
        if code == 0 and isinstance(error, OSError):
            return _show(_to_ours(error) or OutputError(f"standard output cannot be written ({error})"))
    return code
