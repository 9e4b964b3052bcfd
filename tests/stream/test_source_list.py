"""Lists of sources: names, comments, variables, and complaints that quote nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from rtpsp.errors import SourceError
from rtpsp.stream.names import shown
from rtpsp.stream.source_list import MAX_BYTES, MOST, NamedSource, name_sources, read_sources

SECRETS = {"USER_1": "anna", "PASS": "s3:cr/et@#", "HOST": "cam", "EMPTY": ""}


def read(folder: Path, text: str | bytes) -> list[tuple[str, str]]:
    path = folder / "sources.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return [(source.name, source.uri) for source in read_sources(path, SECRETS)]


@pytest.mark.parametrize(
    ("line", "name", "uri"),
    [
        ("rtsp://cam/s", "1", "rtsp://cam/s"),
        ("gate = rtsp://cam/s?x=1", "gate", "rtsp://cam/s?x=1"),
        ("gate=/dev/video0  # the old one", "gate", "/dev/video0"),
        ("rtsp://cam/s?x=1#part", "1", "rtsp://cam/s?x=1#part"),
        ("sim://street?w=160&h=120", "1", "sim://street?w=160&h=120"),
        ("./a=b.mp4", "1", "./a=b.mp4"),
        ("my clips/a b.mp4", "1", "my clips/a b.mp4"),
        ("x = http://${HOST}/${USER_1}.mjpg", "x", "http://cam/anna.mjpg"),
        ("rtsp://${USER_1}:${PASS}@${HOST}/s", "1", "rtsp://anna:s3%3Acr%2Fet%40%23@cam/s"),
        ("http://cam/s?key=${PASS}", "1", "http://cam/s?key=s3:cr/et@#"),
        ("http://cam/$PASS{x}", "1", "http://cam/$PASS{x}"),
        ("rtsp://cam${EMPTY}/s", "1", "rtsp://cam/s"),
    ],
)
def test_a_line_is_a_source(line: str, name: str, uri: str, tmp_path: Path) -> None:
    assert read(tmp_path, line) == [(name, uri)]


def test_a_file_has_blank_lines_and_comments_and_any_line_end(tmp_path: Path) -> None:
    text = b"\xef\xbb\xbf# yard\r\n\r\n  a = 0\r\n\t# off: b = 1\n2\n"
    assert read(tmp_path, text) == [("a", "0"), ("2", "2")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "names no source"),
        ("# a = 0", "names no source"),
        ("0\n\ntop secret!=rtsp://u:pw@h", "line 3: what stands before = is no name"),
        ("=rtsp://u:pw@h", "line 1: what stands before ="),
        ("../up=x", None),
        ("a b = 0", "line 1: what stands before ="),
        ("gate =", "line 1: 'gate' has no source"),
        ("gate = 0\nGATE = 1", "line 2: 'GATE' is the source of line 1 already"),
        ("2 = 0\n1", "line 2: '2' is the source of line 1 already"),
        ("rtsp://u:${NOT_SET}@pw", "line 1: the environment has no NOT_SET"),
        ("rtsp://u:${pw:-x}@pw", "line 1: a ${…} holds no variable's name"),
        ("\n".join(map(str, range(MOST + 1))), f"line {MOST + 1}: more than {MOST} sources"),
        (b"a\nb\xff", "byte 3 is not UTF-8"),
        (b"0\n" + b"#" * MAX_BYTES, "bytes"),
    ],
)
def test_what_is_no_list_is_told_by_line_and_without_secrets(
    text: str | bytes, says: str | None, tmp_path: Path
) -> None:
    if says is None:
        assert read(tmp_path, text)
        return
    with pytest.raises(SourceError) as raised:
        read(tmp_path, text)
    told = str(raised.value)
    assert says in told and "pw" not in told and "secret" not in told and "\n" not in told


@pytest.mark.parametrize("path", ["none.txt", "a\0b", "."])
def test_a_file_that_cannot_be_read_is_named(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match="--sources"):
        read_sources(path)


def test_a_command_line_counts_from_one_and_fills_in_uris_alone() -> None:
    uris = ["${HOST}.mp4", "rtsp://${USER_1}:${PASS}@cam/s"]
    assert name_sources(uris, SECRETS) == (
        NamedSource("1", "${HOST}.mp4"), NamedSource("2", "rtsp://anna:s3%3Acr%2Fet%40%23@cam/s")
    )  # fmt: skip
    with pytest.raises(SourceError, match="the environment has no NOT_SET"):
        name_sources(["rtsp://${NOT_SET}@h"], SECRETS)


def test_a_variable_that_is_called_a_secret_is_one_wherever_it_stands() -> None:
    variables = {"STREAM_KEY": "tulip-4711", "CAM_HOST": "yard-camera"}
    uri = name_sources(["http://${CAM_HOST}/live/${STREAM_KEY}/index.m3u8"], variables)[0].uri
    assert uri == "http://yard-camera/live/tulip-4711/index.m3u8"
    assert shown(uri) == "http://yard-camera/live/***/index.m3u8", "which is what a report, a label and a HUD have"
