"""Frames in: the same scores from bytes as from the normalised image, in the order that TensorRT takes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from rtpsp.errors import ModelError, UsageError
from rtpsp.graph.fold import fold
from rtpsp.graph.frames import to_frames
from rtpsp.graph.verify import compare, run, sample_frames, to_image
from rtpsp.onnx_file import model_bytes
from rtpsp.spec import Channels, ModelSpec

MakeSpec = Callable[..., ModelSpec]
MakeModel = Callable[..., ir.Model]


def kinds(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


MEAN, STD = (0.3, 0.4, 0.6, 0.2), (0.1, 0.2, 0.4, 0.3)


@pytest.mark.parametrize(("channels", "planes"), [("rgb", 3), ("bgr", 3), ("grey", 1), ("rgbx", 4), ("bgrx", 4)])
@pytest.mark.parametrize("readers", [1, 2])
@pytest.mark.parametrize("batch", [1, 3])
def test_scores_stay(
    small_model: MakeModel, small_spec: MakeSpec, channels: Channels, planes: int, readers: int, batch: int
) -> None:
    spec = small_spec(channels=channels, mean=MEAN[:planes], std=STD[:planes])
    model = fold(small_model(spec, readers=readers))
    lowered = to_frames(model, spec, batch)
    comparison = compare(model, lowered, spec, sample_frames(spec, 4))
    assert comparison.max_error_relative is not None and comparison.max_error_relative < 1e-5
    assert comparison.class_agreement == 1.0
    assert ("Gather" in kinds(lowered)) == (channels in ("rgb", "rgbx") and readers == 2)
    assert lowered.graph.inputs[0].shape == ir.Shape((batch, *spec.size, planes))


def test_normalisation_in_the_order_of_the_network(small_spec: MakeSpec) -> None:
    pixel = np.array([[[[51, 102, 153, 204]]]], np.uint8)  # 0.2 to 0.8
    one = ((0.2, 0.4, 0.6, 0.8), (0.5,) * 4)
    for channels, given, expected in (
        ("bgrx", pixel, [0, 0, 0, 0]), ("rgbx", pixel, [0.8, 0, -0.8, 0]), ("bgr", pixel[..., :3], [0, 0, 0]),
        ("rgb", pixel[..., :3], [0.8, 0, -0.8]), ("grey", pixel[..., 3:], [1.2]),
    ):  # fmt: skip
        planes = given.shape[-1]
        spec = small_spec(channels=channels, mean=one[0][:planes], std=one[1][:planes])
        np.testing.assert_allclose(to_image(given, spec)[0, :, 0, 0], expected, atol=1e-6)


def test_contract_and_the_order_that_tensorrt_takes(model: ir.Model, spec: ModelSpec) -> None:
    lowered = to_frames(fold(model), spec)
    assert [value.name for value in lowered.graph.inputs] == ["frames"]
    frames = lowered.graph.inputs[0]
    assert frames.dtype == ir.DataType.UINT8
    assert frames.shape == ir.Shape((1, *spec.size, 3))
    assert kinds(lowered)[:5] == ["Cast", "Transpose", "Mul", "Add", "Conv"]


def test_input_is_not_modified_and_names_survive(model: ir.Model, spec: ModelSpec) -> None:
    folded = fold(model)
    before = model_bytes(folded)
    lowered = to_frames(folded, spec, 2)
    assert model_bytes(folded) == before
    old = {value.name for node in folded.graph for value in node.outputs} | {"image"}
    assert old <= {value.name for node in lowered.graph for value in node.outputs}


def test_normalised_tensor_is_the_image_in_bgr(model: ir.Model, spec: ModelSpec) -> None:
    import onnxruntime

    lowered = to_frames(fold(model), spec)
    lowered.graph.outputs.append(next(v for node in lowered.graph for v in node.outputs if v.name == "image"))
    frames = sample_frames(spec, 1)
    session = onnxruntime.InferenceSession(model_bytes(lowered), providers=["CPUExecutionProvider"])
    (image,) = session.run(["image"], {"frames": frames})
    np.testing.assert_allclose(image[:, ::-1], to_image(frames, spec), atol=1e-5)


def test_half_stored_weights_are_not_turned_behind_their_cast(model: ir.Model, spec: ModelSpec) -> None:
    lowered = to_frames(model, spec)  # not folded: the weight is computed, so the image must be turned
    assert "Gather" in kinds(lowered)
    assert compare(model, lowered, spec).class_agreement == 1.0


def test_batches_keep_frames_apart(model: ir.Model, spec: ModelSpec) -> None:
    folded = fold(model)
    frames = sample_frames(spec, 3)
    together = run(to_frames(folded, spec, 3), spec, frames).logits
    assert together is not None
    for position in range(3):
        alone = run(to_frames(folded, spec), spec, frames[position : position + 1]).logits
        assert alone is not None
        np.testing.assert_allclose(together[position], alone[0], rtol=1e-4, atol=1e-4)


def test_refuses_no_frames_and_foreign_graphs(model: ir.Model, spec: ModelSpec) -> None:
    with pytest.raises(UsageError, match="batch is 0"):
        to_frames(model, spec, 0)
    model.graph.inputs[0].name = "x"
    with pytest.raises(ModelError, match="inputs are 'x', expected 'image'"):
        to_frames(model, spec)
