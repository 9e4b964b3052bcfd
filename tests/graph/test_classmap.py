"""Class ids out: argmax of the scores, of the type that the class count asks for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from rtpsp.errors import ModelError
from rtpsp.graph.classmap import to_class_map
from rtpsp.graph.verify import run, sample_frames
from rtpsp.onnx_file import model_bytes
from rtpsp.spec import ModelSpec

MakeSpec = Callable[..., ModelSpec]
MakeModel = Callable[..., ir.Model]


@pytest.mark.parametrize(("classes", "dtype"), [(2, "uint8"), (256, "uint8"), (257, "int32"), (300, "int32")])
@pytest.mark.parametrize("upsampled", [True, False])
def test_class_map_is_the_argmax(
    small_model: MakeModel, small_spec: MakeSpec, classes: int, dtype: str, upsampled: bool
) -> None:
    spec = small_spec(classes)
    model = small_model(spec, upsampled=upsampled)
    lowered = to_class_map(model, spec)
    assert [value.name for value in lowered.graph.outputs] == ["class_map"]
    assert lowered.graph.outputs[0].shape == ir.Shape((1, *spec.size))
    frames = sample_frames(spec)
    answer, expected = run(lowered, spec, frames), run(model, spec, frames)
    assert answer.logits is None
    assert answer.class_map.dtype == dtype
    assert np.mean(answer.class_map == expected.class_map) >= 0.9999
    assert len(np.unique(answer.class_map)) > 1


def test_nothing_but_argmax_and_cast_is_added(model: ir.Model, spec: ModelSpec) -> None:
    before = model_bytes(model)
    added = [node.op_type for node in to_class_map(model, spec).graph][len(model.graph) :]
    assert added == ["ArgMax", "Cast"]
    assert model_bytes(model) == before


def test_refuses_a_graph_without_scores(model: ir.Model, spec: ModelSpec) -> None:
    with pytest.raises(ModelError, match=r"'class_map'.*expected 'logits'"):
        to_class_map(to_class_map(model, spec), spec)
