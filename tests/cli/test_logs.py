from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from rtpsp.cli import logs
from rtpsp.cli.console import stderr
from rtpsp.redaction import register

SECRET = "Sw0rdfish-9"


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Handlers and console are the process's own."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    root.handlers = []
    yield
    logs.release()
    root.handlers, _ = before
    root.setLevel(before[1])


def told(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    text = capsys.readouterr().err
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def test_text_is_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    logging.getLogger("rtpsp.stream.x").warning("%d masks already", 3)
    logging.getLogger("rtpsp.stream.x").info("not asked for")
    stderr.print("banner")
    assert not logs.say("the caller prints it")
    assert capsys.readouterr().err == "rtpsp: 3 masks already\nbanner\n"
    assert logs.to_line("stopped by SIGTERM") == "rtpsp: stopped by SIGTERM"


def test_a_record_is_a_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", verbose=1)
    logging.getLogger("rtpsp.stream.x").warning("lost\nand %s", "found", extra={"source": "rtsp://cam/1", "stage": "y"})
    logging.getLogger("rtpsp.stream.x").info("said")
    logging.getLogger("rtpsp.stream.x").debug("not asked for")
    first, second = told(capsys)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.pop("time"))
    assert first == {
        "level": "warning", "logger": "rtpsp.stream.x", "message": "lost\nand found", "source": "rtsp://cam/1",
        "stage": "y",
    }  # fmt: skip
    assert second["level"] == "info" and set(second) == {"time", "level", "logger", "message"}


def test_a_stage_is_that_of_its_thread(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json")
    log = logging.getLogger("rtpsp.stream.x")
    for name in ("rtpsp-capture", "rtpsp-capture-2", "outside-http"):
        thread = threading.Thread(target=log.warning, args=("hm",), name=name)
        thread.start()
        thread.join()
    assert [line.get("stage") for line in told(capsys)] == ["capture", "capture", None]


def test_an_exception_comes_with_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", verbose=2)
    try:
        raise KeyError("x")
    except KeyError:
        logging.getLogger("rtpsp").debug("failed", exc_info=True)
    (line,) = told(capsys)
    assert line["exception"].startswith("Traceback") and line["exception"].endswith("KeyError: 'x'")


def test_what_is_printed_becomes_lines_too(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json")
    stderr.print("source  sim://street\nengine  " + "long/" * 60 + "x.engine", markup=False)
    stderr.print("rtpsp: half", style="bold red", end="")
    stderr.print(" a line")
    assert logs.say("rtpsp: clip.mp4: no such file") and logs.say("stopped by SIGTERM", logging.INFO)
    lines = told(capsys)
    assert [line["message"] for line in lines] == [
        "source  sim://street", "engine  " + "long/" * 60 + "x.engine", "half a line", "clip.mp4: no such file",
        "stopped by SIGTERM",
    ]  # fmt: skip
    assert [line["level"] for line in lines] == ["info", "info", "info", "error", "info"]
    assert not stderr.is_terminal  # no bar, and no colour
    assert json.loads(logs.to_line("stopped by SIGTERM"))["message"] == "stopped by SIGTERM"


@pytest.mark.parametrize("form", logs.FORMATS)
def test_no_secret_is_written(form: logs.Format, capsys: pytest.CaptureFixture[str]) -> None:
    uri = f"rtsp://viewer:{SECRET}@cam/1"
    register(uri)
    logs.configure(form)
    log = logging.getLogger("rtpsp.stream.x")
    log.warning("opening %s", uri)
    log.warning("a server says: %s is wrong", SECRET, extra={"source": uri})
    try:
        raise OSError(f"{SECRET}: refused")
    except OSError:
        log.exception("failed")
    if form == "json":  # what the command prints itself is scrubbed where it is printed
        stderr.print(f"source {uri}")
        logs.say(uri)
    assert SECRET not in logs.to_line(uri)
    text = capsys.readouterr().err
    assert SECRET not in text and text.count("***") >= 3


def test_it_may_be_called_again(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json")
    logs.configure("text", verbose=2)
    logging.getLogger("rtpsp").debug("once")
    stderr.print("plain")
    assert capsys.readouterr().err == "rtpsp: once\nplain\n"
    assert sum(type(handler) is logging.StreamHandler for handler in logging.getLogger().handlers) == 1


def test_a_caller_gets_its_logging_back(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json")
    logs.release()
    logs.release()
    assert not any(type(handler) is logging.StreamHandler for handler in logging.getLogger().handlers)
    stderr.print("plain")
    assert capsys.readouterr().err == "plain\n" and not logs.say("no")
