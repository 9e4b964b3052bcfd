"""Probes run in a process of their own: what is broken in native code crashes or hangs there, and not here."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from rtpsp.errors import MissingError, RtpspError

Ask = Callable[..., Any]
"""Runs a probe by name, with arguments of plain text, and gives its answer."""

SECONDS = 60.0
"""Importing a large package from a cold disk takes ten of them; nothing that works takes longer."""

# sys.path is handed over: a child's own would begin with the current folder, where anything may lie.
_PROGRAM = (
    "import sys; sys.path[:] = sys.argv[1].split('\\n'); from rtpsp.doctor.child import main; main(*sys.argv[2:])"
)


def ask(probe: str, *words: str, seconds: float = SECONDS) -> Any:
    """Run a function of `rtpsp.doctor.probes` in a child process.

    Args:
        probe: Its name.
        words: Its arguments.
        seconds: After which the child is ended.

    Returns:
        What it returns, as plain JSON values.

    Raises:
        MissingError: It raised, crashed or did not end in time; the message is the reason in a line.
    """
    command = [sys.executable, "-c", _PROGRAM, "\n".join(sys.path), probe, *words]
    try:
        child = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise MissingError(f"no answer within {seconds:.0f} s") from error
    except OSError as error:
        raise MissingError(f"no process could be started to try it ({error.strerror})") from error
    said = child.stderr.decode(errors="replace").strip().splitlines()
    if child.returncode:
        raise MissingError(f"{_ending(child.returncode)}{': ' + said[-1] if said else ''}")
    answer = json.loads(child.stdout or b'{"raised": "no answer"}')
    if "raised" in answer:
        raise MissingError(str(answer["raised"]))
    return answer["gave"]


def main(probe: str, *words: str) -> None:
    """What the child does: only its answer goes to stdout, whatever native code writes there."""
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        answer = {"gave": getattr(importlib.import_module("rtpsp.doctor.probes"), probe)(*words)}
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        kind = "" if isinstance(error, RtpspError) else f"{type(error).__name__}: "
        answer = {"raised": f"{kind}{lines[0]}".rstrip(": ")}
    with os.fdopen(stdout, "w", encoding="utf-8") as out:
        json.dump(answer, out)
        out.flush()
        os._exit(0)  # a runtime's own tear-down may crash, and the answer is there


def _ending(code: int) -> str:
    if code > 0:
        return f"the process that tried it ended with code {code}"
    try:
        return f"the process that tried it crashed with {signal.Signals(-code).name}"
    except ValueError:
        return f"the process that tried it was ended by signal {-code}"
