from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtpsp.arrays import Image
from rtpsp.data.calibration import (
    CalibrationEntry,
    CalibrationSet,
    FileReader,
    SimulatorReader,
    digest_of,
    sha256_of_pixels,
)
from rtpsp.data.simulated import find_frames
from rtpsp.errors import DataError
from rtpsp.labels import CAMVID
from tests.data.test_simulated import FakeStreet

STREET = "sim://street?frames=3&w=160&h=120&step=40"


def picture(value: int, height: int = 6, width: int = 8) -> Image:
    return np.full((height, width, 3), (value, value + 1, value + 2), np.uint8)


def write(path: Path, image: Image) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def numbers(count: int) -> CalibrationSet:
    """A set that nobody reads."""
    entries = tuple(CalibrationEntry(f"{n}.png", f"{n:064x}") for n in range(count))
    return CalibrationSet("numbers", "images", None, entries, FileReader(Path("nowhere")), Path("numbers.json"))


@pytest.fixture
def pairs(tmp_path: Path) -> CalibrationSet:
    entries = []
    for n in range(3):
        image = write(tmp_path / f"images/{n}.png", picture(10 * n, 6 + n))
        label = write(tmp_path / f"labels/{n}.png", np.full((6 + n, 8), n, np.uint8))
        entries.append(CalibrationEntry(f"images/{n}.png", image, label=f"labels/{n}.png", label_sha256=label))
    return CalibrationSet("pairs", "pairs", None, tuple(entries), FileReader(tmp_path))


# --- the set ---------------------------------------------------------------------------------------------------------


def test_a_slice_is_a_set_of_its_own_without_the_manifest() -> None:
    whole = numbers(5)
    part = whole[1:4]
    assert isinstance(part, CalibrationSet) and part.names == ("1.png", "2.png", "3.png") and len(part) == 3
    assert part.manifest is None and whole.manifest is not None and part.digest != whole.digest
    with pytest.raises(ValueError, match="step -1"):
        whole[::-1]


def test_the_digest_is_of_the_frames_in_order_and_of_nothing_else() -> None:
    whole = numbers(3)
    renamed = tuple(CalibrationEntry(f"elsewhere/{e.name}", e.sha256, label="l") for e in whole.entries)
    assert (
        whole.digest
        == digest_of(renamed)
        == hashlib.sha256("".join(f"{n:064x}" for n in range(3)).encode()).hexdigest()
    )
    assert digest_of(whole.entries[::-1]) != whole.digest


@pytest.mark.parametrize(("count", "held"), [(10, "2 7"), (5, "2"), (3, "2"), (2, "1"), (23, "2 7 12 17 22")])
def test_one_frame_in_five_is_held_out_at_regular_places(count: int, held: str) -> None:
    fit, out = numbers(count).hold_out()
    assert [name.removesuffix(".png") for name in out.names] == held.split()
    assert sorted({*fit.names, *out.names}) == sorted(numbers(count).names) and not {*fit.names} & {*out.names}


def test_halves_take_turns() -> None:
    one, other = numbers(5).halves()
    assert one.names == ("0.png", "2.png", "4.png") and other.names == ("1.png", "3.png")


def test_one_frame_cannot_be_divided() -> None:
    for divide in (numbers(1).hold_out, numbers(1).halves, numbers(0).halves):
        with pytest.raises(DataError, match=r"has [01] frame\(s\)"):
            divide()
    with pytest.raises(ValueError, match="one frame in 1"):
        numbers(4).hold_out(1)


def test_a_set_without_labels_has_no_samples() -> None:
    assert not numbers(2).labelled
    with pytest.raises(DataError, match="has no labels"):
        numbers(2).samples()


# --- files -----------------------------------------------------------------------------------------------------------


def test_images_come_one_at_a_time_each_of_its_own_size(pairs: CalibrationSet) -> None:
    for _ in range(2):
        for n, image in enumerate(pairs.images()):
            assert image.dtype == np.uint8 and np.array_equal(image, picture(10 * n, 6 + n))


def test_nothing_is_read_before_it_is_asked_for(pairs: CalibrationSet, tmp_path: Path) -> None:
    (tmp_path / "images/1.png").unlink()
    images = pairs.images()
    assert next(images).shape == (6, 8, 3)
    with pytest.raises(DataError, match=r"1\.png cannot be read"):
        next(images)


def test_samples_have_their_truth(pairs: CalibrationSet) -> None:
    assert pairs.labelled
    for n, sample in enumerate(pairs.samples()):
        assert sample.name == f"images/{n}.png" and np.array_equal(sample.image, picture(10 * n, 6 + n))
        assert np.array_equal(sample.truth, np.full((6 + n, 8), n))


def test_a_changed_image_is_refused(pairs: CalibrationSet, tmp_path: Path) -> None:
    write(tmp_path / "images/2.png", picture(21, 8))
    with pytest.raises(DataError, match=r"image .*2\.png is not what it was when it was chosen.*--calib"):
        list(pairs.images())
    assert len(list(pairs[:2].images())) == 2


def test_a_changed_label_is_refused_where_labels_are_read(pairs: CalibrationSet, tmp_path: Path) -> None:
    write(tmp_path / "labels/0.png", np.full((6, 8), 9, np.uint8))
    assert len(list(pairs.images())) == 3
    with pytest.raises(DataError, match=r"label .*0\.png is not what it was"):
        next(pairs.samples())


# --- the simulator ---------------------------------------------------------------------------------------------------


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streets of one colour a frame: the real one takes its time, and is a data set in `test_dataset`."""
    monkeypatch.setattr("rtpsp.data.simulated._make_street", FakeStreet)


@pytest.mark.usefixtures("drawn")
def test_the_simulators_frames_come_again_with_their_truth() -> None:
    frames = [frame.load() for frame in find_frames(STREET)]
    entries = tuple(CalibrationEntry(f.name, sha256_of_pixels(f.image), n) for n, f in enumerate(frames))
    street = CalibrationSet(STREET, "simulator", None, entries, SimulatorReader(STREET))[1:]
    for sample, image, frame in zip(street.samples(), street.images(), frames[1:], strict=True):
        assert np.array_equal(sample.image, frame.image) and np.array_equal(image, frame.image)
        assert np.array_equal(sample.truth, frame.truth) and sample.labels == CAMVID


@pytest.mark.usefixtures("drawn")
def test_another_street_is_refused() -> None:
    frame = find_frames(STREET)[1].load()
    entry = CalibrationEntry(frame.name, sha256_of_pixels(frame.image), 1)
    for uri in (f"{STREET}&seed=2", STREET.replace("frames=3", "frames=1")):
        with pytest.raises(DataError, match=r"street-1-000040 of sim://.* is not what it was"):
            list(SimulatorReader(uri).images([entry]))
