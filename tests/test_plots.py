from __future__ import annotations

import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib.axes import Axes

from rtpsp.arrays import Image
from rtpsp.compare import CompareOptions, compare_engines
from rtpsp.comparison import Difference
from rtpsp.engine.fake import FakeEngine
from rtpsp.errors import OutputError
from rtpsp.evaluate import Evaluation
from rtpsp.labels import CAMVID, LABEL_SETS, LabelSet, distinct_palette
from rtpsp.plots import NEITHER, ONLY_A, ONLY_B, confusion_png, difference_png, write_worst
from rtpsp.spec import ModelSpec

TWO = LabelSet("two", ("a", "b"), ((0, 0, 250), (250, 0, 0)))


def decoded(png: bytes) -> Image:
    assert png.startswith(b"\x89PNG")
    return np.asarray(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR), np.uint8)


def share(picture: Image, rgb: tuple[int, int, int]) -> float:
    return float((picture == np.array(rgb[::-1])).all(axis=2).mean())


def random_evaluation(labels: LabelSet) -> Evaluation:
    rng = np.random.default_rng(0)
    shape = len(labels), len(labels) + 1
    counts = rng.integers(0, 200, shape) * (rng.random(shape) < 2 / len(labels))
    counts[np.diag_indices(len(labels))] = 1000
    return Evaluation(counts.astype(np.int64), labels, 3, None)


# --- the confusion matrix --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "least"), [(TWO, 250), (CAMVID, 700), (LABEL_SETS["ade20k"], 150 * 18)], ids=["2", "11", "150"]
)
def test_a_matrix_has_room_for_its_classes(labels: LabelSet, least: int) -> None:
    picture = decoded(confusion_png(random_evaluation(labels), "an engine\non some data"))
    assert min(picture.shape[:2]) > least and max(picture.shape[:2]) < 5000


def written(evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch) -> dict[tuple[int, int], str]:
    """The text of each cell that has one, by row and column."""
    texts: dict[tuple[int, int], str] = {}
    text_of = Axes.text

    def text(axes: Axes, x: float, y: float, s: str, **more: object) -> object:
        texts[int(y), int(x)] = s
        return text_of(axes, x, y, s, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Axes, "text", text)
        confusion_png(evaluation)
    return texts


def test_rows_are_normalised_and_the_last_column_is_for_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = np.array([[3, 0, 1], [0, 0, 0]], np.int64)
    assert written(Evaluation(counts, TWO, 1, None), monkeypatch) == {(0, 0): "75.0", (0, 2): "25.0"}
    counts = np.array([[99_960, 40, 0], [1, 999, 0]], np.int64)  # what would be written 0.0 is left out
    assert written(Evaluation(counts, TWO, 1, None), monkeypatch) == {(0, 0): "100.0", (1, 0): "0.1", (1, 1): "99.9"}


def test_a_large_matrix_has_whole_percents(monkeypatch: pytest.MonkeyPatch) -> None:
    names = tuple(f"c{number}" for number in range(40))
    counts = np.zeros((40, 41), np.int64)
    counts[7, 7], counts[7, 40], counts[7, 3] = 985, 14, 1
    found = written(Evaluation(counts, LabelSet("forty", names, distinct_palette(40)), 1, None), monkeypatch)
    assert found == {(7, 7): "98", (7, 40): "1"}


def test_names_are_drawn_as_they_are() -> None:
    """No dollar sign begins a formula, no letter that the font lacks is a warning, which tests take for errors."""
    odd = LabelSet("odd", ("$a_1$ \\frac", "$", "日本語", "x" * 200), distinct_palette(4))
    confusion_png(random_evaluation(odd), "$\\frac{")
    first, second = np.indices((8, 8), np.uint8) // 2
    difference = Difference("f", np.zeros((8, 8, 3), np.uint8), first, second, None, 50.0)
    difference_png(difference, odd, ("$\\a", "日"), "$x_$")


# --- frames that differ ----------------------------------------------------------------------------------------------


def difference(truth: bool, height: int = 40, width: int = 60) -> Difference:
    """The left third: A says b; the next: B does; ground truth: b on the left half."""
    first, second, known = (np.zeros((height, width), np.uint8) for _ in range(3))
    first[:, : width // 3] = 1
    second[:, width // 3 : 2 * width // 3] = 1
    known[:, : width // 2] = 1
    image = np.full((height, width, 3), 77, np.uint8)
    return Difference("frame 7", image, first, second, known if truth else None, 100 / 3)


def test_a_sheet_shows_the_frame_both_answers_and_who_is_right() -> None:
    picture = decoded(difference_png(difference(truth=True), TWO, ("one", "other"), "frame 7"))
    panel = 480 * 320 / picture.shape[0] / picture.shape[1]  # eight times as large
    assert share(picture, (77, 77, 77)) == pytest.approx(panel, rel=0.01)
    assert share(picture, TWO.palette[1]) == pytest.approx(2 * panel / 3, rel=0.02)
    # A is right on the left third; B on the next sixth, and A again on the sixth after it.
    assert share(picture, ONLY_A) == pytest.approx(panel / 2, rel=0.02)
    assert share(picture, ONLY_B) == pytest.approx(panel / 6, rel=0.02)
    assert share(picture, NEITHER) < 0.002, "the legend's alone"


def test_without_ground_truth_it_shows_where_they_differ() -> None:
    picture = decoded(difference_png(difference(truth=False), TWO, ("one", "other")))
    panel = 480 * 320 / picture.shape[0] / picture.shape[1]
    assert share(picture, NEITHER) == pytest.approx(2 * panel / 3, rel=0.02)
    assert share(picture, ONLY_A) == share(picture, ONLY_B) == 0


def test_where_neither_is_right_or_the_truth_is_void() -> None:
    void = replace(difference(truth=True), truth=np.full((40, 60), 11, np.uint8))
    picture = decoded(difference_png(void, TWO, ("one", "other")))
    assert share(picture, NEITHER) > 0.1


@pytest.mark.parametrize("size", [(1, 1), (2000, 3), (3, 2000), (1080, 1920), (500, 333)])
def test_a_sheet_is_of_a_size_that_can_be_looked_at(size: tuple[int, int]) -> None:
    picture = decoded(difference_png(difference(True, *size), TWO, ("one", "other"), "t"))
    assert 900 < picture.shape[1] < 2100 and picture.shape[0] < 2200


def test_the_worst_are_written(tmp_path: Path) -> None:
    spec = ModelSpec("fake", "fake", 8, 12, CAMVID)
    a, b = FakeEngine(spec), FakeEngine(spec, answer=lambda frames: np.asarray(frames[..., 0] % 11, np.uint8))
    report = compare_engines(a, b, CompareOptions(source="sim://street?w=160&h=120&frames=3", warmup=0, worst=2))
    paths = write_worst(report, tmp_path / "new" / "er")
    assert [path.name for path in paths] == ["worst-1.png", "worst-2.png"]
    assert all(decoded(path.read_bytes()).size for path in paths)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="give another folder"):
        write_worst(report, tmp_path / "file")


# --- matplotlib ------------------------------------------------------------------------------------------------------


def test_matplotlib_is_quiet_and_looks_for_no_display(tmp_path: Path) -> None:
    """With a home that cannot be written, no font cache, a display that is not there, and a user's own style."""
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nfigure.dpi: 7\n")
    (tmp_path / "file").write_text("no folder can be made here")
    program = (
        "import sys, logging, numpy as np; logging.basicConfig(level=logging.INFO)\n"
        "import rtpsp, rtpsp.cli.compare, rtpsp.cli.evaluate, rtpsp.compare; assert 'matplotlib' not in sys.modules\n"
        "from rtpsp.evaluate import Evaluation; from rtpsp.labels import CAMVID; from rtpsp import plots\n"
        "png = plots.confusion_png(Evaluation(np.eye(11, 12, dtype=np.int64), CAMVID, 1, None))\n"
        "assert len(png) > 20_000 and 'matplotlib.pyplot' not in sys.modules"
    )
    environment = {
        **os.environ, "MPLCONFIGDIR": str(tmp_path / "file" / "none"), "DISPLAY": ":77", "MPLBACKEND": "tkagg",
        "MATPLOTLIBRC": str(tmp_path / "matplotlibrc"),
    }  # fmt: skip
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_callers_settings_stay_as_they_are() -> None:
    import matplotlib

    log = logging.getLogger("matplotlib")
    before, level = dict(matplotlib.rcParams), log.level
    confusion_png(random_evaluation(TWO))
    assert dict(matplotlib.rcParams) == before and log.level == level
