from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from rtpsp.outside.condition import reasons, to_report
from rtpsp.redaction import register
from rtpsp.stream.health import Health
from rtpsp.stream.snapshot import Snapshot
from rtpsp.timing import now

from .snapshots import of_run, of_source


def lost() -> Health:
    health = Health(reconnects=2)
    health.fault("refused", "rtsp://cam/1: nothing listens there")
    health.lose()
    return health


def test_a_run_that_does_what_it_should_has_no_reason() -> None:
    assert reasons(of_run()) == []
    file = of_source("drive.mp4", live=False, shown_ago=500, ended="end of source")
    assert reasons(of_run(file, of_source(shown_ago=9.5))) == []


CASES: dict[str, Callable[[], Snapshot]] = {
    "the engine is not ready yet": lambda: of_run(ready=False),
    "stalled: capture of cam 1 for 31 s": lambda: of_run(stalled=("capture of cam 1 for 31 s",)),
    "rtsp://***@cam/1: no frame for 11 s": lambda: of_run(of_source(shown_ago=11.2)),
    "rtsp://***@cam/1: no frame for 60 s: rtsp://cam/1: nothing listens there": lambda: of_run(
        of_source(shown_ago=60.2, health=lost())
    ),
    "rtsp://***@cam/1: no frame for 20 s": lambda: of_run(of_source(shown_ago=None, health=Health(since=now() - 20.2))),
    "rtsp://***@cam/1 has ended: lost after 5 tries": lambda: of_run(of_source(ended="lost after 5 tries")),
    "rtsp://***@cam/1 has ended: error: no answer": lambda: of_run(  # one that could not be opened when the run began
        of_source(live=False, shown_ago=None, ended="error: no answer", health=lost())
    ),
    "output ended: cam.mp4: No space left on device": lambda: of_run(failures=("cam.mp4: No space left on device",)),
    "stopping: SIGTERM": lambda: of_run(stopping="SIGTERM"),
}


@pytest.mark.parametrize("reason", CASES)
def test_each_reason_is_told_in_words(reason: str) -> None:
    snapshot = CASES[reason]()
    assert reasons(snapshot) == [reason]
    report = json.loads(json.dumps(to_report(snapshot)))
    assert (report["status"], report["reasons"]) == ("unhealthy", [reason])


def test_a_source_that_was_lost_a_moment_ago_is_no_reason_yet() -> None:
    assert reasons(of_run(of_source(shown_ago=3, health=lost()))) == []


def test_the_report_says_how_each_source_fares() -> None:
    twice = (of_source(shown_ago=2.0), of_source(shown_ago=None, fps=None, last_age=None, health=lost()))
    first, second = to_report(of_run(*twice))["sources"]
    assert first == {
        "source": "rtsp://***@cam/1", "present": True, "fps": 24.5, "age_ms": 60.0, "seconds_since_frame": 2.0,
        "reconnects": 0, "ended": "",
    }  # fmt: skip
    assert second["source"] == "rtsp://***@cam/1 (2)" and not second["present"] and second["reconnects"] == 2
    assert second["fps"] is second["age_ms"] is second["seconds_since_frame"] is None


def test_no_secret_gets_out() -> None:
    register("rtsp://viewer:Hunter2secret@cam/1")
    source = of_source("rtsp://viewer:Hunter2secret@cam/1", ended="401 for viewer:Hunter2secret")
    told = json.dumps(to_report(of_run(source, failures=["Hunter2secret.mp4: full"])))
    assert "Hunter2secret" not in told and "***@cam/1" in told
