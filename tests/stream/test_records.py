from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools import mask  # type: ignore[import-untyped,unused-ignore]

from rtpsp.engine.fake import FakeEngine
from rtpsp.errors import MissingError, OutputError, UsageError
from rtpsp.fit import no_class
from rtpsp.labels import CAMVID, LabelSet, distinct_palette
from rtpsp.live import RunOptions, run
from rtpsp.spec import ModelSpec
from rtpsp.stream.frame import Frame, Rendered, Stamps
from rtpsp.stream.records import RleFile, StatsFile, encode_classes
from rtpsp.stream.source import SourceInfo

SPEC = ModelSpec("tiny", "fake", 48, 64, CAMVID)
INFO = SourceInfo("test", "sim", 48, 64)
SINKS = pytest.mark.parametrize("make", [RleFile, StatsFile])


def rendered(class_map: np.ndarray, index: int = 0, pts: float = 0.0, name: str | None = None) -> Rendered:
    height, width = class_map.shape
    frame = Frame(index, pts, 2.0, height, width, lambda out: np.empty((height, width, 3), np.uint8), name)
    return Rendered(frame, {}, class_map, Stamps(2.0, rendered=2.0625))


def written(sink: RleFile | StatsFile, maps: list[np.ndarray], spec: ModelSpec = SPEC) -> list[dict[str, Any]]:
    """What reads back of a file that `sink` has just written, header included."""
    sink.open(INFO, spec)
    for index, class_map in enumerate(maps):
        sink.write(rendered(class_map, index, index / 25))
    sink.close()
    assert sink.output is not None
    return lines(Path(sink.output))


def lines(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="ascii")
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def patches(shape: tuple[int, int], classes: int, seed: int) -> np.ndarray:
    """Patches of classes, as segmentation gives them, with some of no class."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, classes + 1, (max(1, shape[0] // 6), max(1, shape[1] // 6)))
    ids = cv2.resize(small.astype(np.int32), shape[::-1], interpolation=cv2.INTER_NEAREST)
    ids[ids == classes] = no_class(classes)
    return np.asarray(ids, np.uint8 if classes <= 255 else np.int32)


def decoded(record: dict[str, Any], classes: int) -> np.ndarray:
    ids = np.full((record["height"], record["width"]), no_class(classes), np.int32)
    for segment in record["segments"]:
        inside = mask.decode(segment["rle"]).astype(bool)
        assert inside.sum() == segment["area"] and (ids[inside] == no_class(classes)).all()
        ids[inside] = segment["class_id"]
    return ids


# decoding, which is only the test's, is not quite at home in NumPy 2 yet
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
@pytest.mark.parametrize("classes", [2, 11, 255, 300])
def test_pycocotools_gives_the_class_map_back(tmp_path: Path, classes: int) -> None:
    labels = LabelSet("some", tuple(f"class {n}" for n in range(classes)), distinct_palette(classes))
    spec = ModelSpec("tiny", "fake", 48, 64, labels)
    maps = [patches(shape, classes, seed) for seed, shape in enumerate([(48, 64), (97, 31), (1, 40), (40, 1), (1, 1)])]
    header, *records = written(RleFile(tmp_path / "out.jsonl"), maps, spec)
    for record, class_map in zip(records, maps, strict=True):
        assert np.array_equal(decoded(record, classes), class_map)
        present = [segment["class_id"] for segment in record["segments"]]
        assert present == sorted({label for label in class_map.ravel().tolist() if 0 <= label < classes})
        assert all(segment["class"] == labels.names[segment["class_id"]] for segment in record["segments"])
    assert (header["format"], header["version"], header["model"], header["source"]) == ("rtpsp.rle", 1, "tiny", "test")
    assert LabelSet.from_dict(header["labels"]) == labels


@pytest.mark.parametrize("seed", range(8))
def test_codes_are_the_ones_that_the_library_itself_makes(seed: int) -> None:
    class_map = patches((30 + seed, 50), 5, seed)
    if seed == 0:
        class_map[:] = 3
    codes = {label: (area, rle) for label, area, rle in encode_classes(class_map, 5)}
    for label in np.unique(class_map[class_map < 5]).tolist():
        code = mask.encode(np.asfortranarray(class_map == label, np.uint8))
        assert codes.pop(label) == (mask.area(code), {**code, "counts": code["counts"].decode()})
    assert not codes


def test_a_frame_without_any_class_has_no_segment(tmp_path: Path) -> None:
    nothing = np.full((48, 64), 255, np.uint8)
    _, record = written(RleFile(tmp_path / "out.jsonl"), [nothing])
    assert record["segments"] == []
    (record,) = written(StatsFile(tmp_path / "stats.jsonl"), [nothing])
    assert record["unknown"] == 1 and set(record["shares"].values()) == {0}


@pytest.mark.parametrize("classes", [11, 255, 300])
def test_shares_and_the_unknown_add_up_to_one(tmp_path: Path, classes: int) -> None:
    labels = LabelSet("some", tuple(f"class {n}" for n in range(classes)), distinct_palette(classes))
    maps = [patches((47, 61), classes, seed) for seed in range(3)]
    records = written(StatsFile(tmp_path / "stats.jsonl"), maps, ModelSpec("tiny", "fake", 48, 64, labels))
    for record, class_map in zip(records, maps, strict=True):
        assert tuple(record["shares"]) == labels.names
        assert sum(record["shares"].values()) + record["unknown"] == pytest.approx(1, abs=1e-6)
        assert record["unknown"] == pytest.approx((class_map == no_class(classes)).mean(), abs=1e-8)
        assert record["shares"]["class 7"] == pytest.approx((class_map == 7).mean(), abs=1e-8)


def test_a_line_says_which_frame_when_and_how_late(tmp_path: Path) -> None:
    sink = StatsFile(tmp_path / "stats.jsonl")
    sink.open(INFO, SPEC)
    sink.write(rendered(np.zeros((4, 4), np.uint8), 7, 0.28, "Zebra über\udcff.png"))
    sink.write(rendered(np.zeros((4, 4), np.uint8), 9, 0.36))
    first, second = lines(tmp_path / "stats.jsonl")  # whole although the file is still open
    assert (first["frame"], first["pts"], first["name"]) == (7, 0.28, "Zebra über\udcff.png")
    assert (second["frame"], second["pts"]) == (9, 0.36) and "name" not in second
    assert first["latency_ms"] == 62.5 and first["shares"]["Sky"] == 1
    sink.close()


def test_an_age_is_of_the_moment_in_which_the_line_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtpsp.stream.records.now", lambda: 2.125)
    (record,) = written(StatsFile(tmp_path / "stats.jsonl"), [np.zeros((4, 4), np.uint8)])
    assert (record["latency_ms"], record["age_ms"]) == (62.5, 125)


@SINKS
def test_of_several_sources_each_line_names_its_own(tmp_path: Path, make: type[RleFile | StatsFile]) -> None:
    sink = make(tmp_path / "out.jsonl")
    sink.open_all([INFO, SourceInfo("other", "sim", 4, 4), INFO], SPEC)
    for number in (2, 0, 1):
        item = rendered(np.zeros((4, 4), np.uint8))
        sink.write(replace(item, frame=replace(item.frame, source=number)))
    sink.close()
    *header, third, first, second = lines(tmp_path / "out.jsonl")
    assert [line["source"] for line in (first, second, third)] == ["test", "other", "test (2)"]
    assert all(line["sources"] == ["test", "other", "test (2)"] for line in header)
    sink = make(tmp_path / "one.jsonl")
    sink.open_all([INFO], SPEC)
    sink.write(rendered(np.zeros((4, 4), np.uint8)))
    sink.close()
    assert "source" not in lines(tmp_path / "one.jsonl")[-1]


@SINKS
def test_no_source_of_several_is_written_over(tmp_path: Path, make: type[RleFile | StatsFile]) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"frames")
    sink = make(clip)
    with pytest.raises(UsageError, match="source itself"):
        sink.open_all([INFO, SourceInfo(str(clip), "video", 4, 4)], SPEC)
    sink.close()
    assert clip.read_bytes() == b"frames"


@SINKS
def test_an_older_file_stays_until_there_is_a_frame(tmp_path: Path, make: type[RleFile | StatsFile]) -> None:
    path = tmp_path / "new" / "folder" / "out.jsonl"
    sink = make(path)
    sink.open(INFO, SPEC)
    sink.close()
    assert not path.exists() and sink.output is None  # nor is there an empty one where there was none
    path.write_bytes(b"yesterday's, and much longer than what comes\n" * 1000)
    sink = make(path)
    sink.open(INFO, SPEC)
    sink.close()
    assert path.stat().st_size > 40_000
    records = written(make(path), [np.zeros((4, 4), np.uint8)])
    assert records[-1]["frame"] == 0


@SINKS
def test_what_cannot_be_written_is_said_before_the_first_frame(tmp_path: Path, make: type[RleFile | StatsFile]) -> None:
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path / "file" / "out.jsonl", tmp_path, tmp_path / ("x" * 300)):
        sink = make(path)
        with pytest.raises(OutputError, match="give another place with --"):
            sink.open(INFO, SPEC)
        sink.close()


@SINKS
def test_the_source_is_not_written_over(tmp_path: Path, make: type[RleFile | StatsFile]) -> None:
    clip, image = tmp_path / "clip.mp4", tmp_path / "frames" / "a.png"
    image.parent.mkdir()
    link = tmp_path / "link.jsonl"
    link.symlink_to(clip)
    for path in (clip, image):
        path.write_bytes(b"frames")
    sources = [
        (clip, SourceInfo(str(clip), "video", 4, 4)),
        (link, SourceInfo(str(clip), "video", 4, 4)),
        (image, SourceInfo(str(image), "images", 4, 4)),
        (image, SourceInfo(str(image.parent), "images", 4, 4)),
        (image, SourceInfo(str(tmp_path / "*" / "a.*"), "images", 4, 4)),
    ]
    for path, info in sources:
        sink = make(path)
        with pytest.raises(UsageError, match="source itself"):
            sink.open(info, SPEC)
        sink.close()
    assert clip.read_bytes() == image.read_bytes() == b"frames"
    sink = make(image.parent / "out.jsonl")  # beside the images is no harm
    sink.open(SourceInfo(str(image.parent), "images", 4, 4), SPEC)
    sink.close()


def fill(sink: RleFile | StatsFile, frames: int) -> None:
    for index in range(frames):
        sink.write(rendered(patches((48, 64), 11, index), index))


@SINKS
@pytest.mark.skipif(sys.platform == "win32", reason="no limit of a file's size to stand for a full disk")
def test_what_was_written_before_the_disk_was_full_is_kept(tmp_path: Path, make: type[RleFile | StatsFile]) -> None:
    import resource

    path = tmp_path / "out.jsonl"
    sink = make(path)
    sink.open(INFO, SPEC)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_011, before[1]))
    try:
        with pytest.raises(OutputError, match="frames up to here are kept") as caught:
            fill(sink, 400)
        sink.close()  # says it no second time
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    kept = [record for record in lines(path) if "frame" in record]
    assert [record["frame"] for record in kept] == list(range(len(kept)))
    assert len(kept) >= 5 and f"the {len(kept)} frames" in str(caught.value)


def in_a_process(program: str, *command: str) -> subprocess.CompletedProcess[str]:
    setup = "import os, signal, sys; from pathlib import Path; from tests.stream.test_records import *\n"
    return subprocess.run(
        [*command, sys.executable, "-c", setup + program],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="needs a small file system to fill")
def test_a_file_system_that_is_full(tmp_path: Path) -> None:
    mount = f'mount -t tmpfs -o size=64k tmpfs {tmp_path} && exec "$@"'
    private = ("unshare", "--mount", "sh", "-c", mount, "sh")  # the mount ends with the process, however that ends
    if subprocess.run([*private, "true"], capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed")
    path = tmp_path / "out.jsonl"
    program = (
        f"sink = RleFile({str(path)!r}); sink.open(INFO, SPEC)\n"
        f"try: fill(sink, 2000)\nexcept OutputError as error: print(error)\n"
        f"sink.close(); print(len(lines(Path({str(path)!r}))))"
    )
    said, kept = in_a_process(program, *private).stdout.splitlines()
    assert said == (
        f"{path}: No space left on device; the {int(kept) - 1} frames up to here are kept; free the disk or give "
        "another place with --rle"
    )
    assert int(kept) > 5


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_device_is_written_to_as_it_is() -> None:
    sink = StatsFile("/dev/full")
    sink.open(INFO, SPEC)
    with pytest.raises(OutputError, match="/dev/full: No space left on device; the 0 frames"):
        fill(sink, 1)
    sink.close()
    assert os.path.exists("/dev/full")


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_run_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    in_a_process(
        f"sink = RleFile({str(path)!r}); sink.open(INFO, SPEC); fill(sink, 20); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert len(lines(path)) == 21


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(MissingError, match="pip install pycocotools"):
        RleFile(tmp_path / "out.jsonl").open(INFO, SPEC)
    assert list(tmp_path.iterdir()) == []


def test_a_run_writes_a_line_a_frame(tmp_path: Path) -> None:
    sinks = [RleFile(tmp_path / "rle.jsonl"), StatsFile(tmp_path / "stats.jsonl")]
    report = run("sim://street?w=160&h=120&frames=5", FakeEngine(), sinks, RunOptions(policy="every"))
    assert report.outputs == (str(tmp_path / "rle.jsonl"), str(tmp_path / "stats.jsonl"))
    header, *records = lines(tmp_path / "rle.jsonl")
    stats = lines(tmp_path / "stats.jsonl")
    assert header["source"] == report.source.uri
    assert [record["frame"] for record in records] == [record["frame"] for record in stats] == list(range(5))
    for record, stat in zip(records, stats, strict=True):
        assert record["pts"] == stat["pts"] and stat["latency_ms"] > 0
        for segment in record["segments"]:
            assert segment["area"] / (120 * 160) == pytest.approx(stat["shares"][segment["class"]], abs=1e-8)


@SINKS
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_is_written_to_once_somebody_reads_it(tmp_path: Path, make: type[RleFile | StatsFile]) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    sink = make(path)
    with pytest.raises(OutputError, match="nobody reads; start its reader first; give another place"):
        sink.open(INFO, SPEC)
    sink.close()
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    sink = make(path)
    sink.open(INFO, SPEC)
    fill(sink, 1)
    sink.close()
    assert os.read(reader, 1 << 16).endswith(b"}\n")
    os.close(reader)
    assert path.is_fifo()


@SINKS
def test_a_home_is_expanded_and_a_strange_name_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: type[RleFile | StatsFile]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    written(make("~/out.jsonl"), [np.zeros((4, 4), np.uint8)])
    assert (tmp_path / "out.jsonl").is_file()
    for name in ("nul\0", "a\nb/" + "x" * 300):
        with pytest.raises(OutputError, match="give another place with --") as caught:
            make(tmp_path / name).open(INFO, SPEC)
        assert "\n" not in str(caught.value)


@SINKS
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_reader_that_goes_away_is_no_full_disk(tmp_path: Path, make: type[RleFile | StatsFile]) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    sink = make(tmp_path / "pipe")
    sink.open(INFO, SPEC)
    os.close(reader)
    with pytest.raises(OutputError, match="Broken pipe; the 0 frames up to here are kept; give another place"):
        fill(sink, 1)
    sink.close()
