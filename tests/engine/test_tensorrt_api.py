from __future__ import annotations

import logging
import os
import sys
import threading
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pytest

from rtpsp.engine.table import BACKENDS
from rtpsp.engine.tensorrt_api import FLAVOURS, LOGGER, MAX_ERRORS, Log, flavour_of, load, make_log
from rtpsp.errors import MissingError, UsageError
from tests.engine.tensorrt_double import Double, Severity


def put(monkeypatch: pytest.MonkeyPatch, name: str, version: str) -> ModuleType:
    module = ModuleType(name)
    vars(module)["__version__"] = version
    monkeypatch.setitem(sys.modules, name, module)
    return module


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)


def test_flavours_are_backends_under_the_same_names() -> None:
    for name, flavour in FLAVOURS.items():
        assert flavour.name == name and BACKENDS[name].package == flavour.package
    assert [flavour.rtx for flavour in FLAVOURS.values()] == [False, True]


def test_an_unknown_flavour() -> None:
    with pytest.raises(UsageError, match="'tensorrt-lean': expected one of tensorrt, tensorrt-rtx"):
        flavour_of("tensorrt-lean")


@pytest.mark.skipif(
    not os.environ.get("CI") and find_spec("tensorrt_rtx_bindings") is None, reason="needs the extra tensorrt-rtx"
)
def test_the_real_module() -> None:
    trt = load("tensorrt-rtx")
    assert trt.__version__ >= "1.7"
    log = make_log(trt)
    assert trt.Builder(log) and trt.Runtime(log)


def test_the_metapackages_module_goes_before_the_bindings(monkeypatch: pytest.MonkeyPatch) -> None:
    first = put(monkeypatch, "tensorrt_rtx", "1.8.0.1")
    second = put(monkeypatch, "tensorrt_rtx_bindings", "1.8.0.1")
    assert vars(load("tensorrt-rtx")) is vars(first)
    without(monkeypatch, "tensorrt_rtx")
    assert vars(load("tensorrt-rtx")) is vars(second)


@pytest.mark.parametrize("name", FLAVOURS)
def test_one_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    without(monkeypatch, *FLAVOURS[name].modules)
    with pytest.raises(MissingError, match=f"{FLAVOURS[name].title} cannot be imported .*: pip install {name}$"):
        load(name)


@pytest.mark.parametrize(
    ("version", "fine"), [("10.12.0.36", True), ("11.4.0.106", True), ("10.9.0.34", False), ("8.6.1", False)]
)
def test_one_that_is_too_old(monkeypatch: pytest.MonkeyPatch, version: str, fine: bool) -> None:
    module = put(monkeypatch, "tensorrt", version)
    if fine:
        assert vars(load("tensorrt")) is vars(module)
    else:
        with pytest.raises(
            MissingError, match=rf"TensorRT {version} is too old, expected 10\.12 .*pip install --upgrade"
        ):
            load("tensorrt")


class Failing(MetaPathFinder, Loader):
    """Finds a module whose import raises."""

    def __init__(self, name: str, error: BaseException) -> None:
        self.name, self.error = name, error

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname == self.name else None

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        raise self.error


@pytest.mark.parametrize("kind", [ImportError, OSError])
def test_one_whose_libraries_are_missing(monkeypatch: pytest.MonkeyPatch, kind: type[Exception]) -> None:
    error = kind("libnvinfer.so.11: cannot open shared object file:\nNo such file or directory")
    monkeypatch.setattr(sys, "meta_path", [Failing("tensorrt", error), *sys.meta_path])
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(
        MissingError, match=r"\(libnvinfer\.so\.11: cannot open .* file: No such .*\): pip install"
    ) as caught:
        load("tensorrt")
    assert caught.value.__cause__ is error


def test_ctrl_c_inside_an_import_stays_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    """C modules turn it into an ImportError of their own."""
    error = ImportError("initialization failed")
    error.__cause__ = KeyboardInterrupt()
    monkeypatch.setattr(sys, "meta_path", [Failing("tensorrt", error), *sys.meta_path])
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(KeyboardInterrupt):
        load("tensorrt")


def said(log: Log, severity: Severity, line: str, caplog: pytest.LogCaptureFixture) -> list[tuple[str, int, str]]:
    caplog.clear()
    speaker: Any = log
    with caplog.at_level(logging.DEBUG):
        speaker.log(severity, line)
    return caplog.record_tuples


def test_severities_become_levels(caplog: pytest.LogCaptureFixture) -> None:
    log = make_log(Double().module())
    levels = {severity: [level for _, level, _ in said(log, severity, "a line", caplog)] for severity in Severity}
    assert levels == {
        Severity.INTERNAL_ERROR: [logging.INFO],
        Severity.ERROR: [logging.INFO],
        Severity.WARNING: [logging.WARNING],
        Severity.INFO: [logging.DEBUG],
        Severity.VERBOSE: [],
    }
    assert said(make_log(Double().module(), verbose=True), Severity.VERBOSE, "fine", caplog) == [
        (LOGGER, logging.DEBUG, "fine")
    ]


def test_a_line_is_one_line_and_no_format(caplog: pytest.LogCaptureFixture) -> None:
    log = make_log(Double().module())
    assert said(log, Severity.WARNING, "100 %s of\n  two\n", caplog) == [(LOGGER, logging.WARNING, "100 %s of two")]
    assert said(log, Severity.ERROR, "  \n", caplog) == [] and log.errors == []


def test_errors_are_kept_until_they_are_taken(caplog: pytest.LogCaptureFixture) -> None:
    log = make_log(Double().module())
    for severity in Severity:
        said(log, severity, severity.name, caplog)
    assert log.errors == ["INTERNAL_ERROR", "ERROR"]
    assert log.take() == ["INTERNAL_ERROR", "ERROR"]
    assert log.take() == [] and log.errors == []


@pytest.mark.parametrize(
    ("severity", "line"),
    [
        (Severity.INTERNAL_ERROR, "Thread context has not been set! Using global log stream."),
        (Severity.WARNING, "(foreignNode) Converting conv activation scales to fp32."),
    ],
)
def test_what_is_no_matter_frightens_nobody(severity: Severity, line: str, caplog: pytest.LogCaptureFixture) -> None:
    log = make_log(Double().module())
    assert said(log, severity, line, caplog) == [(LOGGER, logging.DEBUG, line)]
    assert log.errors == []


def test_each_thread_has_errors_of_its_own_and_strays_go_to_whoever_asks(caplog: pytest.LogCaptureFixture) -> None:
    trt = Double().module()
    here: Any = make_log(trt)
    taken: dict[str, list[str]] = {}

    def engine() -> None:
        log: Any = make_log(trt)
        assert log is here
        log.log(Severity.ERROR, "of the engine")
        taken["engine"] = log.take()

    def inside() -> None:
        here.log(Severity.ERROR, "of a thread of TensorRT's")

    here.log(Severity.ERROR, "of the builder")
    for work in (engine, inside):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert taken == {"engine": ["of the engine"]}
    assert here.errors == ["of the builder", "of a thread of TensorRT's"]
    assert here.take() == ["of the builder", "of a thread of TensorRT's"] and here.take() == []


def test_no_more_errors_are_kept_than_anybody_reads(caplog: pytest.LogCaptureFixture) -> None:
    log: Any = make_log(Double().module())
    for number in range(2 * MAX_ERRORS):
        log.log(Severity.ERROR, str(number))
    assert log.take() == [str(number) for number in range(MAX_ERRORS)]


def test_what_is_said_at_length_is_for_those_who_asked(caplog: pytest.LogCaptureFixture) -> None:
    trt = Double().module()
    log = make_log(trt, verbose=True)
    assert said(log, Severity.VERBOSE, "fine", caplog) == [(LOGGER, logging.DEBUG, "fine")]
    assert said(make_log(trt), Severity.VERBOSE, "fine", caplog) == []
