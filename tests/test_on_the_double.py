"""The tests that need a GPU's driver, on a double of it, in a process of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import double


@pytest.mark.skipif(sys.platform != "linux", reason="the double is an ELF library")
@pytest.mark.skipif(
    double.LIBRARY not in os.environ and shutil.which("g++") is None and "CI" not in os.environ,
    reason="g++ is not installed: apt-get install g++",
)
def test_on_the_double() -> None:
    """Whatever is in tests/double: run alone with ``python -m tests.double tests/double``."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "--tb=short",
        str(Path(double.__file__).parent),
    ]
    ran = subprocess.run(command, env=double.environment(double.compile_double()), capture_output=True, text=True)
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    assert " passed" in ran.stdout, ran.stdout
