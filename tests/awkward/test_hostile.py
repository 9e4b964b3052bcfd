"""Whatever a URI or a file holds, the answer is a source or an error of `rtpsp.errors`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtpsp.errors import RtpspError
from rtpsp.stream.simulator_uri import Simulation, parse_simulation
from rtpsp.stream.source import IMAGE_SUFFIXES, SourceOptions, open_source
from tests.awkward import files

quick = settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
TEXT = st.text(st.characters(exclude_categories=()), max_size=40)  # lone surrogates too
VIDEO_SUFFIXES = (".mp4", ".mkv", ".avi", ".ts", ".h264", ".mjpeg", ".gif", ".wav")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """So that no text names a file by chance."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    yield


def as_one_line(error: RtpspError) -> None:
    message = str(error)
    assert message.isprintable() and 0 < len(message) < 1000


def opens_or_says_why(uri: str, options: SourceOptions | None = None) -> None:
    """Open it, read a little, and accept any error that rtpsp raises on purpose and in one line."""
    try:
        with open_source(uri, options) as source:
            for _ in range(3):
                frame = source.read()
                if frame is None:
                    break
                frame.to_bgr(None)
    except RtpspError as error:
        as_one_line(error)


def parses_or_says_why(uri: str) -> None:
    try:
        parse_simulation(uri)
    except RtpspError as error:
        as_one_line(error)


NUMBERS = st.one_of(
    st.integers().map(str), st.floats().map(str), st.sampled_from(["1e999", "-0", "0x10", "1_0", "٣", "9" * 5000, ""])
)
NAMES = st.sampled_from([field.name for field in dataclasses.fields(Simulation)])


@quick
@given(st.lists(st.tuples(NAMES | TEXT, NUMBERS | TEXT), max_size=4))
def test_any_parameter_of_the_simulator_is_understood_or_named(pairs: list[tuple[str, str]]) -> None:
    parses_or_says_why("sim://street?" + "&".join(f"{name}={text}" for name, text in pairs))


@quick
@given(TEXT)
def test_any_text_behind_the_simulators_scheme_is_understood_or_refused(text: str) -> None:
    parses_or_says_why(f"sim://{text}")
    parses_or_says_why(f"sim://street{text}")


SIMULATIONS = st.builds(
    Simulation,
    w=st.integers(1, 8192),
    h=st.integers(1, 8192),
    fps=st.floats(0.1, 1000),
    frames=st.integers(1, 10**9),
    seed=st.integers(0, 2**32 - 1),
    live=st.just(True),
    timecode=st.booleans(),
    jitter=st.floats(0, 1e6),
    burst=st.integers(1, 10**9),
    drop=st.floats(0, 0.99),
    stall=st.floats(0, 1e6),
    stall_at=st.floats(0, 1e6),
    fifo=st.integers(1, 10**9),
    slow=st.floats(0.1, 1000),
    die=st.floats(0, 1e6),
    die_for=st.floats(0, 1e6),
    hang=st.floats(0, 1e6),
    hang_for=st.floats(0, 1e6),
    dup=st.floats(0, 0.99),
    back=st.floats(0, 0.99),
    unstamped=st.floats(0, 0.99),
    jump=st.floats(-1e6, 1e6).filter(bool),
    jump_at=st.floats(0, 1e6),
)
TIMES = ("jitter", "stall", "stall_at", "die", "die_for", "hang", "hang_for", "jump", "jump_at")


@quick
@given(SIMULATIONS)
def test_what_is_written_as_a_uri_is_read_back(simulation: Simulation) -> None:
    words = []
    plain = dataclasses.asdict(Simulation())
    for name, value in dataclasses.asdict(simulation).items():
        if value == plain[name]:
            continue
        text = f"{value!r}s" if name in TIMES else repr(value)
        words.append(f"{name}={int(value) if isinstance(value, bool) else text}")
    assert parse_simulation("sim://street?" + "&".join(words)) == simulation


@quick
@given(TEXT)
def test_any_name_is_opened_or_refused(name: str) -> None:
    opens_or_says_why(name)


@quick
@given(st.sampled_from(["", "/", "./", "~", "~/", "*/", "sim:", "file://", "/dev/", "\0", "\ud800", "[", "**/"]), TEXT)
def test_any_name_behind_a_known_beginning_is_opened_or_refused(beginning: str, name: str) -> None:
    opens_or_says_why(beginning + name)


@pytest.mark.parametrize(
    "name", ["a" * 100_000, "a/" * 50_000, "*/" * 3_000 + "*.png", "../" * 2_000, "9" * 5_000, "²"]
)
def test_an_immense_or_strange_name_is_refused(name: str) -> None:
    opens_or_says_why(name)


@quick
@given(st.binary(max_size=400), st.sampled_from([*VIDEO_SUFFIXES, *sorted(IMAGE_SUFFIXES)]))
def test_any_bytes_in_a_file_are_a_picture_or_an_error(data: bytes, suffix: str) -> None:
    path = Path(f"x{suffix}")
    path.write_bytes(data)
    opens_or_says_why(str(path))


@settings(quick, max_examples=60)
@given(st.data())
def test_any_damage_to_a_file_is_a_picture_or_an_error(data: st.DataObject) -> None:
    """Some bytes are replaced, or the rest of the file is lost: nearer to a broken disk than bytes by chance are."""
    name = data.draw(st.sampled_from(["x.mp4", "x.mkv", "x.avi", "x.png", "x.jpg", "x.bmp", "x.tif", "x.webp"]))
    path = Path(name)
    if name.endswith((".mp4", ".mkv", ".avi")):
        files.video(path, 3, codec="mpeg4" if name.endswith("avi") else "libx264")
    else:
        files.image(path)
    whole = bytearray(path.read_bytes())
    for at, new in data.draw(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=20)):
        whole[at] = new
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    start = data.draw(st.sampled_from([0.0, 0.04, 99.0]))
    opens_or_says_why(str(path), SourceOptions(start=start))


@pytest.mark.skipif(os.name == "nt", reason="Windows refuses such names")
@pytest.mark.parametrize("name", ["a\nb", "tab\there", "\x1b[31mred", "caf\udce9", "-o", " ", "'", "%s%d", "{x}"])
def test_a_file_of_a_strange_name_plays_and_a_damaged_one_is_named_in_one_line(name: str) -> None:
    path = Path(f"{name}.mp4")
    files.video(Path("x.mp4"), 2).rename(path)
    with open_source(str(path)) as source:
        assert sum(1 for _ in iter(source.read, None)) == 2
    path.write_bytes(b"not a video")
    with pytest.raises(RtpspError) as caught:
        open_source(str(path))
    as_one_line(caught.value)
