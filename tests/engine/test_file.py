from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtpsp.engine import judge_file, load_engine
from rtpsp.engine.file import ALIGNMENT, FORMAT_VERSION, MAGIC, read_engine_file, rebuild, write_engine_file
from rtpsp.errors import EngineFileError, OutputError
from rtpsp.header import EngineHeader
from rtpsp.inspection import inspect
from rtpsp.labels import CAMVID
from rtpsp.spec import ModelSpec
from tests.strategies import headers

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


def with_header(data: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """A file whose header was written otherwise, with its digest: what a faulty writer could leave."""
    length = int.from_bytes(data[12:16], "little")
    text, payload = change(data[48 : 48 + length]), data[-len(PAYLOAD) :]
    head = data[:12] + len(text).to_bytes(4, "little") + hashlib.sha256(text).digest() + text
    return head.ljust(-(-len(head) // ALIGNMENT) * ALIGNMENT, b"\0") + payload


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda data: b"ELF" + data[3:], "not an rtpsp engine"),
        (lambda data: b"", "not an rtpsp engine"),
        (lambda data: data[:8] + b"\x09" + data[9:], "engine format 9.*upgrade"),
        (lambda data: data[:8] + b"\x01" + data[9:], "engine format 1, this rtpsp reads 2: build it again"),
        (lambda data: data[:8], "engine format 0"),
        (lambda data: data[:20], "cut short within the header"),
        (lambda data: data[:60], r"cut short, the header has 12 of \d+ bytes"),
        (lambda data: data[:12] + b"\xff\xff\xff\xff" + data[16:], "cut short, the header has"),
        (lambda data: data[:60] + b"\x00" + data[61:], "header is damaged"),
        (lambda data: data[:4000] + b"\x01" + data[4001:], "behind the header are not zero"),
        (lambda data: data[:-1], "cut short"),
        (lambda data: data + b"x", "the header promises .* appended"),
        (lambda data: data[:-1] + b"x", "sha256"),
        (lambda data: with_header(data, lambda text: b"[" * 9999), "header is not JSON"),
        (lambda data: with_header(data, lambda text: b"[]"), "header is a list"),
        (lambda data: with_header(data, lambda text: b"{}"), "header cannot be read"),
        (lambda data: with_header(data, lambda text: text.replace(b": 8448", b": null")), "payload_length is None"),
        (lambda data: with_header(data, lambda text: text.replace(b": 8448", b": -448")), "payload_length is -448"),
    ],
)
def test_damage_is_named(path: Path, change: object, says: str) -> None:
    assert callable(change)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(EngineFileError, match=says) as caught:
        load_engine(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(EngineFileError, match="an engine is made by 'rtpsp build-engine"):
        load_engine(tmp_path / "none.engine")


def test_no_flipped_bit_goes_unseen(path: Path) -> None:
    whole = path.read_bytes()
    end = 48 + int.from_bytes(whole[12:16], "little")
    places = [*range(end), end, ALIGNMENT - 1, *range(ALIGNMENT, len(whole), 97), len(whole) - 1]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        with pytest.raises(EngineFileError):
            load_engine(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(head=st.sampled_from([b"", MAGIC, MAGIC + FORMAT_VERSION.to_bytes(4, "little")]), tail=st.binary(max_size=200))
def test_hostile_bytes_are_an_error_of_ours(tmp_path: Path, head: bytes, tail: bytes) -> None:
    path = tmp_path / "x.engine"
    path.write_bytes(head + tail)
    with pytest.raises(EngineFileError):
        read_engine_file(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(header=headers(), payload=st.binary(max_size=5000))
def test_any_engine_survives_its_file(tmp_path: Path, header: EngineHeader, payload: bytes) -> None:
    path = tmp_path / "x.engine"
    write_engine_file(path, header, payload)
    file = read_engine_file(path)
    assert (file.header, file.payload()) == (header, payload)
    assert inspect(path).why_not == judge_file(file).refusals


@pytest.mark.parametrize("kind", ["folder", "pipe", "zero"])
def test_what_is_no_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.engine"
    if kind == "folder":
        path.mkdir()
    elif kind == "zero":
        path = Path("/dev/zero")
    else:
        os.mkfifo(path)
    with pytest.raises(EngineFileError):
        load_engine(path)


def test_the_command_that_mends_it_says_what_it_was(tmp_path: Path) -> None:
    header = EngineHeader(SPEC, "onnxruntime", "fp32", "", options={"model": "my.onnx", "confidence": True})
    told = rebuild(header, tmp_path / "x.engine")
    assert f"'rtpsp build-engine my.onnx --fp32 --confidence --backend onnxruntime -o {tmp_path}/x.engine'" in told


def test_the_command_can_be_pasted_whatever_the_file_calls_its_model() -> None:
    header = EngineHeader(SPEC, "openvino", "fp32", "", options={"model": "x.onnx; reboot"})
    command = rebuild(header, Path("my engine")).partition("'")[2].removesuffix("'")
    assert shlex.split(command)[:3] == ["rtpsp", "build-engine", "x.onnx; reboot"]
    assert shlex.split(command)[-2:] == ["-o", "my engine"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "my.onnx", "int8": {"cache": "my-mse.json"}}, "my.onnx --int8 --calib-cache my-mse.json"),
        ({"model": "pspnet18-camvid.onnx", "shipped": True, "int8": {}}, "--int8"),
        ({"model": "my.onnx", "int8": {"cache": ["x"]}}, "my.onnx --int8"),
        ({"model": "my.onnx", "int8": "x", "shipped": "yes"}, "my.onnx --int8"),
    ],
)
def test_int8_is_rebuilt_from_the_ranges_it_had(options: dict[str, object], words: str) -> None:
    header = EngineHeader(SPEC, "openvino", "int8", "ab" * 32, options=options)
    assert f"'rtpsp build-engine {words} --backend openvino -o x.engine'" in rebuild(header, Path("x.engine"))


def test_a_header_beyond_every_bound_is_not_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtpsp.engine.file.MAX_HEADER_BYTES", 100)
    with pytest.raises(EngineFileError, match=r"the header has 100 of \d{3,} bytes"):
        read_engine_file(path)


def test_an_unknown_backend_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.engine"
    write_engine_file(path, EngineHeader(SPEC, "abacus", "fp32", ""), b"beads")
    with pytest.raises(EngineFileError, match=rf"^{re.escape(str(path))}: backend 'abacus' is unknown"):
        load_engine(path)
