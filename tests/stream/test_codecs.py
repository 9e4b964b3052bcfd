from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rtpsp.errors import MissingError
from rtpsp.labels import CAMVID
from rtpsp.spec import ModelSpec
from rtpsp.stream import codecs
from rtpsp.stream.codecs import choose_encoding, why_no_nvenc
from rtpsp.stream.recording import VideoFile
from rtpsp.stream.source import SourceInfo


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    why_no_nvenc.cache_clear()
    yield
    why_no_nvenc.cache_clear()


def test_an_nvenc_that_does_not_work_falls_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(codecs, "NVENC", "h264_of_no_machine")
    assert why_no_nvenc() is not None
    assert choose_encoding("auto", 480, 640, 20).name == "libx264" and not caplog.records
    assert choose_encoding("nvenc", 480, 640, 20).name == "libx264"
    assert [record.getMessage().split(" (")[0] for record in caplog.records] == ["NVENC does not encode 640x480"]


def test_an_nvenc_that_fails_at_this_size_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """x264 stands for it: it is there, and refuses a picture of odd width, as NVENC one that is too small."""
    monkeypatch.setattr(codecs, "NVENC", "libx264")
    monkeypatch.setattr(codecs, "_nvenc", lambda crf: codecs.Encoding("libx264", {"preset": "ultrafast"}))
    assert why_no_nvenc(48, 64) is None
    assert choose_encoding("auto", 48, 64, 20).options == {"preset": "ultrafast"}
    assert choose_encoding("auto", 48, 63, 20).options["tune"] == "zerolatency"
    assert choose_encoding("x264", 48, 64, 20).options["tune"] == "zerolatency", "asked for by name"
    assert choose_encoding("auto", 48, 64, 0).options["crf"] == "0", "NVENC's 0 is not lossless"


def test_nvenc_by_name_has_to_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecs, "NVENC", "h264_of_no_machine")
    sink = VideoFile(tmp_path / "out.mp4", codec="nvenc")
    with pytest.raises(MissingError, match="NVENC does not work on this machine"):
        sink.open(SourceInfo("test", "sim", 48, 64), ModelSpec("tiny", "fake", 48, 64, CAMVID))
    assert list(tmp_path.iterdir()) == []
