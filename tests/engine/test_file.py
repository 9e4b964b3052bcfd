from __future__ import annotations

import os
from pathlib import Path

import pytest

from rtpsp.engine import load_engine
from rtpsp.engine.file import ALIGNMENT, read_engine_file, write_engine_file
from rtpsp.errors import EngineFileError, OutputError
from rtpsp.labels import CAMVID
from rtpsp.spec import EngineHeader, ModelSpec

SPEC = ModelSpec("tiny", "test", 12, 20, CAMVID, fit="letterbox", licence="research only")
HEADER = EngineHeader(SPEC, "openvino", "fp16", "ab" * 32, {"rtpsp": "0.1.0"}, None, {"batch": 1})
PAYLOAD = bytes(range(256)) * 33


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "deep" / "x.engine"
    write_engine_file(path, HEADER, PAYLOAD)
    return path


def test_round_trip(path: Path) -> None:
    file = read_engine_file(path)
    assert file.header == HEADER
    assert file.payload() == PAYLOAD
    assert file.offset % ALIGNMENT == 0 and path.stat().st_size == file.offset + len(PAYLOAD)
    assert [entry.name for entry in path.parent.iterdir()] == ["x.engine"], "nothing temporary is left"


def test_nothing_is_left_when_writing_fails(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(source: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OutputError, match="No space left"):
        write_engine_file(path, HEADER, b"new")
    assert [entry.name for entry in path.parent.iterdir()] == ["x.engine"]
    assert read_engine_file(path).payload() == PAYLOAD, "the file that was there is whole"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda data: b"ELF" + data[3:], "not an rtpsp engine"),
        (lambda data: b"", "not an rtpsp engine"),
        (lambda data: data[:8] + b"\x09" + data[9:], "engine format 9"),
        (lambda data: data[:40], "header is damaged"),
        (lambda data: data[:12] + b"\xff\xff\xff\xff" + data[16:], "header is damaged"),
        (lambda data: data[:20] + b"\x00" + data[21:], "header"),
        (lambda data: data[:-1], "cut short"),
        (lambda data: data + b"x", "the header promises"),
        (lambda data: data[:-1] + b"x", "sha256"),
        (lambda data: data.replace(b'"payload_length": 8448', b'"payload_length": null'), "payload_length is None"),
    ],
)
def test_damage_is_named(path: Path, change: object, says: str) -> None:
    assert callable(change)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(EngineFileError, match=says) as caught:
        load_engine(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(EngineFileError, match="rtpsp build-engine -o"):
        load_engine(tmp_path / "none.engine")
