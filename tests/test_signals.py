"""Ctrl-C and SIGTERM while an engine is built, written and opened: one line, the code, and nothing half-made."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

NUMBERS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]

PAUSE = "def pause(*args, **more): print('HERE', flush=True); time.sleep(60)\n"
PLACES = {
    "lowering": "import rtpsp.graph.lower; rtpsp.graph.lower.lower = pause\n",
    "compiling": "import rtpsp.engine.openvino_backend as b; b.OpenVINOEngine._open = pause\n",
    "comparing": "import rtpsp.graph.verify as v; v.run = pause\n",
    "writing": "os.fsync = pause\n",
    "renaming": "os.replace = pause\n",
}


def interrupted(program: str, number: signal.Signals, folder: Path) -> tuple[int, str]:
    """Run a program in a folder, send it a signal once it prints HERE; its code and what it wrote on stderr."""
    environment = {key: value for key, value in os.environ.items() if "DISPLAY" not in key}
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**environment, "RTPSP_ENGINES": str(folder / "engines")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "HERE\n", process.communicate()[1]
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    return process.returncode, errors


def program(place: str, *words: str) -> str:
    return f"import os, sys, time\n{PAUSE}{PLACES[place]}from rtpsp.cli import main\nmain({list(words)!r})\n"


def one_line(errors: str, number: signal.Signals) -> bool:
    return errors == f"rtpsp: stopped by {'Ctrl-C' if number == signal.SIGINT else 'SIGTERM'}\n"


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("number", "code"), NUMBERS)
def test_a_build_that_is_stopped_leaves_nothing(
    place: str, number: signal.Signals, code: int, colour_model: Path, tmp_path: Path
) -> None:
    words = ("build-engine", str(colour_model), "--fp32", "-o", "deep/x.engine")
    returned, errors = interrupted(program(place, *words), number, tmp_path)
    assert returned == code and one_line(errors, number), errors
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(("number", "code"), NUMBERS)
def test_a_build_that_is_stopped_leaves_the_engine_that_was_there(
    number: signal.Signals, code: int, colour_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "x.engine").write_bytes(b"old")
    words = ("build-engine", str(colour_model), "--fp32", "-o", "x.engine")
    returned, _ = interrupted(program("renaming", *words), number, tmp_path)
    assert returned == code
    assert (tmp_path / "x.engine").read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(("number", "code"), NUMBERS)
def test_a_run_that_is_stopped_while_its_engine_is_built(number: signal.Signals, code: int, tmp_path: Path) -> None:
    words = ("run", "--source", "sim://street?w=160&h=120&live=1", "--output", "out.mp4", "--report", "run.json")
    returned, errors = interrupted(program("lowering", *words), number, tmp_path)
    assert returned == code and one_line(errors, number), errors
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [".lock"], "no recording was begun"


@pytest.mark.parametrize(("number", "code"), NUMBERS)
def test_a_run_that_is_stopped_while_its_engine_opens(
    number: signal.Signals, code: int, colour_engine: Path, tmp_path: Path
) -> None:
    """The engine is in the hands of C code, in a thread of its own: the loop waits for it, then ends in order."""
    words = ("run", "--source", "sim://street?w=160&h=120&live=1", "--engine", str(colour_engine), "--output", "o.mp4")
    slow = (
        "import os, sys, time\n"
        "import rtpsp.engine.openvino_backend as b\n"
        "right = b.OpenVINOEngine._open\n"
        "def slow(self): print('HERE', flush=True); time.sleep(1); return right(self)\n"
        "b.OpenVINOEngine._open = slow\n"
        f"from rtpsp.cli import main\nmain({list(words)!r})\n"
    )
    returned, errors = interrupted(slow, number, tmp_path)
    assert returned == code and "Traceback" not in errors, errors
    assert list(tmp_path.iterdir()) == [], "no picture came: there is no recording"
