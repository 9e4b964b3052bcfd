"""What a training begins with: loaded as far as it fits, and told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rtpsp.errors import ModelError
from rtpsp.labels import LabelSet, distinct_palette
from rtpsp.model.initial import Initialised, initialise, to_planes
from rtpsp.model.pspnet import ARCHS, PSPNet, build
from rtpsp.spec import ModelSpec
from tests.model.published import Mmsegmentation, Semseg, Smp

WIDTH = 8


def narrow(name: str, classes: int = 5, inputs: int = 3) -> PSPNet:
    return build(ARCHS[name].narrowed(64 // WIDTH), classes, inputs=inputs)


def begin(model: PSPNet, content: Any, path: Path) -> Initialised:
    torch.save(content, path)
    return initialise(model, path)


def test_a_partial_backbone_in_torchvisions_naming(tmp_path: Path) -> None:
    other = narrow("pspnet18").backbone.state_dict()
    state = {name: value for name, value in other.items() if not name.startswith("layer4") or "downsample.0" in name}
    model = narrow("pspnet18")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    told = begin(model, state | {"fc.weight": torch.ones(3, 64)}, tmp_path / "r.pth")
    after = model.state_dict()
    assert set(told.loaded) == {f"backbone.{name}" for name in state}
    assert all(torch.equal(after[f"backbone.{name}"], value) for name, value in state.items())
    assert all(torch.equal(after[name], before[name]) for name in told.missing)
    assert "backbone.layer4.0.conv1.weight" in told.missing and "pyramid.0.conv.weight" in told.missing
    assert told.ignored == ("fc.weight",)
    assert "backbone.layer4 (1); left at random: backbone.layer4" in told.told()


def test_a_whole_network_whose_classes_differ(tmp_path: Path) -> None:
    other, model = narrow("pspnet18", 9), narrow("pspnet18", 5)
    told = begin(model, {"model": other.state_dict()}, tmp_path / "o.pth")
    assert {name for name in told.missing if name.startswith("head")} == {
        "head.classifier.weight", "head.classifier.bias"
    }  # fmt: skip
    assert torch.equal(model.head.conv.weight, other.head.conv.weight)


@pytest.mark.parametrize(
    ("name", "other", "stem"),
    [
        ("pspnet50", Semseg(50, 5, WIDTH), True),
        ("pspnet50", Mmsegmentation(50, 5, WIDTH), False),  # its deep stem is half as wide
        ("pspnet18", Mmsegmentation(18, 5, WIDTH, deep=False), True),
        ("pspnet18", Smp(18, 5, WIDTH), True),
    ],
)
def test_networks_of_others(tmp_path: Path, name: str, other: Any, stem: bool) -> None:
    model = narrow(name)
    told = begin(model, {"module." + key: value for key, value in other.state_dict().items()}, tmp_path / "o.pth")
    assert ("backbone.conv1.weight" in told.loaded) == stem
    assert torch.equal(
        model.state_dict()["backbone.layer4.1.conv2.weight"],
        next(value for key, value in other.state_dict().items() if key.endswith("layer4.1.conv2.weight")),
    )


@pytest.mark.parametrize("inputs", [1, 4])
def test_a_stem_for_other_planes(tmp_path: Path, inputs: int) -> None:
    other, model = narrow("pspnet18").backbone, narrow("pspnet18", inputs=inputs)
    told = begin(model, other.state_dict(), tmp_path / "r.pth")
    assert "backbone.conv1.weight" in told.loaded and f"made one for {inputs}" in told.told()
    assert torch.equal(model.backbone.conv1.weight, to_planes(other.conv1.weight, inputs))


def test_planes_of_a_stem() -> None:
    stem = torch.randn(4, 3, 7, 7)
    grey = torch.rand(1, 1, 9, 9)
    conv = torch.nn.functional.conv2d
    torch.testing.assert_close(conv(grey, to_planes(stem, 1)), conv(grey.expand(-1, 3, -1, -1), stem))
    assert torch.equal(to_planes(stem, 4)[:, :3], stem)
    torch.testing.assert_close(to_planes(stem, 4)[:, 3], stem.mean(1))
    torch.testing.assert_close(to_planes(to_planes(stem, 1), 3).sum(1), stem.sum(1))
    assert to_planes(torch.randn(4, 4, 3, 3), 1).shape == (4, 1, 3, 3)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda: narrow("pspnet34").backbone.state_dict(), "of a pspnet34, the network's a pspnet18's"),
        (lambda: narrow("pspnet50").state_dict(), "of a pspnet50"),
        (lambda: build(ARCHS["pspnet18"].narrowed(16), 5).state_dict(), "not one convolution fits"),
        (lambda: {"a": torch.ones(3)}, "of a layout that rtpsp does not know"),
        (lambda: {"a": 1, "b": []}, "entry 'a' is int, expected a tensor"),
        (lambda: {k: v * torch.nan for k, v in narrow("pspnet18").state_dict().items()}, "diverged"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(tmp_path: Path, content: Any, says: str) -> None:
    model = narrow("pspnet18")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ModelError, match=says):
        begin(model, content(), tmp_path / "o.pth")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def named(*names: str) -> LabelSet:
    return LabelSet("some", names, distinct_palette(len(names)), 255, "a test")


@pytest.mark.parametrize(
    ("its", "says"),
    [
        (("Road", "car", "sky"), None),
        (
            ("sky", "road", "car"),
            "its classes are these in another order (it says sky, road, car; here road, car, sky)",
        ),
        (("cat", "dog", "cow"), "its classes are others (it says cat, dog, cow; here road, car, sky), so the classifi"),
    ],
)
def test_a_classifier_of_other_classes_is_not_taken(tmp_path: Path, its: tuple[str, ...], says: str | None) -> None:
    other, model = narrow("pspnet18", 3), narrow("pspnet18", 3)
    spec = ModelSpec("o", "pspnet18", 64, 96, named(*its))
    torch.save({"model": other.state_dict(), "rtpsp": {"spec": spec.to_json()}}, tmp_path / "o.pth")
    told = initialise(model, tmp_path / "o.pth", named("road", "car", "sky"))
    left = {name for name in told.missing if name.split(".")[0] in ("head", "aux")}
    classifiers = {f"{head}.classifier.{part}" for head in ("head", "aux") for part in ("weight", "bias")}
    assert left == (classifiers if says else set())
    assert classifiers.isdisjoint(told.loaded) == bool(says) and (says or "nothing is left at random") in told.told()
    assert torch.equal(model.head.classifier.weight, other.head.classifier.weight) == (says is None)


def test_what_cannot_begin_a_training_is_said_in_terms_of_trainings(tmp_path: Path) -> None:
    model = narrow("pspnet18")
    with pytest.raises(ModelError, match="one tensor of a layout") as caught:
        begin(model, {"a": torch.ones(3)}, tmp_path / "o.pth")
    assert "build-engine" not in str(caught.value) and "ResNets in torchvision's naming" in str(caught.value)
    (tmp_path / "x.onnx").write_bytes(b"\x08\x0a\x12\x07pytorch")
    with pytest.raises(ModelError, match=r"an ONNX model; a checkpoint is a \.pth or \.safetensors"):
        initialise(model, tmp_path / "x.onnx")
    with pytest.raises(ModelError, match=r"is what --resume needs.*take model\.pth \(or best\.pth\) beside it"):
        state = {"model": {"a": torch.ones(3)}, "averaged": 1, "optimiser": {}, "sums": [], "history": []}
        begin(model, state, tmp_path / "state.pth")
