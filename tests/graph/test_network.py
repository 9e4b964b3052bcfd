"""PSPNets of random weights without torch: the graphs are those that an export gives, and answers are of some use."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from rtpsp.errors import ModelError
from rtpsp.graph.editing import Array, constant
from rtpsp.graph.groups import groups
from rtpsp.graph.lower import lower
from rtpsp.graph.network_weights import TWIN_SIZE, Weights, draw_weights
from rtpsp.graph.ranges import canonical, graph_digest, tensors_of
from rtpsp.graph.verify import run, sample_frames
from rtpsp.graph.work import multiply_adds
from rtpsp.labels import CAMVID, CITYSCAPES
from rtpsp.model.arch import ARCHS
from rtpsp.onnx_file import check_model, model_bytes
from rtpsp.spec import ModelSpec

ARCH = ARCHS["pspnet18"].narrowed(8)
SPEC = ModelSpec(name="random", arch="pspnet18", height=64, width=96, labels=CAMVID)


@pytest.fixture(scope="module")
def weights() -> Weights:
    return draw_weights(ARCH, SPEC, seed=3, threads=1)


def told(model: ir.Model) -> list[tuple[object, ...]]:
    """All of a graph but the values of its weights, node by node."""

    def end(value: ir.Value | None) -> object:
        return (
            None if value is None else value.name if value.is_initializer() else (value.name, value.shape, value.dtype)
        )

    return [
        (
            node.op_type, node.name, sorted((name, attribute.value) for name, attribute in node.attributes.items()),
            [end(value) for value in node.inputs], [end(value) for value in node.outputs],
        )
        for node in model.graph
    ]  # fmt: skip


def arrays(model: ir.Model) -> dict[str, Array]:
    return {name: array for name, value in model.graph.initializers.items() if (array := constant(value)) is not None}


@pytest.mark.parametrize(("name", "output_stride", "size"), [("pspnet18", 16, (96, 130)), ("pspnet50", 8, (65, 97))])
def test_the_graph_is_what_an_export_gives(name: str, output_stride: int, size: tuple[int, int]) -> None:
    """Names too: they decide INT8's groups, and that ranges of one size serve another."""
    pytest.importorskip("torch")
    from rtpsp.model.export import to_onnx
    from rtpsp.model.pspnet import build

    arch = ARCHS[name].narrowed(8)
    spec = ModelSpec("random", name, *size, CITYSCAPES, output_stride)
    exported = canonical(to_onnx(build(arch, len(CITYSCAPES), output_stride), spec))
    ours = draw_weights(arch, spec, threads=1).graph(spec)
    assert told(ours) == told(exported)
    assert multiply_adds(ours) == multiply_adds(exported)
    constants, theirs = arrays(ours), arrays(exported)
    assert {name: array.shape for name, array in constants.items()} == {n: a.shape for n, a in theirs.items()}
    for name in (name for name in constants if name.startswith("pools")):
        np.testing.assert_array_equal(constants[name], theirs[name])


def test_multiply_adds_and_parameters_at_full_width() -> None:
    """Of 360x480, by the published counts of the form used here: 38.1 GMAC and 13.8 million parameters."""
    arch, spec = ARCHS["pspnet18"], replace(SPEC, height=360, width=480)
    zeros: dict[str, int] = {}

    def weights(name: str, shape: tuple[int, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        zeros[name] = int(np.prod(shape))
        return np.zeros(shape, np.float32)

    from rtpsp.graph.network import to_graph

    graph = to_graph(arch, spec, weights)
    assert multiply_adds(graph) == pytest.approx(38.1e9, rel=0.01)
    assert sum(zeros.values()) == pytest.approx(13.8e6, rel=0.005)


def test_a_model_file_of_it_keeps_the_contract(weights: Weights) -> None:
    model = weights.graph(SPEC)
    check_model(model, SPEC)
    assert len(groups(model)) == 1 + 8 + 4 + 1, "stem, residual blocks, pyramid, head"


def test_scores_are_finite_in_fp16_and_no_class_wins_everywhere(weights: Weights) -> None:
    """Of another size than the statistics are from, and other frames."""
    spec = replace(SPEC, height=2 * TWIN_SIZE[0], width=2 * TWIN_SIZE[1])
    model = weights.graph(spec)
    answers = run(model, spec, sample_frames(spec, seed=8), threads=1)
    assert answers.logits is not None
    assert 1 < np.abs(answers.logits).max() < 1000
    shares = np.bincount(answers.class_map.ravel(), minlength=len(CAMVID)) / answers.class_map.size
    assert shares.max() < 0.6 and (shares > 0.01).sum() >= 5


def test_activations_neither_vanish_nor_explode_in_the_deepest() -> None:
    arch = ARCHS["pspnet152"].narrowed(16)
    drawn = draw_weights(arch, replace(SPEC, arch="pspnet152"), threads=1)
    spec = replace(SPEC, arch="pspnet152", height=97, width=113)
    model = drawn.graph(spec)
    names = [name for name in tensors_of(model) if name.endswith("relu") or "/relu_" in name]
    values = {value.name: value for node in model.graph for value in node.outputs}
    model.graph.outputs.extend(values[name] for name in names)
    from rtpsp.graph.verify import open_session, to_image

    session = open_session(model, threads=1)
    found = session.run(names, {"image": to_image(sample_frames(spec, 1, seed=4), spec)})
    spreads = [float(value.std()) for value in found]
    assert min(spreads) > 0.05 and max(spreads) < 50
    assert max(float(np.abs(value).max()) for value in found) < 10_000, "FP16 ends at 65504"


def test_the_same_seed_gives_the_same_network() -> None:
    one, other, third = (draw_weights(ARCH, SPEC, seed, threads=1).graph(SPEC) for seed in (1, 1, 2))
    assert model_bytes(one) == model_bytes(other)
    assert graph_digest(one) != graph_digest(third)


def test_the_head_splits_and_lowering_keeps_the_answers(weights: Weights) -> None:
    model = weights.graph(SPEC)
    split = lower(model, SPEC, head="split", threads=1)  # each step is compared with the one before it
    assert "head/conv/split/sum" in {node.name for node in split.graph}


def test_weights_of_another_class_count_are_refused(weights: Weights) -> None:
    with pytest.raises(ModelError, match=r"head.classifier.weight was drawn as \[11, .*\[19, .*draw weights"):
        weights.graph(replace(SPEC, labels=CITYSCAPES))
