from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rtpsp.bench.memory import own_peak, peak_memory
from rtpsp.errors import MissingError


def test_an_engines_peak_is_that_of_its_own_process(colour_engine: Path) -> None:
    ballast = bytearray(b"x") * 700_000_000  # which is in this process's peak, and not to be in the child's
    found = peak_memory(colour_engine, threads=1, inferences=1)
    assert 30_000_000 < found < 600_000_000 < own_peak(), len(ballast)


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"could not be measured: the process ended with code 1 \(.*No such file"):
        peak_memory(tmp_path / "no.engine")


def test_no_process_can_be_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(MissingError, match="no process could be started"):
        peak_memory(tmp_path / "x.engine")


def test_one_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def hang(*words: object, **options: object) -> None:
        raise subprocess.TimeoutExpired("python", 300)

    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(MissingError, match="no answer within 300 s"):
        peak_memory(tmp_path / "x.engine")
