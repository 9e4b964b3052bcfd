from __future__ import annotations

import json

import pytest

from rtpsp.bench import noise
from rtpsp.bench.noise import Noise, _Times


def told_of(monkeypatch: pytest.MonkeyPatch, before: _Times, after: _Times) -> Noise:
    times = iter([before, after])
    monkeypatch.setattr(noise, "_times", lambda: next(times))
    with Noise() as found:
        pass
    return found


def test_a_quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    # two processors for ten seconds: ours had 12 of 20, others 1
    found = told_of(monkeypatch, _Times(5, 100, 50, 3, 7), _Times(15, 120, 57, 3, 19))
    assert found.others_percent == pytest.approx(5) and found.stolen_percent == 0 and found.seconds == 10
    assert found.quiet and found.words == "other programs used 5 % of the CPU; steal 0 %"


def test_a_busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    found = told_of(monkeypatch, _Times(5, 100, 50, 0, 7), _Times(15, 120, 50, 1, 19))
    assert found.others_percent == pytest.approx(35) and found.stolen_percent == pytest.approx(5)
    assert not found.quiet and "35 % of the CPU; steal 5 %" in found.words


def test_our_own_work_is_no_noise_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    found = told_of(
        monkeypatch, _Times(0, 0, 0, 0, 0), _Times(1, 2, 0, 0, 2.01)
    )  # clocks of the two kinds differ a little
    assert found.others_percent == 0 and found.quiet


def test_what_cannot_be_told_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "_load", lambda: None)
    monkeypatch.setattr(noise, "_clock", lambda: None)
    found = told_of(monkeypatch, _Times(1, 5, 1, 0, 0), _Times(1, 5, 1, 0, 0))
    told = json.loads(json.dumps(found.to_dict()))
    assert told["load"] is told["frequency_mhz"] is told["others_percent"] is None
    assert told["quiet"] is True and "cannot be told" in told["words"]


def test_this_machine_tells_something() -> None:
    with Noise() as found:
        sum(range(300_000))
    told = found.to_dict()
    assert told["seconds"] > 0 and set(told) >= {"load", "steal_percent", "others_percent", "words"}
    assert told["others_percent"] is None or 0 <= told["others_percent"] <= 100
