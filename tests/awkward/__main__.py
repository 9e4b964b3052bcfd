"""Run every case as a user would, each in a process of its own, and print what came as a Markdown table."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import rtpsp
from rtpsp.build import BuildOptions, build_engine
from tests.awkward.case import Case, Ran
from tests.awkward.cases import all_cases, judge, made
from tests.conftest import save_colour_model

MOST_SECONDS = 60.0


def ran(case: Case, folder: Path, words: list[str]) -> Ran:
    """Run `rtpsp` in `folder`, without a display."""
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    environment["PYTHONPATH"] = str(Path(rtpsp.__file__).parents[1])
    environment["RTPSP_CALIB"] = str(folder / "calib")
    done = subprocess.run(
        [sys.executable, "-m", "rtpsp", *words], cwd=folder, env=environment, capture_output=True, timeout=MOST_SECONDS
    )
    out, err = (text.decode("utf-8", "backslashreplace") for text in (done.stdout, done.stderr))
    return Ran(folder, done.returncode, out, err)


def row(case: Case, engine: Path) -> tuple[str, bool]:
    """A line of the table, and whether it is as the case expects."""
    reason = case.why_not()
    if reason:
        return f"| {case.name} | *not tried: {reason}* | |", True
    with tempfile.TemporaryDirectory() as name, made(case, Path(name), engine) as words:
        try:
            came = ran(case, Path(name), words)
        except subprocess.TimeoutExpired:
            return f"| {case.name} | **hangs** | |", False
        told = " / ".join(line.removeprefix("rtpsp: ").removeprefix("Error: ") for line in came.told)
        try:
            judge(case, came)
        except AssertionError as error:
            return f"| {case.name} | {told} **but expected otherwise: {error}** | {came.code} |", False
        what = "engine" if case.arguments[0] == "build-engine" else "picture"
        told = told.replace("|", "\\|") or f"*the right {what}, and nothing to say*"
        return f"| {case.name} | {told} | {came.code} |", True


def table() -> int:
    """Print it; 1 where a case came out otherwise than expected."""
    right = True
    with tempfile.TemporaryDirectory() as name:
        model = Path(name) / "colours.onnx"
        save_colour_model(model)
        engine = build_engine(model, model.with_suffix(".engine"), BuildOptions("fp32")).path
        print("| input | what rtpsp says | exit code |\n|---|---|---|")
        for case in all_cases():
            line, as_expected = row(case, engine)
            right &= as_expected
            print(line, flush=True)
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(table())
