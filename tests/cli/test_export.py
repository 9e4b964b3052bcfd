"""``rtpsp export``: what a checkpoint says need not be said again, and what it does not say is asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rtpsp.errors import UsageError
from rtpsp.labels import LabelSet, distinct_palette
from rtpsp.onnx_file import load_model
from rtpsp.spec import ModelSpec
from tests.cli.conftest import Call

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

CLASSES = 4
LABELS = LabelSet("four", tuple("abcd"), distinct_palette(CLASSES), 9, "a test")


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a training of rtpsp leaves, on a network of an eighth of the width and one block a layer."""
    from rtpsp.model.pspnet import ARCHS, build

    monkeypatch.setitem(ARCHS, "pspnet18", replace(ARCHS["pspnet18"].narrowed(8), blocks=(1, 1, 1, 1)))
    spec = ModelSpec(
        "mine", "pspnet18", 64, 96, LABELS, output_stride=16, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25),
        fit="letterbox", licence="mine alone",
    )  # fmt: skip
    model = build("pspnet18", CLASSES, 16)
    path = tmp_path / "best.pth"
    torch.save({"model": model.state_dict(), "rtpsp": {"spec": spec.to_json()}, "training": {"step": 3}}, path)
    return path


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A checkpoint of hszhao/semseg's."""
    from tests.model.published import Semseg, state_of

    path = tmp_path / "train_epoch_50.pth"
    torch.save({"epoch": 50, "state_dict": state_of(Semseg(50, CLASSES), "module.")}, path)
    (tmp_path / "my.txt").write_text("road\nsky\ncar\ntree\n")
    return path


def test_a_training_of_ours_needs_no_options(rtpsp: Call, trained: Path, tmp_path: Path) -> None:
    done = rtpsp("export", trained, "-o", tmp_path / "x.onnx")
    assert done.code == 0, done.err
    assert "pspnet18 in rtpsp's layout, 4 classes, output stride 16" in done.out
    _, spec = load_model(tmp_path / "x.onnx")
    assert (spec.name, spec.size, spec.labels, spec.fit) == ("x", (64, 96), LABELS, "letterbox")
    assert (spec.output_stride, spec.mean, spec.licence) == (16, (0.5, 0.5, 0.5), "mine alone")


def test_options_come_before_what_the_file_says(trained: Path) -> None:
    from rtpsp.model.checkpoint import open_checkpoint
    from rtpsp.model.trained import spec_of

    opened = open_checkpoint(trained, output_stride=8)
    assert "output stride 8 was given, the file says 16" in opened.told()
    spec = spec_of(opened, size=(32, 48), fit="crop", mean=(128,) * 3, std=(64,) * 3, name="other", channels="bgr")
    assert (spec.name, spec.size, spec.fit, spec.channels) == ("other", (32, 48), "crop", "bgr")
    assert (spec.output_stride, spec.licence) == (8, "mine alone")
    assert spec.std == pytest.approx((64 / 255,) * 3)


def test_a_checkpoint_of_others(rtpsp: Call, foreign: Path, tmp_path: Path) -> None:
    from tests.model.published import Smp, state_of

    torch.save({"state_dict": state_of(Smp(18, CLASSES), "model.")}, tmp_path / "a.ckpt")
    words = ("--size", "64x96", "--labels", tmp_path / "my.txt", "--mean", "128,128,128", "--std", "64,64,64")
    done = rtpsp("export", tmp_path / "a.ckpt", *words, "-o", tmp_path / "x.onnx")
    assert done.code == 0, done.err
    assert "pspnet18 in segmentation_models_pytorch's layout" in done.out and "from state_dict" in done.out
    _, spec = load_model(tmp_path / "x.onnx")
    assert spec.labels.names == ("road", "sky", "car", "tree")
    assert spec.mean == pytest.approx((128 / 255,) * 3)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (
            (),
            2,
            "does not say which size of images it is for and does not name its 4 classes: give --size HEIGHTxWIDTH, "
            "and --labels",
        ),
        (("--labels", "my.txt"), 2, "give --size"),
        (("--size", "65x97"), 2, "does not name its 4 classes: give --labels"),
        (("--size", "64x96", "--labels", "my.txt"), 2, "give 65x97"),
        (("--size", "65x97", "--labels", "camvid"), 3, "names 11 classes, the model gives 4"),
        (("--arch", "pspnet18", "--size", "65x97", "--labels", "my.txt"), 3, "it is a pspnet50"),
        (
            ("--output-stride", "16", "--size", "65x97", "--labels", "my.txt"),
            2,
            "expected 8 for a checkpoint of semseg",
        ),
        (("--mean", "1,1,1", "--size", "65x97", "--labels", "my.txt"), 2, "--std"),
    ],
)
def test_asks_in_one_line(
    rtpsp: Call, foreign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], code: int,
    says: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    done = rtpsp("export", foreign.name, *words, "-o", "x.onnx")
    assert done.code == code, done.err
    assert says in done.err.replace("\n", " ")
    assert not Path("x.onnx").exists()


def test_a_training_s_folder_and_its_state_are_not_its_result(rtpsp: Call, trained: Path, tmp_path: Path) -> None:
    done = rtpsp("export", tmp_path, "-o", tmp_path / "x.onnx")
    assert done.code == 2 and "a checkpoint was expected: give a .pth" in done.err
    trained.rename(tmp_path / "model.pth")
    done = rtpsp("export", tmp_path, "-o", tmp_path / "x.onnx")
    assert done.code == 2 and f"a checkpoint was expected: give {tmp_path / 'model.pth'}" in done.err
    torch.save({"model": {}, "averaged": 1, "optimiser": {}, "sums": [], "history": []}, tmp_path / "state.pth")
    done = rtpsp("export", tmp_path / "state.pth", "-o", tmp_path / "x.onnx")
    assert done.code == 3 and "is what --resume needs" in done.err and not (tmp_path / "x.onnx").exists()


def test_other_names_of_classes_than_the_file_s_are_noted(trained: Path) -> None:
    from rtpsp.model.checkpoint import open_checkpoint
    from rtpsp.model.trained import told_of_labels

    opened = open_checkpoint(trained)
    assert told_of_labels(opened, None) is None
    assert told_of_labels(opened, LabelSet("four", tuple("ABCD"), LABELS.palette, 9, "a test")) is None
    told = told_of_labels(opened, LabelSet("four", tuple("bacd"), LABELS.palette, 9, "a test"))
    assert told == "--labels names other classes: the file says a, b, c, d"


def test_grey_images_are_offered_what_trainings_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rtpsp.model.checkpoint import open_checkpoint
    from rtpsp.model.pspnet import ARCHS, build
    from rtpsp.model.trained import spec_of

    monkeypatch.setitem(ARCHS, "pspnet18", replace(ARCHS["pspnet18"].narrowed(8), blocks=(1, 1, 1, 1)))
    torch.save(build("pspnet18", CLASSES, inputs=1).state_dict(), tmp_path / "grey.pth")
    with pytest.raises(UsageError, match=r"rtpsp train takes --mean 0\.449 --std 0\.226 unless told otherwise"):
        spec_of(open_checkpoint(tmp_path / "grey.pth"), size=(64, 96), labels=LABELS)
