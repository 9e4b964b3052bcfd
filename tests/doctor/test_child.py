"""Probes in child processes: real ones, for what a double cannot show."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rtpsp.doctor.child import ask
from rtpsp.errors import MissingError


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where to write a module that a child can import."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "patient.py"


def test_an_answer_comes_back_whatever_else_is_printed(module: Path) -> None:
    module.write_text("import os; print('hello'); os.write(1, b'native code talks'); __version__ = '1.2'")
    assert ask("load", "patient") == {"version": "1.2"}


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("raise ImportError('libGL.so.1: cannot open')", r"^ImportError: libGL\.so\.1: cannot open$"),
        ("raise RuntimeError('one\\ntwo')", r"^RuntimeError: one$"),
        ("import os; os.abort()", r"crashed with SIGABRT|ended with code"),
        ("import os; os.write(2, b'driver is ill\\n'); os._exit(3)", r"ended with code 3: driver is ill$"),
        ("import sys; sys.exit(5)", r"ended with code 5"),
    ],
)
def test_a_failure_has_a_reason(module: Path, program: str, reason: str) -> None:
    module.write_text(program)
    with pytest.raises(MissingError, match=reason):
        ask("load", "patient")


def test_what_hangs_is_ended(module: Path) -> None:
    module.write_text("import time; time.sleep(60)")
    with pytest.raises(MissingError, match=r"no answer within 1 s"):
        ask("load", "patient", seconds=0.8)


def test_the_current_folder_is_not_imported_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "numpy.py").write_text("raise RuntimeError('not this one')")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.chdir(tmp_path)
    assert ask("load", "json")


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_a_backend_that_does_not_import(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"{name}.py").write_text("raise ImportError('lib.so: undefined symbol')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(MissingError, match="undefined symbol"):
        ask(name)


def test_a_protocol_that_is_not_there_is_told_apart() -> None:
    from rtpsp.doctor.probes import _has_protocol

    assert _has_protocol("http") and not _has_protocol("nonsense")


def test_a_wrong_answer_of_a_backend_is_no_success() -> None:
    import numpy as np

    from rtpsp.doctor.probes import SIZE, _check

    _check(np.full((1, 1, *SIZE), 3.0))
    with pytest.raises(ArithmeticError, match="came out as 2"):
        _check(np.full((1, 1, *SIZE), 2.0))
