"""The command line: parse, make options, call; an error becomes one clear line and an exit code."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import signal
import sys
import threading
import traceback
from types import FrameType
from typing import NoReturn

import click

from rtpsp.cli.console import stderr
from rtpsp.errors import EXIT_BUG, EXIT_INTERRUPTED, EXIT_TERMINATED, MissingError, RtpspError

VERBS = {
    "run": ("rtpsp.cli.run", "Segment a camera, a video, images or the simulator."),
    "build-engine": ("rtpsp.cli.build", "Turn an ONNX PSPNet into an engine."),
    "export": ("rtpsp.cli.export", "Turn a PyTorch checkpoint into an ONNX model with its spec inside."),
    "eval": ("rtpsp.cli.evaluate", "Measure an engine's accuracy on labelled images."),
    "bench": ("rtpsp.cli.bench", "Measure an engine's latency and the live loop's rate."),
}


class _Verbs(click.Group):
    """Loads a verb's module when the verb is used, so that ``rtpsp --help`` answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(VERBS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(verb, summary) for verb, (_, summary) in VERBS.items()])


@click.command(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("-v", "--verbose", count=True, help="Say more; twice for everything.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="rtpsp", message="%(prog)s %(version)s")
@click.pass_context
def group(ctx: click.Context, verbose: int, debug: bool) -> None:
    """Real-time PSPNet segmentation.

    Exit codes: 0 done, 2 usage, 3 bad input, 4 something is missing on this machine, 5 the source was lost, 6 a bound
    was not met, 7 an output failed, 70 a bug in rtpsp, 130 Ctrl-C, 143 terminated.
    """
    ctx.obj = {"debug": debug}
    level = {0: logging.WARNING, 1: logging.INFO}.get(verbose, logging.DEBUG)
    logging.basicConfig(level=level, format="rtpsp: %(message)s", stream=sys.stderr)


class Terminated(BaseException):
    """SIGTERM arrived."""


def main(arguments: list[str] | None = None) -> NoReturn:
    """Entry point of the ``rtpsp`` command; always ends in `SystemExit`."""
    signal.signal(signal.SIGTERM, _terminate)
    debug = "--debug" in (sys.argv[1:] if arguments is None else arguments)
    try:
        code = group.main(arguments, prog_name="rtpsp", standalone_mode=False)
    except click.exceptions.Exit as exit_:
        code = exit_.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        stderr.print("rtpsp: stopped by Ctrl-C")
        code = EXIT_INTERRUPTED
    except Terminated:
        code = EXIT_TERMINATED
    except RtpspError as error:
        code = _show(error, error.exit_code, debug)
    except ImportError as error:
        code = _show(_missing(error), MissingError.exit_code, debug)
    except Exception:
        traceback.print_exc()
        stderr.print("rtpsp: this is a bug in rtpsp; please report it with the lines above", style="bold red")
        code = EXIT_BUG
    code = code if isinstance(code, int) else 0
    if any(thread.name.startswith("rtpsp-") for thread in threading.enumerate()):
        # A stage hangs inside C, or a second Ctrl-C did not wait for it: to tear the interpreter down under it aborts
        # the process more often than not, and its code would be lost. Recordings are closed by now.
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


def _missing(error: ImportError) -> MissingError:
    """A package of the base install that does not load: damaged, or without a library of the system's."""
    what = error.name or "a package"
    how = "pip install --force-reinstall rtpsp"
    if ".so" in str(error):  # opencv-python's wheel links libGL and glib, which desktops have and bare servers have not
        how = "install the system's library; on Debian and Ubuntu: apt-get install libgl1 libglib2.0-0"
    missing = MissingError(f"{what} cannot be loaded ({error}): {how}")
    missing.__cause__ = error
    return missing


def _show(error: RtpspError, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    stderr.print(f"rtpsp: {error}", style="bold red", markup=False, highlight=False, soft_wrap=True)
    return code


def _terminate(signum: int, frame: FrameType | None) -> NoReturn:
    raise Terminated
