"""Published figures, and what differs between them and this machine's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rtpsp.bench.baseline import BASELINES, baseline_rows, list_baselines
from rtpsp.bench.differences import what_differs
from rtpsp.bench.subjects import SubjectOptions, open_subjects
from rtpsp.errors import UsageError
from tests.bench.tiny import SIZE, pictures, tiny_networks


def test_the_published_rows() -> None:
    figures = {row["key"]: row["published_ms"] for row in list_baselines()}
    assert figures == {"camvid": 185.0, "nyudv2-18": 19.0, "nyudv2-50": 47.0, "nyudv2-101": 72.0}
    assert all(row["source"] and row["unchecked"] for row in list_baselines()), "nobody held them against the papers"
    camvid = BASELINES["camvid"]
    assert (camvid.arch, camvid.size, camvid.classes) == ("pspnet50", (720, 960), 11)
    assert [BASELINES[f"nyudv2-{layers}"].size for layers in (18, 50, 101)] == [(480, 640)] * 3
    assert {BASELINES[f"nyudv2-{layers}"].classes for layers in (18, 50, 101)} == {40}


def test_the_same_backbone_and_an_engine_of_ones_own_beside_it(
    colour_engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BASELINES, "camvid", replace(BASELINES["camvid"], size=SIZE))
    seen: list[float] = []
    with tiny_networks(), open_subjects(SubjectOptions(engines=(str(colour_engine),))) as own:
        found = baseline_rows(
            ["camvid"], pictures(), seconds=0.05, warmup=0.0, threads=1, beside=own,
            tell=lambda what, share: seen.append(share),
        )  # fmt: skip
    same, other = found.to_dict()["rows"]
    assert same["same_network"] and same["network"] == "pspnet50-random" and (same["height"], same["width"]) == SIZE
    assert same["measured_ms"] == same["latency_ms"]["median"] > 0
    assert same["ratio"] == pytest.approx(same["measured_ms"] / 185, abs=1e-3)
    kinds = [words.split(":")[0] for words in same["differs"]]
    assert kinds[:4] == ["device", "runtime", "precision", "inside the time"] and "unchecked" in kinds
    told = "\n".join(same["differs"])
    assert "TitanX" in told and "Caffe there" in told and "1 thread of " in told and "random here" in told
    assert "GMAC a frame (" in told and "classes" not in kinds and "network" not in kinds
    assert not other["same_network"] and other["network"] == "colours"
    assert other["title"] == "PSPNet on CamVid, 720x960; beside it colours at 48x64"
    told = "\n".join(other["differs"])
    assert "network: " in told and "at 48x64 here, pspnet50 at 64x96 there" in told and "random" not in told
    assert same["latency_ms"]["count"] == other["latency_ms"]["count"], "they were timed in turn"
    assert seen == sorted(seen) and seen[-1] <= 1


def test_other_classes_differ_too(colour_engine: Path) -> None:
    with open_subjects(SubjectOptions(engines=(str(colour_engine),))) as own:
        told = what_differs(BASELINES["nyudv2-18"], own.entries[0], "f32", threads=2)
    assert "classes: 11 here, 40 there" in told
    assert any(words.startswith("device: 2 threads of ") and words.endswith("a Titan Xp there") for words in told)


def test_a_row_that_there_is_not() -> None:
    with pytest.raises(UsageError, match="no published row 'cityscapes': use one of camvid"):
        baseline_rows(["cityscapes"], pictures()[:1], seconds=0.1, warmup=0.0)


def test_stopped_before_the_first() -> None:
    found = baseline_rows(["camvid"], pictures()[:1], seconds=0.1, warmup=0.0, stopped=lambda: True)
    assert found.to_dict() == {"rows": []}
