"""The split head: the same scores whatever the head looks like, the same names, and a reason where it cannot be."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtpsp.errors import ModelError
from rtpsp.graph.fold import fold
from rtpsp.graph.frames import to_frames
from rtpsp.graph.pyramid import HeadNotFound, find_heads, split_head
from rtpsp.graph.verify import compare, measure, require, run, sample_frames
from rtpsp.graph.work import multiply_adds
from rtpsp.onnx_file import load_model, model_bytes
from rtpsp.zoo import model_path
from tests.graph.pspnets import (
    CLASSES,
    FEATURES,
    HALF_PIXEL,
    SIZE,
    Pool,
    Recipe,
    build_model,
    build_spec,
    node,
    relative_error,
)

EXACT = 2e-6  # float32 sums of a few hundred products in another order

CENTRES = (
    HALF_PIXEL,
    {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
    {"mode": "linear", "coordinate_transformation_mode": "asymmetric"},
    {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"},
    {"mode": "linear", "coordinate_transformation_mode": "half_pixel_symmetric"},
    {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    {"mode": "nearest", "coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_ceil"},
    {"mode": "cubic", "coordinate_transformation_mode": "half_pixel", "cubic_coeff_a": -0.75},
)
WIDE = Recipe(widths=(24,))  # wide enough that even a 1x1 fusion saves something


def check(recipe: Recipe) -> ir.Model:
    """Splits a recipe's model and compares; gives the split one."""
    model = build_model(recipe)
    split = split_head(model)
    assert relative_error(split, model) < EXACT
    assert multiply_adds(split) < multiply_adds(model)
    return split


def change(recipe: Recipe = WIDE, **changes: Any) -> Recipe:
    return dataclasses.replace(recipe, **changes)


@pytest.mark.parametrize("resize", CENTRES, ids=lambda resize: "-".join(map(str, resize.values())))
@pytest.mark.parametrize("up", ["sizes", "scales"])
def test_upsampling_is_read_off_the_graph(resize: dict[str, Any], up: Any) -> None:
    check(Recipe(resize=resize, up=up))


@pytest.mark.parametrize("up", ["expand", "tile"])
def test_a_single_cell_may_be_repeated(up: Any) -> None:
    split = check(Recipe(up=up))
    assert not [node for node in split.graph if node.op_type in ("Expand", "Tile", "Resize")]


@pytest.mark.parametrize("pool", ["matrix", "average", "mean", "area", "slices"])
def test_pooling_may_be_anything(pool: Pool) -> None:
    check(Recipe(pool=pool))


@pytest.mark.parametrize("order", [(0,), (-1,), (2,), (0, -1), (2, 2), (-1, 0)])
def test_features_may_stand_anywhere(order: Sequence[int]) -> None:
    head = find_heads(build_model(Recipe(order=order)))[0]
    assert set(head.features) == {"features", "more"} if len(order) > 1 else head.features == ("features",)
    check(Recipe(order=order))


@pytest.mark.parametrize(
    "changes",
    [
        {"kernel": (1, 1), "pads": (0, 0, 0, 0)},
        {"kernel": (5, 5), "pads": (2, 2, 2, 2)},
        {"kernel": (3, 1), "pads": (1, 0, 1, 0)},
        {"kernel": (2, 4), "pads": (1, 0, 0, 3)},
        {"pads": (0, 0, 0, 0)},
        {"pads": (3, 2, 0, 5)},
        {"dilations": (2, 3), "pads": (2, 3, 2, 3)},
        {"dilations": (11, 1), "pads": (11, 1, 11, 1)},
        {"pads": None, "dilations": None, "attributes": {"pads": None, "dilations": None}},
        {"bias": False},
        {"norm": True},
        {"norm": True, "bias": False, "half": True},
        {"half": True},
        {"attributes": {"auto_pad": "NOTSET", "group": 1, "strides": [1, 1], "kernel_shape": [3, 3]}},
        {"bins": ((1, 1),)},
        {"bins": ((2, 3), (4, 5), (8, 2))},
        {"widths": (24, 1, 40, 7)},
    ],
)
def test_head_may_have_any_geometry(changes: dict[str, Any]) -> None:
    if changes.get("pads", ()) is None:
        changes = {"attributes": changes["attributes"]}
    check(change(**changes))


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """Heads of any kernel, padding, order, bins, widths and upsampling."""
    pairs = st.tuples(st.integers(1, 6), st.integers(1, 6))
    dilations = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    pads = draw(st.tuples(*[st.integers(0, 8)] * 4))
    bins = draw(st.lists(pairs, min_size=1, max_size=5))
    order = draw(st.lists(st.integers(0, len(bins)), min_size=1, max_size=2))
    widths = draw(st.lists(st.integers(60, 70), min_size=1, max_size=5))
    return Recipe(
        bins, order, widths, kernel, dilations, pads, draw(st.booleans()), resize=draw(st.sampled_from(CENTRES))
    )


@settings(max_examples=40, deadline=None)
@given(recipes())
def test_any_head_is_exact(recipe: Recipe) -> None:
    check(recipe)


def test_names_survive_and_new_ones_stand_under_the_convolution() -> None:
    model = build_model(Recipe(order=(0, -1), norm=True))
    before = model_bytes(model)
    split = split_head(model)
    assert model_bytes(model) == before
    onnx.checker.check_model(ir.to_proto(split), full_check=True)
    conv = node(split, "head")
    assert conv.op_type == "Conv"
    assert [value.name for value in conv.inputs if value is not None] == [
        "head/split/concatenated",
        "head.weight",
        "head.bias",
    ]
    bn = node(split, "bn").inputs[0]
    assert bn is not None and bn.name == "head" and (total := bn.producer()) is not None and total.op_type == "Add"
    old = {str(value.name) for node in model.graph for value in node.outputs} | set(model.graph.initializers)
    new = {str(value.name) for node in split.graph for value in node.outputs} | set(split.graph.initializers)
    assert {name for name in new - old if not name.startswith("head/split/")} == set()
    gone = {"concat", *(f"up{index}" for index in range(4)), *(f"up{index}/sizes" for index in range(4))}
    assert old - new == gone
    assert all(value.shape is not None and value.dtype is not None for node in split.graph for value in node.outputs)


def test_small_part_holds_nothing_that_a_quantiser_takes() -> None:
    split = split_head(build_model())
    kinds = {node.op_type for node in split.graph if (node.name or "").startswith("head/split/")}
    assert kinds == {"Transpose", "Reshape", "MatMul", "Concat", "Gather", "Add"}
    assert [node.name for node in split.graph if node.op_type == "Conv" and node.name == "head"] == ["head"]


def test_result_may_be_an_output_of_the_graph() -> None:
    model = build_model()
    fused = node(model, "head").outputs[0]
    model.graph.outputs[0] = fused
    model.graph.remove([node(model, name) for name in ("logits", "relu")], safe=True)
    split = split_head(model)
    assert [value.name for value in split.graph.outputs] == ["head"]
    assert relative_error(split, model) < EXACT


def test_weights_that_are_shared_keep_their_other_reader() -> None:
    model = build_model()
    fused = node(model, "head")
    hidden = ir.node("Relu", [node(model, "concat").outputs[0]], name="hidden")
    concat = ir.node("Concat", node(model, "concat").inputs, {"axis": 1}, name="again/concat")
    hidden.replace_input_with(0, concat.outputs[0])
    again = ir.node("Conv", [hidden.outputs[0], *fused.inputs[1:]], fused.attributes, name="again")
    total = ir.node("Add", [fused.outputs[0], again.outputs[0]], name="total")
    for added in (hidden, concat, again, total):
        added.outputs[0].name = added.name
    relu = node(model, "relu")
    relu.replace_input_with(0, total.outputs[0])
    model.graph.insert_before(relu, [concat, hidden, again, total])
    split = split_head(model)
    assert [head.conv for head in find_heads(model)] == ["head"]
    assert relative_error(split, model) < EXACT
    assert "head.weight" in split.graph.initializers and "head/split/weight" in split.graph.initializers


def test_names_that_are_taken_are_not_given_again() -> None:
    model = build_model()
    node(model, "stem").outputs[0].name = "head/split/taps"
    split = split_head(model)
    names = [str(value.name) for node in split.graph for value in node.outputs]
    assert len(set(names)) == len(names) and "head/split_/taps" in names
    assert relative_error(split, model) < EXACT


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_batches_of_frames(batch: int) -> None:
    model, spec = build_model(Recipe(pool="average")), build_spec()
    lowered = to_frames(split_head(model), spec, batch)
    comparison = measure(run(model, spec, sample_frames(spec, 3)), run(lowered, spec, sample_frames(spec, 3)))
    assert comparison.max_error_relative is not None and comparison.max_error_relative < EXACT


def test_shipped_model() -> None:
    model, spec = load_model(model_path())
    plain = fold(model)
    split = split_head(plain)
    comparison = compare(plain, split, spec, sample_frames(spec, 1))
    require(comparison, "splitting the head")
    assert comparison.max_error_relative is not None and comparison.max_error_relative < EXACT
    before, after = multiply_adds(plain), multiply_adds(split)
    assert before / after == pytest.approx(1.07, abs=0.005)
    (head,) = find_heads(plain)
    assert head.conv == "head/conv" and [cells for *_, cells in head.maps] == [1, 2, 3, 6]
    assert before - after == head.multiply_adds - head.multiply_adds_split


def of_conv(**attributes: Any) -> Callable[[ir.Model], None]:
    def apply(model: ir.Model) -> None:
        for name, value in attributes.items():
            node(model, "head").attributes[name] = ir.convenience.convert_attribute(name, value)

    return apply


def read_concat_twice(model: ir.Model) -> None:
    relu = ir.node("Relu", [node(model, "concat").outputs[0]], name="second reader")
    relu.outputs[0].name = "second"
    model.graph.outputs.append(relu.outputs[0])
    model.graph.append(relu)


def compute_weights(model: ir.Model) -> None:
    conv = node(model, "head")
    absolute = ir.node("Abs", [conv.inputs[1]], name="weights")
    absolute.outputs[0].name = "computed"
    model.graph.insert_before(conv, absolute)
    conv.replace_input_with(1, absolute.outputs[0])


@pytest.mark.parametrize(
    ("recipe", "damage", "reason"),
    [
        (WIDE, of_conv(auto_pad="SAME_UPPER"), "auto_pad is SAME_UPPER, expected explicit pads"),
        (WIDE, of_conv(group=2), "group is 2, expected 1"),
        (WIDE, of_conv(strides=[2, 2]), r"strides are \[2, 2\], expected \[1, 1\]"),
        (WIDE, read_concat_twice, "the concatenation 'concat' is read by others, too"),
        (WIDE, compute_weights, "the weights are computed, expected constant float32"),
        (change(order=()), None, "every input is upsampled from a small map"),
        (change(bins=((12, 15),)), None, "no input is upsampled from a small map"),
        (Recipe(kernel=(1, 1), widths=(1,)), None, "nothing is saved, [0-9]+ multiply-adds instead of [0-9]+"),
    ],
)
def test_refuses_with_the_reason(recipe: Recipe, damage: Callable[[ir.Model], None] | None, reason: str) -> None:
    model = build_model(recipe)
    if damage is not None:
        damage(model)
    (head,) = find_heads(model)
    assert head.conv == "head" and head.multiply_adds == head.multiply_adds_split
    with pytest.raises(HeadNotFound, match=rf"^no head to split: found 'head': .*{reason}.*keep the plain head$"):
        split_head(model)
    assert issubclass(HeadNotFound, ModelError)


def test_refuses_a_graph_without_concatenation() -> None:
    model = split_head(build_model())
    assert find_heads(model) == ()
    with pytest.raises(HeadNotFound, match="found no convolution that reads a concatenation"):
        split_head(model)


def extrapolate(model: ir.Model) -> None:
    """Cells outside the region get a value of their own: affine, not linear."""
    resize = node(model, "up3")
    roi = np.array([0, 0, -0.5, -0.5, 1, 1, 1.5, 1.5], np.float32)
    value = ir.Value(name="roi", const_value=ir.tensor(roi, name="roi"))
    model.graph.register_initializer(value)
    resize.replace_input_with(1, value)
    for name, setting in (("coordinate_transformation_mode", "tf_crop_and_resize"), ("extrapolation_value", 3.0)):
        resize.attributes[name] = ir.convenience.convert_attribute(name, setting)


def scale_channels(model: ir.Model) -> None:
    """A transposed convolution that weighs every channel otherwise."""
    transposed(model, np.arange(1, 25, dtype=np.float32).reshape(24, 1, 1, 1))


def blur(model: ir.Model) -> None:
    """A transposed convolution that no two matrices make."""
    transposed(model, np.ones((24, 1, 1, 1), np.float32), np.eye(4, 5))


def scale_channels_of_one_cell(model: ir.Model) -> None:
    """The same where the only impulse meets the first channel alone."""
    transposed(model, np.arange(1, 25, dtype=np.float32).reshape(24, 1, 1, 1), np.ones(SIZE), "up0")


def transposed(model: ir.Model, factor: Any, tile: Any = None, name: str = "up3") -> None:
    """Upsamples a map by a transposed convolution with one tile for a cell."""
    tile = np.ones((SIZE[0] // 6, SIZE[1] // 6)) if tile is None else tile
    weight = (factor * tile).astype(np.float32)
    value = ir.Value(name="tiles", const_value=ir.tensor(weight, name="tiles"))
    model.graph.register_initializer(value)
    old = node(model, name)
    sides = list(tile.shape)
    attributes: dict[str, Any] = {"group": 24, "kernel_shape": sides, "strides": sides}
    new = ir.node("ConvTranspose", [old.inputs[0], value], attributes, name=name)
    new.outputs[0].name, new.outputs[0].shape = name, old.outputs[0].shape
    new.outputs[0].dtype = ir.DataType.FLOAT
    model.graph.insert_before(old, new)
    old.outputs[0].replace_all_uses_with(new.outputs[0])
    model.graph.remove(old, safe=True)


@pytest.mark.parametrize(
    ("damage", "index"), [(extrapolate, 3), (scale_channels, 3), (scale_channels_of_one_cell, 0), (blur, 3)]
)
def test_an_upsampling_of_another_kind_stays_among_the_features(damage: Callable[[ir.Model], None], index: int) -> None:
    model = build_model(WIDE)
    damage(model)
    (head,) = find_heads(model)
    assert head.notes == (f"up{index} follows from map{index}, but not by one pair of matrices in every channel",)
    assert head.features == ("features", f"up{index}") and len(head.maps) == 3
    assert relative_error(split_head(model), model) < EXACT


def test_a_transposed_convolution_alike_for_all_channels_is_an_upsampling() -> None:
    model = build_model(WIDE)
    transposed(model, np.ones((24, 1, 1, 1), np.float32))
    (head,) = find_heads(model)
    assert not head.notes and len(head.maps) == 4
    assert relative_error(split_head(model), model) < EXACT


def test_sizes_that_are_computed_are_taken_from_the_shape() -> None:
    model = build_model(WIDE)
    resize = node(model, "up3")
    copied = ir.node("Identity", [resize.inputs[3]], name="computed")
    copied.outputs[0].name, copied.outputs[0].dtype = "computed", ir.DataType.INT64
    copied.outputs[0].shape = ir.Shape((4,))
    model.graph.insert_before(resize, copied)
    resize.replace_input_with(3, copied.outputs[0])
    assert len(find_heads(model)[0].maps) == 4
    assert relative_error(split_head(model), model) < EXACT


def test_nested_concatenations_are_one() -> None:
    model = build_model(WIDE)
    concat = node(model, "concat")
    inner = ir.node("Concat", concat.inputs[1:], {"axis": -3}, name="maps")
    inner.outputs[0].name, inner.outputs[0].shape = "maps", ir.Shape((1, 96, *SIZE))
    inner.outputs[0].dtype = ir.DataType.FLOAT
    outer = ir.node("Concat", [concat.inputs[0], inner.outputs[0]], {"axis": 1}, name="outer")
    outer.outputs[0].name, outer.outputs[0].shape = "outer", ir.Shape((1, 96 + FEATURES, *SIZE))
    outer.outputs[0].dtype = ir.DataType.FLOAT
    model.graph.insert_before(concat, [inner, outer])
    concat.outputs[0].replace_all_uses_with(outer.outputs[0])
    model.graph.remove(concat, safe=True)
    assert len(find_heads(model)[0].maps) == 4
    split = split_head(model)
    assert relative_error(split, model) < EXACT
    assert answer_shape(split) == (1, CLASSES, *SIZE)


def answer_shape(model: ir.Model) -> tuple[int, ...]:
    shape = model.graph.outputs[0].shape
    assert shape is not None
    return shape.numpy()
