"""Secrets of URIs: taken out by their place, and found again by their letters."""

from __future__ import annotations

import base64
import io
import json
import logging
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtpsp import redaction
from rtpsp.redaction import Scrubbing, redacted, register, scrub
from rtpsp.stream.names import shown


@pytest.fixture(autouse=True)
def _nothing_registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(redaction, "_secrets", set())
    monkeypatch.setattr(redaction, "_pattern", None)
    yield


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("rtsp://joe:sesame@host:554/a?b=1", "rtsp://***@host:554/a?b=1"),
        ("rtsp://joe@host/", "rtsp://***@host/"),
        ("rtsp://joe:ses@me@host/", "rtsp://***@host/"),
        ("rtsp://joe:ses/a?me#s@host/x", "rtsp://***@host/x"),
        ("rtsp://joe:ses a'me@host/x", "rtsp://***@host/x"),
        ("http://h/x?pwd=sesame&user=joe&Token=12#f", "http://h/x?pwd=***&user=***&Token=***#f"),
        ("http://h/x?api_key=1;w=640", "http://h/x?api_key=***;w=640"),
        (
            "rtsp://h/user=joe_password=ses_ame_channel=1_stream=0.sdp?real",
            "rtsp://h/user=***_password=***_channel=1_stream=0.sdp?real",
        ),
        ("see 'rtsp://u:p@h/' and (http://a:b@c/)", "see 'rtsp://***@h/' and (http://***@c/)"),
        # What looks like it, and is none.
        ("udp://@239.0.0.1:1234", "udp://@239.0.0.1:1234"),
        ("http://h:8080/a@b.mp4", "http://h:8080/a@b.mp4"),
        ("rtsp://[::1]:554/x", "rtsp://[::1]:554/x"),
        ("sim://street?w=640&h=480", "sim://street?w=640&h=480"),
        ("clips/joe@home.mp4", "clips/joe@home.mp4"),
    ],
)
def test_a_uri_is_shown_without_secrets(uri: str, told: str) -> None:
    assert redacted(uri) == told == redacted(told)
    assert shown(uri) == told


@given(st.text(max_size=60), st.text(max_size=60))
def test_it_bears_any_text(before: str, after: str) -> None:
    once = redacted(f"{before}://{after}")
    assert redacted(once) == once
    register(f"{before}://{after}")
    scrub(after)


@given(st.text("abcXYZ0189:@/?#%&=+ '\"äß!$_-", min_size=3, max_size=12))
def test_a_password_is_found_in_whatever_form_it_travels(password: str) -> None:
    uri = f"rtsp://joe:{quote(password, safe='')}@host/1"
    register(uri)
    basic = base64.b64encode(f"joe:{password}".encode()).decode()
    for form in (password, quote(password, safe=""), quote(password), repr(password)[1:-1], json.dumps(password)[1:-1]):
        assert scrub(f"<{form}>") == "<***>"
    assert basic not in scrub(f"Authorization: Basic {basic}")
    assert redacted(uri) == "rtsp://***@host/1"


def test_the_longest_secret_goes_first_and_short_ones_stay() -> None:
    for uri in ("rtsp://a:sesame@h", "rtsp://a:sesame2@h", "rtsp://a:xy@h", "http://h/?token=tok%2Fen"):
        register(uri)
    assert scrub("sesame2 sesame xy tok/en tok%2fen") == "*** *** xy *** ***"
    assert scrub("joe at rtsp://joe:other@h/") == "joe at rtsp://***@h/"  # unknown, and still in its place


def test_a_handler_writes_no_secret() -> None:
    register("rtsp://joe:sesame@h/1")
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(logging.Formatter("%(message)s %(source)s", defaults={"source": ""}))
    handler.addFilter(Scrubbing())
    logger = logging.Logger("camera")
    logger.addHandler(handler)
    logger.warning("lost %s after %d s", "rtsp://joe:sesame@h/1", 3)
    logger.warning("%d of %s", "no number", "sesame")
    try:
        raise OSError("cannot open rtsp://joe:sesame@h/1")
    except OSError:
        logger.exception("broken", extra={"source": "rtsp://joe:sesame@h/1"}, stack_info=True)
    told = out.getvalue()
    assert "lost rtsp://***@h/1 after 3 s" in told and "OSError: cannot open rtsp://***@h/1" in told
    assert "sesame" not in told


def test_a_record_without_secrets_keeps_its_exception() -> None:
    try:
        raise OSError("plain")
    except OSError as error:
        record = logging.LogRecord("x", logging.ERROR, "x.py", 1, "%s", ("a",), (OSError, error, error.__traceback__))
    assert Scrubbing().filter(record) and record.exc_info and record.args == ("a",)
