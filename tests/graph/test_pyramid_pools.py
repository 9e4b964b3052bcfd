"""Merged pooling: the same maps from two matrix products, whatever pooled them."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from rtpsp.errors import ModelError
from rtpsp.graph.editing import constant, set_constant
from rtpsp.graph.fold import fold
from rtpsp.graph.frames import to_frames
from rtpsp.graph.pyramid import split_head
from rtpsp.graph.pyramid_pools import PoolsNotFound, merge_pools
from rtpsp.graph.verify import compare, measure, require, run, sample_frames
from rtpsp.onnx_file import load_model, model_bytes
from rtpsp.zoo import model_path
from tests.graph.pspnets import FEATURES, SIZE, Pool, Recipe, build_model, build_spec, node, relative_error

EXACT = 2e-6
UNEVEN = ((1, 1), (2, 3), (4, 5), (8, 6))


@pytest.mark.parametrize("pool", ["matrix", "average", "mean", "area", "slices"])
@pytest.mark.parametrize("bins", [Recipe().bins, UNEVEN, ((3, 3),)])
def test_any_pooling_becomes_two_products(pool: Pool, bins: tuple[tuple[int, int], ...]) -> None:
    model = build_model(Recipe(pool=pool, bins=bins))
    before = model_bytes(model)
    merged = merge_pools(model)
    assert model_bytes(model) == before
    onnx.checker.check_model(ir.to_proto(merged), full_check=True)
    assert relative_error(merged, model) < EXACT
    assert relative_error(split_head(merged), model) < EXACT
    features = node(merged, "features").outputs[0]
    assert {use.node.name for use in features.uses()} == {"concat", "head/pools/last"}
    new = {str(name.name) for name in merged.graph if str(name.name).startswith("head/pools/")}
    assert {name.op_type for name in merged.graph if name.name in new} == {"Transpose", "Reshape", "MatMul", "Gather"}
    pooled = [node(merged, f"branch{index}").inputs[0] for index in range(len(bins))]
    assert [value and value.name for value in pooled] == [f"pool{index}" for index in range(len(bins))]


@pytest.mark.parametrize("batch", [1, 3])
def test_batches_of_frames(batch: int) -> None:
    model, spec = build_model(), build_spec()
    lowered = to_frames(split_head(merge_pools(model)), spec, batch)
    frames = sample_frames(spec, 3)
    comparison = measure(run(model, spec, frames), run(lowered, spec, frames))
    assert comparison.max_error_relative is not None and comparison.max_error_relative < EXACT


def test_shipped_model() -> None:
    model, spec = load_model(model_path())
    plain = fold(model)
    merged = merge_pools(plain)
    require(compare(plain, merged, spec, sample_frames(spec, 1)), "merging the pooling")


def replace_pool(model: ir.Model, index: int, kind: str) -> None:
    """Pools one map by another operator."""
    old = node(model, f"pool{index}")
    sides = [SIZE[0] // (index + 1), SIZE[1] // (index + 1)]
    new = ir.node(kind, [node(model, "features").outputs[0]], {"kernel_shape": sides, "strides": sides}, name="other")
    new.outputs[0].name, new.outputs[0].shape = "other", old.outputs[0].shape
    new.outputs[0].dtype = ir.DataType.FLOAT
    assert new.outputs[0].shape is not None and new.outputs[0].shape.numpy()[1] == FEATURES
    model.graph.insert_before(old, new)
    old.outputs[0].replace_all_uses_with(new.outputs[0])


def test_sums_are_not_taken_for_averages() -> None:
    model = build_model()
    for index in range(4):
        for part, factor in (("down", 3.0), ("across", -5.0)):
            value = model.graph.initializers[f"pool{index}/{part}"]
            array = constant(value)
            assert array is not None
            set_constant(value, (array * factor).astype(np.float32))
    assert relative_error(merge_pools(model), model) < EXACT


def test_a_map_that_is_not_averaged_stays_as_it_is() -> None:
    model = build_model()
    replace_pool(model, 1, "MaxPool")
    merged = merge_pools(model)
    assert "MaxPool" in [node.op_type for node in merged.graph]
    assert relative_error(merged, model) < EXACT
    assert node(merged, "branch1").inputs[0] is node(merged, "other").outputs[0]


def test_says_why_nothing_is_merged() -> None:
    model = build_model(Recipe(bins=((1, 1),)))
    replace_pool(model, 0, "MaxPool")
    with pytest.raises(PoolsNotFound, match=r"^no pooling to merge: found other .*features.*keep the graph as it is$"):
        merge_pools(model)
    with pytest.raises(PoolsNotFound, match="found no pyramid"):
        merge_pools(split_head(build_model()))
    assert issubclass(PoolsNotFound, ModelError)


def test_a_map_that_ignores_its_features_is_left_alone() -> None:
    model = build_model(Recipe(bins=((2, 2),)))
    value = model.graph.initializers["pool0/down"]
    set_constant(value, np.zeros((2, SIZE[0]), np.float32))
    with pytest.raises(PoolsNotFound, match="pool0 does not answer to features"):
        merge_pools(model)


def test_maps_of_other_features_are_left_alone() -> None:
    model = build_model(Recipe(bins=((2, 2),)))
    stem = node(model, "stem").outputs[0]
    node(model, "pool0/strip").replace_input_with(1, stem)  # pooled before the ReLU that the head reads
    with pytest.raises(PoolsNotFound, match="pool0 does not follow from features alone"):
        merge_pools(model)
    assert relative_error(split_head(model), model) < EXACT
