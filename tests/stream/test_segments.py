from __future__ import annotations

import errno
import logging
import os
import re
import time
from datetime import datetime
from pathlib import Path

import pytest

from rtpsp.errors import UsageError
from rtpsp.stream.segments import Segment, SegmentNames, parse_bytes

MOMENT = datetime(2026, 11, 27, 3, 40, 52).timestamp()  # local time, as the names


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30s", Segment(seconds=30)),
        ("10m", Segment(seconds=600)),
        (" 1.5 min ", Segment(seconds=90)),
        ("2h", Segment(seconds=7200)),
        ("1d", Segment(seconds=86400)),
        ("500MB", Segment(bytes=500_000_000)),
        ("2gb", Segment(bytes=2_000_000_000)),
        ("1GiB", Segment(bytes=1 << 30)),
        (".5GB", Segment(bytes=500_000_000)),
    ],
)
def test_a_segment_is_a_time_or_a_size(text: str, expected: Segment) -> None:
    assert Segment.parse(text) == expected


@pytest.mark.parametrize(
    "text", ["", "10", "m", "500M", "10 minutes", "-5m", "1h30m", "nan s", "1e3s", "٣m", "5m\n\x00", "9" * 400 + "GB"]
)
def test_what_is_neither_is_one_clear_line(text: str) -> None:
    with pytest.raises(UsageError, match=r"--segment .* is neither a time nor a size: give for example") as error:
        Segment.parse(text)
    assert "\n" not in str(error.value)


def test_segments_that_would_be_nothing_but_files_are_refused() -> None:
    with pytest.raises(UsageError, match=r"0\.5 s are too short"):
        Segment.parse("0.5s")
    with pytest.raises(UsageError, match="1000 bytes are too small"):
        Segment.parse("1kB")
    with pytest.raises(UsageError, match="either"):
        Segment(seconds=5, bytes=5_000_000)


def test_a_size_is_given_by_thousands_or_by_1024() -> None:
    assert [parse_bytes(text) for text in ("20GB", "20 GiB", "1.5tb", "7B")] == [20 * 10**9, 20 << 30, 15 * 10**11, 7]
    for text in ("20", "GB", "0GB", "20G", "10m", ""):
        with pytest.raises(UsageError, match=r"--keep .* is no size: give for example 500MB or 20GB"):
            parse_bytes(text)


def test_a_name_has_the_local_time_and_is_never_one_that_is_there(tmp_path: Path) -> None:
    names = SegmentNames(tmp_path / "out.mp4")
    made = [names.create(MOMENT).name for _ in range(3)]
    assert made == ["out-20261127-034052.mp4", "out-20261127-034052-2.mp4", "out-20261127-034052-3.mp4"]
    assert names.pattern == tmp_path / "out-*.mp4"


def test_codes_in_the_name_say_where_the_time_stands(tmp_path: Path) -> None:
    names = SegmentNames(tmp_path / "%Y-%m-%d gate 100%% %H.%M.%S.mkv")
    assert names.create(MOMENT).name == "2026-11-27 gate 100% 03.40.52.mkv"
    assert names.pattern.name == "* gate 100% *.mkv"
    for wrong in ("%a.mp4", "%Y-%.mp4", "100%.mp4", "%s.mp4"):
        with pytest.raises(UsageError, match="names of segments may hold %Y"):
            SegmentNames(tmp_path / wrong)


def ring(folder: Path, *names: str, size: int = 100) -> None:
    """Files of so many bytes, each older than the one behind it."""
    for number, name in enumerate(names):
        (folder / name).write_bytes(bytes(size))
        os.utime(folder / name, (time.time() - 1000 + number, time.time() - 1000 + number))


def test_the_oldest_go_until_the_rest_fits(tmp_path: Path) -> None:
    # by age and not by name: in autumn an hour of local time comes twice
    ring(tmp_path, *(f"out-20261025-{clock}.mp4" for clock in ("023000", "025500", "020500", "021500", "021500-2")))
    names = SegmentNames(tmp_path / "out.mp4")
    assert names.prune(500, ()) == []
    assert [path.name[13:] for path in names.prune(399, ())] == ["023000.mp4", "025500.mp4"]
    spared = tmp_path / "out-20261025-020500.mp4"
    assert [path.name[13:] for path in names.prune(0, (spared,))] == ["021500.mp4", "021500-2.mp4"]
    assert list(tmp_path.iterdir()) == [spared]


def test_nothing_else_is_ever_removed(tmp_path: Path) -> None:
    others = [
        "out.mp4", "out-2026.mp4", "out-20261127-034052.mp4.bak", "out-20261127-034052.mkv", 
        "my-out-20261127-034052.mp4",
        "out-20261127-0340521.mp4", "out-20261127-034052-1.mp4", "out-20261127-034052-x.mp4", "out-00000000_000000.mp4",
        "OUT-20261127-034052.mp4", "out-20261127-034052-2.MP4", "out-٢٠٢٦١١٢٧-034052.mp4", "out-20261127-034052.mp4\n",
    ]  # fmt: skip
    ring(tmp_path, *others)
    (tmp_path / "out-20261127-000000.mp4").mkdir()
    (tmp_path / "out-20261127-000001.mp4").symlink_to(tmp_path / "out.mp4")
    assert SegmentNames(tmp_path / "out.mp4").prune(0, ()) == []
    assert len(list(tmp_path.iterdir())) == len(others) + 2
    assert SegmentNames(tmp_path / "o.t.mp4").prune(0, ()) == [], "no letter of a name is a pattern"


def test_a_folder_left_by_an_unplugged_disk_is_not_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, disk = os.stat("/"), os.stat_result((0o40755, 1, 4242, *[1] * 7))
    mounted = [disk, disk, root, disk]

    def stat(path: object) -> os.stat_result:
        return mounted.pop(0) if path == tmp_path else root

    monkeypatch.setattr("rtpsp.stream.segments.os.stat", stat)
    names = SegmentNames(tmp_path / "out.mp4")
    assert names.create(MOMENT).parent == names.create(MOMENT).parent == tmp_path
    with pytest.raises(OSError, match=re.escape("no longer mounted")) as error:
        names.create(MOMENT)
    assert error.value.errno == errno.ENODEV
    assert names.create(MOMENT).name.endswith("-3.mp4"), "it is back"


def test_after_the_clock_was_put_back_the_segments_from_before_go_first(tmp_path: Path) -> None:
    ring(tmp_path, "out-20261127-000000.mp4", "out-20261127-001000.mp4")
    (tmp_path / "out-20271127-000000.mp4").write_bytes(bytes(100))
    os.utime(tmp_path / "out-20271127-000000.mp4", (time.time() + 3e7,) * 2)
    (tmp_path / "out-20261127-002000.mp4").write_bytes(bytes(100))
    os.utime(tmp_path / "out-20261127-002000.mp4", (time.time() + 60,) * 2)  # the clock of a file server
    removed = SegmentNames(tmp_path / "out.mp4").prune(200, ())
    assert [path.name for path in removed] == ["out-20271127-000000.mp4", "out-20261127-000000.mp4"]


def test_what_cannot_be_removed_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ring(tmp_path, "out-20261127-000000.mp4")
    monkeypatch.setattr(Path, "unlink", lambda path: (_ for _ in ()).throw(PermissionError(errno.EPERM, "not yours")))
    names = SegmentNames(tmp_path / "out.mp4")
    with caplog.at_level(logging.WARNING):
        assert [names.prune(0, ()) for _ in range(3)] == [[], [], []]
    path = tmp_path / "out-20261127-000000.mp4"
    assert [record.getMessage() for record in caplog.records] == [f"{path} cannot be removed to make room: not yours"]


@pytest.mark.parametrize(
    ("one", "other", "mix"),
    [
        ("cam-gate.mp4", "cam-gate-2.mp4", False),
        ("%H-gate.mp4", "%H-gate-2.mp4", True),  # its second one has that name
        ("gate-%H%M.mp4", "gate-1234-%H%M.mp4", True),
        ("gate.mp4", "gate.mkv", False),
        ("out.mp4", "out.mp4", True),
        ("a/out.mp4", "b/out.mp4", False),
        ("a/out.mp4", "b/../a/out.mp4", True),
    ],
)
def test_recordings_whose_segments_could_be_taken_for_each_others_are_found(
    one: str, other: str, mix: bool, tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = SegmentNames(tmp_path / one), SegmentNames(tmp_path / other)
    assert (first.mixes_with(second) or second.mixes_with(first)) is mix


def test_a_segment_that_is_too_large_to_be_kept_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ring(tmp_path, "out-20261127-000000.mp4")
    names = SegmentNames(tmp_path / "out.mp4")
    for keep in (100, 99, 99):
        assert names.prune(keep, (tmp_path / "out-20261127-000000.mp4",)) == []
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        "one segment takes more than is to be kept: make them shorter"
    ]
