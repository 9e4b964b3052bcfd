"""A sample of ``bench/fuzz.py``: damaged and hostile files, each decoded in a process of its own."""

from __future__ import annotations

import importlib
import os
import signal
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).parents[2] / "bench"
COUNT = 56
"""The hostile ones and some of the damaged ones; the command makes 200."""


@pytest.fixture
def fuzz(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))  # the processes that it starts find it there, too
    return importlib.import_module("fuzz")


def test_no_file_hangs_or_ends_a_process_or_is_refused_without_a_clear_line(fuzz: ModuleType, tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    given = fuzz.clips(tmp_path)
    outcomes = {}
    for what, path in fuzz.files(made, COUNT, 1, given):
        outcomes[f"{what}, {path.name}"] = fuzz.in_child(path)
        path.unlink()
    assert [(what, outcome) for what, outcome in outcomes.items() if outcome.verdict == "BAD"] == []
    assert len(outcomes) == COUNT
    assert {outcome.verdict for outcome in outcomes.values()} == {"whole", "partial", "refused"}
    secrets = next(outcome for what, outcome in outcomes.items() if what.startswith("playlist of secrets"))
    assert secrets.verdict == "refused"


def test_whole_clips_are_whole(fuzz: ModuleType, tmp_path: Path) -> None:
    assert {fuzz.decode(str(path))[:2] for path in fuzz.clips(tmp_path)} == {("whole", 30)}


def test_what_is_bad_is_found(fuzz: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "playlist.m3u8"
    slow.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nplaylist.m3u8\n")
    assert fuzz.in_child(slow, 0.5) == ("BAD", 0, "no end within 0.5 s")

    def broken(path: str) -> None:
        raise ValueError("two\nlines")

    monkeypatch.setattr(fuzz, "open_source", broken)
    outcome = fuzz.decode("x.mp4")
    assert outcome.verdict == "BAD" and "ValueError" in outcome.said


def test_a_process_that_dies_is_told(fuzz: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "_child", _killed)
    assert fuzz.in_child(tmp_path / "x.mp4") == ("BAD", 0, f"the process ended with {-signal.SIGKILL}")


def _killed(path: str, answer: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
