"""The tests that need a device, run as they stand: ``pytest -m gpu tests/gpu``."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from typing import Any

from gpu.children import ROOT
from gpu.part import Job

STUCK = 20
"""Seconds after which a test's stack is printed: what hangs is then at the end of the part's output."""
_DONE = re.compile(r"^tests/gpu/(\S+\.py::.*?) (PASSED|FAILED|SKIPPED|ERROR)\b")


def run_tests(job: Job, *files: str) -> dict[str, Any]:
    """Runs files of ``tests/gpu`` and tells what passed, what failed and what was skipped, and why.

    What has passed or failed is kept test by test. The rest of the tests' set-up stays out, and so do its filters of
    warnings: it wants packages that a GPU machine need not have, and those that are there may warn of each other.
    """
    report = job.work / "tests.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "--confcutdir=tests/gpu", f"--junitxml={report}"]
    command += ["-vv", "-p", "no:cacheprovider", "-W", "default"]  # one v is what the project's own -q takes away
    command += ["-o", f"faulthandler_timeout={STUCK}"]
    command += [f"tests/gpu/{file}" for file in files]
    environ = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # of whatever else is installed there
    counts: Counter[str] = Counter()
    failed: list[str] = []
    with subprocess.Popen(
        command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            print(line, end="")
            if match := _DONE.match(line):
                test, outcome = match[1], match[2].lower()
                counts[outcome] += 1
                failed += [test] if outcome in ("failed", "error") else []
                job.keep(counts=dict(counts), failed=failed, last=test)
    if not report.exists():
        raise RuntimeError(f"pytest ended with {child.returncode} before it wrote a report")
    cases = [_case(case) for case in ElementTree.parse(report).iter("testcase")]
    states = Counter(case["outcome"] for case in cases)
    job.keep(
        counts=dict(sorted(states.items())),
        seconds=round(sum(case["seconds"] for case in cases), 1),
        others=[case for case in cases if case["outcome"] != "passed"],
    )
    if child.returncode not in (0, 5):
        wrong = states["failed"] + states["error"]
        raise AssertionError(f"{wrong} of {len(cases)} tests failed, pytest ended with {child.returncode}")
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
