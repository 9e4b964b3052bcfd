"""One part in one process: whatever becomes of it, its figures so far and how it ended are known."""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpu.part import Job, Part, Results, Skip, write_json

ROOT = Path(__file__).resolve().parents[2]
ENGINES = "RTPSP_ENGINES"  # as rtpsp.places has it, which this process does without
TAIL = 30
"""Lines of a failed part's own output that are kept."""


def run_part(part: Part, work: Path, results: Results, seconds: float, quick: bool) -> dict[str, Any]:
    """Runs a part in a child process, and says how it ended.

    Args:
        part: Which.
        work: The folder that parts share.
        results: Handed to the part.
        seconds: It is ended after so many.
        quick: Handed to the part.

    Returns:
        ``status``: ``ok``, ``skipped``, ``failed`` (it raised), ``crashed`` (a signal, or an exit without an answer)
        or ``timeout``; ``seconds``; with what it left as ``data``, and, unless all went well, ``exit_code``, ``signal``
        and the ``tail`` of its output.
    """
    report = work / "part.json"
    report.unlink(missing_ok=True)
    write_json(work / "results.json", results)
    command = [sys.executable, str(ROOT / "bench" / "gpu_check.py"), "--part", part.name, "--json", str(report)]
    command += ["--work", str(work), *(["--quick"] if quick else [])]
    begin = time.monotonic()
    with tempfile.TemporaryFile() as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=ROOT,
            env=_environment(work),
            start_new_session=True,
        )
        try:
            code, in_time = child.wait(seconds), True
        except subprocess.TimeoutExpired:
            code, in_time = None, False
        finally:
            _end(child)
        output.seek(0)
        text = output.read().decode("utf-8", "replace")
    found: dict[str, Any] = {"status": "crashed", "data": {}}
    if report.exists():
        found |= json.loads(report.read_text(encoding="utf-8"))
    if not in_time:
        found["status"] = "timeout"
    elif found["status"] == "unfinished" or code not in (0, 1):
        found["status"] = "crashed"
    found["seconds"] = round(time.monotonic() - begin, 2)
    if found["status"] not in ("ok", "skipped"):
        found["exit_code"] = code
        if code is not None and code < 0:
            found["signal"] = signal.Signals(-code).name
        found["tail"] = text.strip().splitlines()[-TAIL:]
    cleaned: dict[str, Any] = _cleaned(found, _private(work))
    return cleaned


def _environment(work: Path) -> dict[str, str]:
    """The checkout's own rtpsp is found, installed or not; what it keeps on disk, and what a part prints, is here."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1", ENGINES: str(work / "engines")}


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ends a part with all that it has started: its process group is its own."""
    for number, patience in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 10.0)):
        if child.poll() is not None:
            return
        os.killpg(child.pid, number)
        try:
            child.wait(patience)
        except subprocess.TimeoutExpired:  # a process that the driver holds may not even heed the second
            continue


def be_child(part: Part, report: Path, work: Path, quick: bool) -> int:
    """Runs a part in this process and writes its answer into `report`; 1 if it raised."""
    faulthandler.enable()  # after a crash inside a library the output says where in our code
    results = json.loads((work / "results.json").read_text(encoding="utf-8"))
    job = Job(part.arguments, work, results, quick, report)
    job.keep()
    try:
        job.data |= part.load()(job) or {}
    except Skip as reason:
        write_json(report, {"status": "skipped", "reason": str(reason), "data": job.data})
    except Exception as error:
        traceback.print_exc()
        line = f"{type(error).__name__}: {error}"
        write_json(report, {"status": "failed", "error": line, "data": job.data})
        return 1
    else:
        write_json(report, {"status": "ok", "data": job.data})
    return 0


def _private(work: Path) -> dict[str, str]:
    """What the JSON is not to tell: where things lie on this machine, and what it is called."""
    entries = [Path(entry).resolve() for entry in sys.path if entry and Path(entry).is_dir()]
    site = {str(entry): "SITE" for entry in entries if not entry.is_relative_to(ROOT)}
    places = {str(work): "WORK", str(ROOT): ".", sys.prefix: "PYTHON", sys.base_prefix: "PYTHON"}
    places |= {str(Path.home()): "~", tempfile.gettempdir(): "TMP", socket.gethostname(): "HOST"}
    both = {**site, **places}
    return {place: both[place] for place in sorted(both, key=len, reverse=True) if len(place) > 3}


def _cleaned(value: Any, private: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for place, name in private.items():
            value = value.replace(place, name)
        return value
    if isinstance(value, list):
        return [_cleaned(item, private) for item in value]
    if isinstance(value, dict):
        return {key: _cleaned(item, private) for key, item in value.items()}
    return value
