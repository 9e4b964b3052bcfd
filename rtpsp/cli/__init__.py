"""The command line: parse, make options, call; an error becomes one clear line and an exit code.

This module itself is light: signals are handled before anything is imported that takes time.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from rtpsp.cli import _signals


def main(arguments: list[str] | None = None) -> NoReturn:
    """Entry point of the ``rtpsp`` command; always ends in `SystemExit`."""
    before = _signals.install(_signals.end_at_once)
    try:
        from rtpsp.cli import _main

        code = _main.run(sys.argv[1:] if arguments is None else arguments)
        _signals.install(lambda number, frame: os._exit(code))  # all is done and told: that is what it ends with
    finally:
        if arguments is not None:  # the process is the caller's
            _signals.restore(before)
            from rtpsp.cli import logs

            logs.release()
    sys.exit(code)
