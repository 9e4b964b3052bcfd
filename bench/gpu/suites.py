"""The tests that need a device, run as they stand: ``pytest -m gpu tests/gpu``."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from typing import Any

from gpu.children import ROOT
from gpu.part import Job


def run_tests(job: Job, *files: str) -> dict[str, Any]:
    """Runs files of ``tests/gpu`` and tells what passed, what failed and what was skipped, and why.

    The rest of the tests' set-up stays out: it wants packages that a GPU machine need not have.
    """
    report = job.work / "tests.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "--confcutdir=tests/gpu", f"--junitxml={report}", "-q"]
    command += ["-p", "no:cacheprovider", *(f"tests/gpu/{file}" for file in files)]
    environ = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # of whatever else is installed there
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    print(done.stdout[-6000:], done.stderr[-2000:], sep="\n")
    if not report.exists():
        raise RuntimeError(f"pytest ended with {done.returncode} before it wrote a report")
    cases = [_case(case) for case in ElementTree.parse(report).iter("testcase")]
    states = [case["outcome"] for case in cases]
    job.keep(
        counts={state: states.count(state) for state in sorted(set(states))},
        seconds=round(sum(case["seconds"] for case in cases), 1),
        others=[case for case in cases if case["outcome"] != "passed"],
    )
    if done.returncode not in (0, 5):
        failed = states.count("failed") + states.count("error")
        raise AssertionError(f"{failed} of {len(cases)} tests failed, pytest ended with {done.returncode}")
    return {}


def _case(case: ElementTree.Element) -> dict[str, Any]:
    found: dict[str, Any] = {
        "test": f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}", "outcome": "passed",
        "seconds": float(case.get("time", 0)),
    }  # fmt: skip
    for tag, outcome in (("failure", "failed"), ("error", "error"), ("skipped", "skipped")):
        child = case.find(tag)
        if child is not None:
            found |= {"outcome": outcome, "says": (child.get("message") or "")[:600]}
    return found


def cuda(job: Job) -> dict[str, Any]:
    """The contract of the CUDA bindings, and the kernels."""
    return run_tests(job, "test_cuda.py", "test_kernels.py")


def runtime(job: Job) -> dict[str, Any]:
    """The runtime and the live loop, with the stand-in engine."""
    return run_tests(job, "test_runtime.py", "test_live.py")


def engines(job: Job) -> dict[str, Any]:
    """The contract of engines, with every flavour that runs here."""
    return run_tests(job, "test_engines.py")
