"""Export: the same scores as PyTorch at every size, readable names, the same bytes, nothing of this machine."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch

from rtpsp.errors import ModelError, UsageError
from rtpsp.graph.verify import run, sample_frames, to_image
from rtpsp.labels import CAMVID, CITYSCAPES
from rtpsp.model.export import export, to_onnx
from rtpsp.model.pspnet import ARCHS, AdaptivePools, PSPNet, build
from rtpsp.model.synthetic import randomise_statistics
from rtpsp.onnx_file import load_model, model_bytes
from rtpsp.spec import ModelSpec

BLOCKS = (1, 1, 1, 1)


def small(arch: str, output_stride: int = 8, blocks: tuple[int, int, int, int] = BLOCKS) -> PSPNet:
    model = build(replace(ARCHS[arch].narrowed(8), blocks=blocks), len(CAMVID), output_stride)
    randomise_statistics(model, 5)
    return model


def spec_of(model: PSPNet, size: tuple[int, int]) -> ModelSpec:
    return ModelSpec("small", model.arch.name, *size, CAMVID, output_stride=model.output_stride)


def constant(value: ir.Value) -> np.ndarray[Any, np.dtype[Any]]:
    assert value.const_value is not None
    return value.const_value.numpy()


@pytest.fixture(scope="module")
def model() -> PSPNet:
    net = small("pspnet18")
    net.load_state_dict({key: value.half().to(value.dtype) for key, value in net.state_dict().items()})
    return net


@pytest.fixture(scope="module")
def exported(model: PSPNet) -> ir.Model:
    before = {key: value.clone() for key, value in model.state_dict().items()}
    spec = ModelSpec("street", "pspnet18", 72, 104, CAMVID, fit="letterbox", licence="mine")
    graph = to_onnx(model, spec, "fp16")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert isinstance(model.pools, AdaptivePools)  # export changed its own copy
    return graph


# bench/parity.py has every depth at full width and size; here both kinds of block come at an eighth of the width, one
# or two a layer, on maps that the bins do not divide (45x60, 30x40, 5x6) or that strides rounded up (24x24 of
# 185x185)
@pytest.mark.parametrize(
    ("arch", "size", "output_stride", "blocks"),
    [
        ("pspnet18", (360, 480), 8, BLOCKS),
        ("pspnet50", (240, 320), 8, BLOCKS),
        ("pspnet50", (185, 185), 8, (1, 2, 2, 2)),
        ("pspnet18", (65, 91), 16, BLOCKS),  # a map of 5x6, which six bins exceed
    ],
)
def test_scores_equal_pytorch(
    arch: str, size: tuple[int, int], output_stride: int, blocks: tuple[int, int, int, int]
) -> None:
    model = small(arch, output_stride, blocks)
    spec = spec_of(model, size)
    frames = sample_frames(spec, 1)
    graph = to_onnx(model, spec)
    assert not [node.op_type for node in graph.graph if "Pool" in node.op_type and node.op_type != "MaxPool"]
    with torch.no_grad():
        expected = model(torch.from_numpy(to_image(frames, spec))).numpy()
    answers = run(graph, spec, frames, threads=1)
    assert answers.logits is not None
    assert np.abs(answers.logits - expected).max() / np.abs(expected).max() < 1e-5
    assert np.mean(answers.class_map == expected.argmax(1)) >= 0.9999
    assert len(np.unique(answers.class_map)) > 1


def test_nodes_and_tensors_are_named_after_modules(exported: ir.Model) -> None:
    nodes = {node.name: node.op_type for node in exported.graph}
    assert nodes["backbone/layer1/0/conv1"] == "Conv"
    assert nodes["backbone/layer4/0/bn2"] == "BatchNormalization"
    assert nodes["pyramid/2/resize"] == "Resize"
    assert nodes["head/classifier"] == "Conv"
    assert len(nodes) == len(exported.graph)
    names = [value.name or "" for node in exported.graph for value in (*node.outputs, *filter(None, node.inputs))]
    assert not [name for name in names if re.match(r"(val|getitem|node)_", name) or not name]
    assert exported.graph.inputs[0].name == "image"
    assert exported.graph.outputs[0].name == "logits"


def test_pooling_is_few_products(exported: ir.Model) -> None:
    kinds = [node.op_type for node in exported.graph if (node.name or "").startswith("pools")]
    assert sorted(kinds) == ["MatMul"] * 5 + ["Split"]


def test_half_stored_weights_are_exact_if_they_were_half(model: PSPNet, exported: ir.Model) -> None:
    state = model.state_dict()
    stored = {name: constant(value) for name, value in exported.graph.initializers.items()}
    for name in ("backbone.conv1.weight", "head.classifier.weight"):
        assert name not in stored
        np.testing.assert_array_equal(stored[f"{name}.fp16"].astype(np.float32), state[name].numpy())
    for name in ("backbone.bn1.weight", "pools.columns", "pools.rows6"):
        assert stored[name].dtype == np.float32, name
    sizes = {name: array.nbytes for name, array in stored.items()}
    assert sum(size for name, size in sizes.items() if not name.endswith(".fp16")) < 0.2 * sum(sizes.values())


def test_file_of_another_process_is_the_same_and_tells_nothing_of_this_machine(
    tmp_path: Path, model: PSPNet, exported: ir.Model
) -> None:
    torch.save(model.state_dict(), tmp_path / "net.pth")
    script = (
        "import sys; from rtpsp.labels import CAMVID; from rtpsp.model.export import export_checkpoint as export\n"
        "from dataclasses import replace; from rtpsp.model.pspnet import ARCHS\n"
        f"ARCHS['pspnet18'] = replace(ARCHS['pspnet18'].narrowed(8), blocks={BLOCKS})\n"
        "how = dict(weights='fp16', fit='letterbox', licence='mine')\n"
        "export(sys.argv[1], 'pspnet18', (72, 104), CAMVID, sys.argv[2], **how)\n"
    )
    path = tmp_path / "street.onnx"
    subprocess.run([sys.executable, "-W", "error", "-c", script, tmp_path / "net.pth", path], check=True, timeout=300)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["net.pth", "street.onnx"]
    data = path.read_bytes()
    assert data == model_bytes(exported)
    for trace in (b"site-packages", b"export.py", b"torch", b"/tmp", b"/home", str(Path.cwd()).encode(), b"aten"):
        assert trace not in data, trace
    graph, spec = load_model(path)
    assert (spec.name, spec.size, spec.fit, spec.licence) == ("street", (72, 104), "letterbox", "mine")
    assert graph.producer_name == "rtpsp"


def test_refuses_before_it_traces(tmp_path: Path, model: PSPNet) -> None:
    good = spec_of(model, (48, 64))
    with pytest.raises(ModelError, match="11 classes and the label set 19"):
        to_onnx(model, ModelSpec("x", "pspnet18", 48, 64, CITYSCAPES))
    with pytest.raises(ModelError, match="output stride 8, the spec says 16"):
        to_onnx(model, ModelSpec("x", "pspnet18", 48, 64, CAMVID, output_stride=16))
    with pytest.raises(ModelError, match="is a pspnet18, the spec says pspnet50"):
        to_onnx(model, ModelSpec("x", "pspnet50", 48, 64, CAMVID))
    with pytest.raises(UsageError, match="int8"):
        export(model, good, tmp_path / "x.onnx", weights="int8")  # type: ignore[arg-type]


def test_refuses_weights_beyond_half_precision_and_leaves_no_file(tmp_path: Path, model: PSPNet) -> None:
    huge = build(model.arch, model.classes)
    with torch.no_grad():
        huge.head.conv.weight[0, 0, 0, 0] = 1e6
    with pytest.raises(ModelError, match=r"head\.conv\.weight reaches 1e\+06"):
        export(huge, spec_of(model, (48, 64)), tmp_path / "x.onnx", weights="fp16")
    assert list(tmp_path.iterdir()) == []
