"""Folding: the same numbers from fewer nodes, under the same names, on a copy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from rtpsp.graph.fold import fold, fold_batch_norms, fold_casts
from rtpsp.graph.verify import compare, run, sample_frames
from rtpsp.onnx_file import model_bytes
from rtpsp.spec import ModelSpec


def kinds(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def test_cast_of_half_weights_becomes_full_weights_of_the_same_numbers(model: ir.Model, spec: ModelSpec) -> None:
    before = model_bytes(model)
    folded = fold_casts(model)
    assert "Cast" in kinds(model) and "Cast" not in kinds(folded)
    assert "conv.weight.fp16" not in folded.graph.initializers
    stored = model.graph.initializers["conv.weight.fp16"].const_value
    full = folded.graph.initializers["conv.weight"].const_value
    assert stored is not None and full is not None and full.dtype == ir.DataType.FLOAT
    np.testing.assert_array_equal(full.numpy(), stored.numpy().astype(np.float32))
    frames = sample_frames(spec)
    np.testing.assert_array_equal(run(model, spec, frames).logits, run(folded, spec, frames).logits)
    assert model_bytes(model) == before


def test_a_cast_that_is_computed_stays(model: ir.Model) -> None:
    image = model.graph.inputs[0]
    half = ir.node("Cast", [image], {"to": ir.DataType.FLOAT16}, name="half")
    back = ir.node("Cast", [half.outputs[0]], {"to": ir.DataType.FLOAT}, name="back")
    image.replace_all_uses_with(back.outputs[0])
    half.replace_input_with(0, image)
    model.graph.insert_before(model.graph[0], [half, back])
    assert kinds(fold_casts(model)).count("Cast") == 2


def test_batch_norm_folds_into_its_convolution(model: ir.Model, spec: ModelSpec) -> None:
    folded = fold(model)
    assert "BatchNormalization" not in kinds(folded)
    conv = next(node for node in folded.graph if node.op_type == "Conv")
    assert conv.name == "conv" and conv.outputs[0].name == "bn"
    assert not [name for name in folded.graph.initializers if name.startswith("bn.")]
    comparison = compare(model, folded, spec)
    assert comparison.max_error_relative is not None and 0 < comparison.max_error_relative < 1e-5
    assert comparison.class_agreement == 1.0


def test_batch_norm_with_a_second_reader_of_the_convolution_stays(model: ir.Model, spec: ModelSpec) -> None:
    conv = next(node for node in model.graph if node.op_type == "Conv")
    relu = next(node for node in model.graph if node.op_type == "Relu")
    relu.replace_input_with(0, conv.outputs[0])
    concat = next(node for node in model.graph if node.op_type == "Concat")
    norm = next(node for node in model.graph if node.op_type == "BatchNormalization")
    concat.replace_input_with(1, norm.outputs[0])
    folded = fold_batch_norms(fold_casts(model))
    assert "BatchNormalization" in kinds(folded)
    assert compare(model, folded, spec).max_error_relative == 0.0


def test_batch_norm_after_an_addition_stays(
    small_model: Callable[..., ir.Model], small_spec: Callable[..., ModelSpec]
) -> None:
    assert "BatchNormalization" in kinds(fold(small_model(small_spec(), readers=2)))
