"""Checkpoints of other code bases: recognised, and their networks answer as those they were saved from."""

from __future__ import annotations

import copy
import dataclasses
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

from rtpsp.errors import ModelError, UsageError
from rtpsp.graph.lint import lint
from rtpsp.graph.lower import lower
from rtpsp.graph.quantize import IntegerFormat, quantise
from rtpsp.graph.ranges import canonical, collect, to_ranges
from rtpsp.graph.verify import run, sample_frames, to_image
from rtpsp.labels import LabelSet, distinct_palette
from rtpsp.model import checkpoint, pspnet
from rtpsp.model.arch import ARCHS
from rtpsp.model.checkpoint import Checkpoint, load_checkpoint, open_checkpoint
from rtpsp.model.export import to_onnx
from rtpsp.model.trained import spec_of
from rtpsp.spec import IMAGENET_MEAN
from tests.model.published import BLOCKS, Mmsegmentation, Semseg, Smp, settled, state_of

CLASSES = 5
LABELS = LabelSet("five", tuple("abcde"), distinct_palette(CLASSES))
TWO = LabelSet("two", ("background", "thing"), distinct_palette(2))
D32 = (1, 2, 2, 2)

NETWORKS: dict[str, tuple[Any, dict[str, Any]]] = {
    "semseg-50": (Semseg, {"depth": 50}),
    "semseg-101-plain": (Semseg, {"depth": 101, "deep": False}),
    "mmseg-18": (Mmsegmentation, {"depth": 18}),
    "mmseg-50": (Mmsegmentation, {"depth": 50}),
    "mmseg-18b": (Mmsegmentation, {"depth": 18, "deep": False}),
    "smp-18": (Smp, {"depth": 18}),
    "smp-34": (Smp, {"depth": 34}),
    "smp-50": (Smp, {"depth": 50}),
    "smp-18-depth4": (Smp, {"depth": 18, "stages": 4}),
    "smp-18-depth5": (Smp, {"depth": 18, "stages": 5}),
}
SIZES = {"semseg": (113, 145), "mmseg": (100, 130), "smp": (96, 128)}


@cache
def network(name: str, **changed: Any) -> nn.Module:
    """Shared by all tests: none changes it."""
    torch.manual_seed(0)
    kind, options = NETWORKS[name]
    return settled(kind(**{"classes": CLASSES, **options, **changed}), changed.get("inputs", 3))


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def relative_error(model: nn.Module, other: nn.Module, size: tuple[int, int], inputs: int = 3) -> float:
    image = torch.randn(1, inputs, *size, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        expected, answer = model(image), other(image)
    assert answer.shape == expected.shape
    return float((answer - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("name", NETWORKS)
def test_answers_as_the_network_it_was_saved_from(tmp_path: Path, name: str) -> None:
    model = network(name)
    opened = open_checkpoint(saved(tmp_path / "net.pth", state_of(model)))
    assert opened.model.arch.name == f"pspnet{name.split('-')[1].rstrip('b')}"
    assert opened.model.classes == CLASSES
    assert not opened.model.training
    assert relative_error(model, opened.model, SIZES[name.split("-")[0]]) < 1e-5


def test_what_tells_one_form_from_another_shows() -> None:
    """The comparison above is worth nothing where a wrong form would pass it."""
    for name, changed in (
        ("mmseg-18", {"align_corners": True}), ("mmseg-18", {"strides": D32}),
    ):  # fmt: skip
        first, second = network(name), copy.deepcopy(network(name, **changed))
        second.load_state_dict(first.state_dict())
        assert relative_error(first, second, SIZES["mmseg"]) > 0.01


@pytest.mark.parametrize(("name", "size"), [("semseg-50", (65, 97)), ("mmseg-18", (64, 96)), ("smp-18", (64, 96))])
def test_export_passes_every_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, size: tuple[int, int]
) -> None:
    monkeypatch.setitem(BLOCKS, 50, (1, 1, 1, 1))  # its second block of a layer passes as the first does
    monkeypatch.setitem(ARCHS, "pspnet50", dataclasses.replace(ARCHS["pspnet50"], blocks=BLOCKS[50]))
    opened = open_checkpoint(saved(tmp_path / "net.pth", state_of(network.__wrapped__(name))))
    spec = spec_of(opened, size=size, labels=LABELS)
    graph = to_onnx(opened.model, spec)
    frames = sample_frames(spec, 1)
    with torch.no_grad():
        expected = opened.model(torch.from_numpy(to_image(frames, spec))).numpy()
    answer = run(graph, spec, frames, threads=1)
    assert answer.logits is not None
    assert abs(answer.logits - expected).max() / abs(expected).max() < 1e-5
    lowered = lower(graph, spec, head="split", frames=frames, reference=answer, threads=1)  # raises where it differs
    assert any("/split/" in (node.name or "") for node in lowered.graph)
    ranges = to_ranges(collect(canonical(graph), spec, [frames], 1), "minmax")
    integers = quantise(lowered, ranges, IntegerFormat(unsigned=True))
    assert lint(integers, unsigned=True) == []
    floats = [node.name for node in integers.graph if node.op_type == "Conv" and not _is_integer(node)]
    assert floats == ["head/classifier"]
    assert np.mean(run(integers, spec, frames, threads=1).class_map == answer.class_map) > 0.8


def _is_integer(node: ir.Node) -> bool:
    weight = node.inputs[1]
    producer = None if weight is None else weight.producer()
    return producer is not None and producer.op_type == "DequantizeLinear"


def test_a_lightning_checkpoint_and_an_average_of_weights(tmp_path: Path) -> None:
    model = network("smp-18")
    state = {"model." + key: value for key, value in model.state_dict().items()} | {"loss.weight": torch.ones(5)}
    opened = open_checkpoint(
        saved(tmp_path / "a.ckpt", {"state_dict": state, "epoch": 3, "hyper_parameters": {"x": 1}})
    )
    assert relative_error(model, opened.model, SIZES["smp"]) < 1e-5
    assert "loss.weight" in opened.ignored
    other = {key: torch.zeros_like(value) for key, value in model.state_dict().items()}
    both = {"model": other, "model_ema": {"module." + k: v for k, v in model.state_dict().items()}, "optimizer": {}}
    both["model_ema"]["n_averaged"] = torch.tensor(3)
    opened = open_checkpoint(saved(tmp_path / "b.pth", both))
    assert relative_error(model, opened.model, SIZES["smp"]) < 1e-5
    assert "from model_ema" in opened.told()


CONFIG = """
dataset_type = 'MineDataset'
crop_size = (96, 128)
img_norm_cfg = dict(mean=[100.0, 110.0, 120.0], std=[50.0, 51.0, 52.0], to_rgb=False)
model = dict(backbone=dict(strides=(1, 2, 2, 2), dilations=(1, 1, 2, 4)), decode_head=dict(align_corners=True),
    auxiliary_head=dict(align_corners=True))
"""


def test_a_configuration_beside_the_weights_is_heeded(tmp_path: Path) -> None:
    model = network("mmseg-18", align_corners=True, strides=D32)
    meta = {"CLASSES": tuple("vwxyz"), "PALETTE": [[i, i, i] for i in range(5)], "config": CONFIG}
    opened = open_checkpoint(saved(tmp_path / "net.pth", {"meta": meta, "state_dict": state_of(model)}))
    assert opened.model.output_stride == 32
    assert relative_error(model, opened.model, SIZES["mmseg"]) < 1e-5
    spec = spec_of(opened)
    assert (spec.size, spec.labels.names, spec.labels.palette[4]) == ((96, 128), tuple("vwxyz"), (4, 4, 4))
    assert spec.channels == "bgr"
    assert spec.mean == pytest.approx((100 / 255, 110 / 255, 120 / 255))
    assert spec_of(opened, mean=IMAGENET_MEAN, std=(0.2, 0.2, 0.2), channels="rgb", size=(64, 64)).mean == IMAGENET_MEAN


def test_one_logit_becomes_two_classes(tmp_path: Path) -> None:
    model = network("smp-18", classes=1)
    opened = open_checkpoint(saved(tmp_path / "net.pth", state_of(model)))
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected, answer = model(image), opened.model(image)
    thing = expected.sigmoid() > 0.5
    assert 0 < thing.sum() < thing.numel()
    assert torch.equal(answer.argmax(1), thing[:, 0].long())
    torch.testing.assert_close(answer.softmax(1)[:, 1], expected.sigmoid()[:, 0])
    assert spec_of(opened, size=(64, 64), labels=TWO).labels.names[1] == "thing"


def test_images_of_four_planes_need_their_normalisation(tmp_path: Path) -> None:
    model = network("smp-18", inputs=4)
    opened = open_checkpoint(saved(tmp_path / "net.pth", state_of(model)))
    assert relative_error(model, opened.model, SIZES["smp"], inputs=4) < 1e-5
    with pytest.raises(UsageError, match=r"4 planes.*--mean and --std"):
        spec_of(opened, size=(64, 64), labels=LABELS)
    spec = spec_of(opened, size=(64, 64), labels=LABELS, mean=(100.0,) * 4, std=(50.0,) * 4)
    assert (spec.channels, spec.planes, opened.model.inputs) == ("rgbx", 4, 4)


@pytest.mark.parametrize(
    ("name", "size", "says"),
    [("semseg-50", (360, 480), "give 361x481"), ("smp-18", (100, 96), "a multiple of 8: give")],
)
def test_sizes_that_a_code_base_does_not_take(tmp_path: Path, name: str, size: tuple[int, int], says: str) -> None:
    opened = open_checkpoint(saved(tmp_path / "net.pth", state_of(network(name))))
    with pytest.raises(UsageError, match=says):
        spec_of(opened, size=size, labels=LABELS)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    path = saved(tmp_path_factory.mktemp("mm") / "net.pth", {"state_dict": state_of(network("mmseg-18"))})
    return open_checkpoint(path)


def test_asks_for_what_nobody_says(opened: Checkpoint) -> None:
    with pytest.raises(UsageError, match="give --size"):
        spec_of(opened, labels=LABELS)
    with pytest.raises(UsageError, match=r"does not name its 5 classes: give --labels"):
        spec_of(opened, size=(64, 64))
    with pytest.raises(ModelError, match="names 2 classes, the model gives 5"):
        spec_of(opened, size=(64, 64), labels=TWO)


def test_tells_what_it_took_and_what_it_assumed(opened: Checkpoint) -> None:
    told = opened.told()
    assert "pspnet18 in mmsegmentation's layout, 5 classes, output stride 8" in told
    assert "assumed: align_corners false" in told


def test_another_architecture_is_refused(opened: Checkpoint) -> None:
    with pytest.raises(ModelError, match="not a pspnet50: it is a pspnet18 with 5 classes"):
        open_checkpoint(opened.path, arch="pspnet50")
    with pytest.raises(ModelError, match="it has 5 classes, expected 7"):
        load_checkpoint(opened.path, "pspnet18", 7)
    assert load_checkpoint(opened.path, "pspnet18", 5).arch == opened.model.arch
    with pytest.raises(UsageError, match="no architecture"):
        open_checkpoint(opened.path, arch="pspnet19")


def test_a_layout_that_is_not_known_says_what_it_saw(tmp_path: Path) -> None:
    state = {f"blocks.{index}.weight": torch.zeros(2, 3) for index in range(9)}
    with pytest.raises(ModelError, match=r"9 tensors of a layout.*blocks\.0\.weight \[2, 3\].*\.\.\..*names are those"):
        open_checkpoint(saved(tmp_path / "net.pth", state))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda state: state.pop("ppm.features.2.1.weight"), r"pyramid\.2\.conv\.weight is missing"),
        (lambda state: state.pop("layer0.6.weight"), r"backbone\.conv3\.weight is missing"),
        (lambda state: state.update({"layer0.3.weight": torch.ones(())}), r"backbone\.conv2\.weight is missing"),
        (lambda state: state.update({"cls.4.weight": torch.ones(1 << 40, 0, 1, 1)}), r"head\.classifier\.weight is"),
        (
            lambda state: state.update({"cls.0.weight": torch.ones(64, 9, 3, 3)}),
            r"of another shape \(head\.conv\.weight",
        ),
        (lambda state: state.pop("layer4.0.bn1.weight"), r"backbone\.layer4\.0\.bn1\.weight missing"),
        (lambda state: state.update({"layer3.0.se.fc1.weight": torch.ones(1)}), "unexpected"),
        (lambda state: state.update({"cls.0.weight": state["cls.0.weight"][:, :, :1, :1]}), "kernels of 1 and 1"),
        (lambda state: state.update({"layer1.3.conv1.weight": torch.ones(1)}), "no ResNet"),
        (lambda state: state["layer2.0.bn1.weight"].fill_(torch.nan), "diverged"),
    ],
)
def test_a_damaged_one_says_what_it_lacks(tmp_path: Path, change: Any, says: str) -> None:
    state = {name: value.clone() for name, value in state_of(network("semseg-50")).items()}
    change(state)
    with pytest.raises(ModelError, match=says):
        open_checkpoint(saved(tmp_path / "net.pth", state))


def test_a_damaged_spec_says_which_file_it_is_of(tmp_path: Path) -> None:
    path = saved(tmp_path / "net.pth", {"model": state_of(network("smp-18")), "rtpsp": {"spec": "{"}})
    with pytest.raises(ModelError, match=r"net\.pth: spec is not JSON"):
        open_checkpoint(path)


def test_what_a_file_claims_of_itself_costs_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = state_of(network("semseg-50"))
    state["cls.0.weight"] = torch.ones(1 << 15, 1, 3, 3)  # that many of 512 planes would be 600 MB
    made: list[nn.Module] = []

    def build(*shape: Any) -> Any:
        made.append(pspnet.build(*shape))
        return made[-1]

    monkeypatch.setattr(checkpoint, "build", build)
    with pytest.raises(ModelError, match="of another shape"):
        open_checkpoint(saved(tmp_path / "net.pth", state))
    assert made and all(value.is_meta for model in made for value in model.parameters())


def test_a_backbone_is_no_segmenter(tmp_path: Path) -> None:
    encoder = network("smp-18").get_submodule("encoder")
    with pytest.raises(ModelError, match=r"a ResNet backbone without a pyramid.*--init"):
        open_checkpoint(saved(tmp_path / "net.pth", encoder.state_dict()))


def test_what_smp_never_reads_is_told_by_the_file_s_own_names(tmp_path: Path) -> None:
    torch.save(state_of(Smp(18, 5)), tmp_path / "smp.pth")
    told = open_checkpoint(tmp_path / "smp.pth").told()
    line = next(line for line in told.splitlines() if line.startswith("ignored: "))
    assert "(encoder.layer4." in line or "(encoder.layer3." in line
    assert line.endswith(": segmentation_models_pytorch's PSPNet of this depth never reads them")
