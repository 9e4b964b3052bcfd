"""Frames of a source that is a double: cameras above all, and sources too long to look at every frame."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtpsp import calibration_frames, calibration_sources
from rtpsp.arrays import Image
from rtpsp.calibration_frames import CAMERA_INTERVAL, CAMERA_LOOKS, record, survey_frames
from rtpsp.calibration_set import load_manifest, open_calibration
from rtpsp.errors import OutputError, SourceError, SourceLost
from rtpsp.stream.frame import Frame
from rtpsp.stream.source import Source, SourceInfo
from tests.data.test_calibration_choice import scene


class Places(Source):
    """Shows places by number; a camera when `live`, whose frames are `interval` seconds apart and perhaps never end."""

    def __init__(
        self,
        places: Sequence[int],
        live: bool = False,
        interval: float = 1.0,
        breaks: int | None = None,
        uri: str = "0",
    ) -> None:
        self.info = SourceInfo(uri, "camera" if live else "video", 96, 128, frames=None, live=live)
        self.places, self.interval, self.breaks = places, interval, breaks
        self.index, self.converted, self.closed = 0, list[int](), 0

    def read(self) -> Frame | None:
        if self.index == self.breaks:
            raise SourceLost("camera 0 went away: reconnect it")
        if self.index >= len(self.places):
            return None
        index, self.index = self.index, self.index + 1
        at = index * self.interval
        return Frame(index, at, 500 + at, 96, 128, lambda out: self.picture(index))

    def picture(self, index: int) -> Image:
        self.converted.append(index)
        return scene(self.places[index])

    def close(self) -> None:
        self.closed += 1


def quiet(step: str, done: int, total: int) -> None:
    pass


def test_of_a_long_source_evenly_spaced_frames_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtpsp.data.calibration_files.CANDIDATES", 16)
    source = Places([n // 50 for n in range(200)])
    survey = survey_frames(source, 4, quiet)
    assert survey.candidates == 13 and len(source.converted) < 60
    assert [source.places[entry.frame or 0] for entry in survey.entries] == [0, 1, 2, 3]


def test_a_cameras_different_frames_are_saved_without_loss(tmp_path: Path) -> None:
    places = [0] * 20 + [1] + [0] * 20 + [2]
    survey = record(Places(places, live=True), tmp_path, 30, quiet)
    assert {places[int(entry.name[:6])] for entry in survey.entries} == {0, 1, 2} and survey.candidates == 42
    assert sorted(file.name for file in tmp_path.iterdir()) == [entry.name for entry in survey.entries]
    assert len(survey.entries) == 30
    for entry in survey.entries:
        data = (tmp_path / entry.name).read_bytes()
        assert hashlib.sha256(data).hexdigest() == entry.sha256
        saved = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert saved is not None and np.array_equal(saved, scene(places[int(entry.name[:6])]))


def test_a_camera_is_watched_for_a_time_and_not_every_frame_is_taken(tmp_path: Path) -> None:
    source = Places([0] * 1000, live=True, interval=0.04)
    survey = record(source, tmp_path, 5, quiet)
    assert survey.candidates == CAMERA_LOOKS * 5 and len(survey.entries) == 5
    gaps = np.diff(source.converted) * 0.04
    assert gaps.min() >= CAMERA_INTERVAL - 1e-9 and gaps.max() < 2 * CAMERA_INTERVAL


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Source]:
    """What `open_source` gives next."""
    sources: list[Source] = []
    monkeypatch.setattr(calibration_sources, "open_source", lambda uri: sources.pop())
    return sources


def test_a_cameras_set_is_there_again(tmp_path: Path, opened: list[Source]) -> None:
    source = Places(range(9), live=True)
    opened.append(source)
    found = open_calibration("0", 4, folder=tmp_path)
    assert found.kind == "camera" and len(found) == 4 and source.closed
    assert found.manifest is not None and found.manifest.name == f"camera-0-{found.digest[:8]}.json"
    again = load_manifest(found.manifest)
    assert again.digest == found.digest and all(
        np.array_equal(one, other) for one, other in zip(found.images(), again.images(), strict=True)
    )


def test_a_camera_that_goes_away_leaves_nothing(tmp_path: Path, opened: list[Source]) -> None:
    source = Places(range(9), live=True, breaks=3)
    opened.append(source)
    with pytest.raises(SourceLost, match="went away"):
        open_calibration("0", 4, folder=tmp_path / "calib")
    assert list((tmp_path / "calib").iterdir()) == [] and source.closed
    opened.append(Places([], live=True))
    with pytest.raises(SourceError, match=r"0 gave no frame \(end of source\)"):
        open_calibration("0", 4, folder=tmp_path / "calib")


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[Source]) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    opened.append(Places(range(9), live=True))
    with pytest.raises(OutputError, match="No space left on device"):
        open_calibration("0", 4, folder=tmp_path)


def test_credentials_are_not_written_down(tmp_path: Path, opened: list[Source]) -> None:
    uri = "rtsp://me:secret@10.0.0.7:554/stream?user=me&pwd=secret#secret"
    opened.append(Places(range(3), live=True, uri=uri))
    found = open_calibration(uri, folder=tmp_path)
    assert found.manifest is not None and found.source == "rtsp://10.0.0.7:554/stream"
    assert "secret" not in found.manifest.read_text() and "secret" not in str(list(tmp_path.iterdir()))


def test_a_cameras_name_is_looked_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from rtpsp.stream.camera_info import CameraInfo

    asked: list[str] = []

    def open_source(uri: str) -> Source:
        asked.append(uri)
        return Places(range(3), live=True, uri=uri)

    monkeypatch.setattr(calibration_sources, "open_source", open_source)
    monkeypatch.setattr("rtpsp.stream.cameras.list_cameras", lambda: (CameraInfo("/dev/video4", "HD Webcam C920"),))
    assert open_calibration("c920", folder=tmp_path).source == "/dev/video4" and asked == ["/dev/video4"]


def test_decoders_are_let_go_of_after_each_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyAV's objects refer to each other, and many passes over a video are made."""
    import gc
    import weakref

    class Knot:
        def __init__(self) -> None:
            self.me = self

    knots: list[weakref.ref[Knot]] = []

    class Tangled(Places):
        def __init__(self) -> None:
            super().__init__(range(2))
            self.knot = Knot()
            knots.append(weakref.ref(self.knot))

    survey = survey_frames(Places(range(2)), 2, quiet)
    monkeypatch.setattr(calibration_frames, "open_source", lambda uri, options: Tangled())
    gc.disable()
    try:
        reader = calibration_frames.FrameReader("v.mp4")
        assert len(list(reader.images(survey.entries))) == 2
        next(half := reader.images(survey.entries))
        half.close()  # type: ignore[attr-defined]
        assert [knot() for knot in knots] == [None, None]
    finally:
        gc.enable()
