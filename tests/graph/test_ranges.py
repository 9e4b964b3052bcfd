from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from rtpsp.errors import DataError, ModelError
from rtpsp.graph.editing import constant, set_constant
from rtpsp.graph.quantize import quantise
from rtpsp.graph.ranges import canonical, collect, graph_digest, tensors_of, to_ranges
from rtpsp.graph.verify import open_session, sample_frames, to_image
from rtpsp.spec import ModelSpec

Small = Callable[..., ir.Model]


def test_ranges_are_those_of_the_values(model: ir.Model, spec: ModelSpec) -> None:
    plain = canonical(model)
    frames = sample_frames(spec, count=3)
    told: list[int] = []
    found = to_ranges(collect(plain, spec, (frame[None] for frame in frames), 1, told.append), "minmax")
    assert told == [1, 2, 3]
    assert set(found) == set(tensors_of(plain)) == {"image", "relu", "spread", "maps"}
    exposed = plain.clone()
    values = {value.name: value for node in exposed.graph for value in node.outputs}
    values["maps"].dtype = ir.DataType.FLOAT
    exposed.graph.outputs.append(values["maps"])
    session = open_session(exposed, 1)
    answers = [session.run(["maps"], {"image": to_image(frame[None], spec)})[0] for frame in frames]
    assert found["maps"].high == pytest.approx(max(float(answer.max()) for answer in answers), rel=1e-6)
    assert found["maps"].low == 0.0 and found["maps"].amax == pytest.approx(found["maps"].high, rel=1e-6)
    assert found["image"].amax == pytest.approx(float(np.abs(to_image(frames, spec)).max()), rel=1e-6)


def test_frames_are_read_one_at_a_time(model: ir.Model, spec: ModelSpec) -> None:
    frame = sample_frames(spec, count=1)
    held: list[int] = []

    def frames() -> object:
        for number in range(3):
            held.append(number)
            yield frame

    counted: list[int] = []
    collect(canonical(model), spec, frames(), 1, lambda done: counted.append(len(held)))  # type: ignore[arg-type]
    assert counted == [1, 2, 3]


def test_no_frame(model: ir.Model, spec: ModelSpec) -> None:
    with pytest.raises(DataError, match="no frame to calibrate with"):
        collect(canonical(model), spec, [], 1)


def test_weights_that_are_no_numbers(model: ir.Model, spec: ModelSpec) -> None:
    plain = canonical(model)
    weight = plain.graph.initializers["conv.weight"]
    array = constant(weight)
    assert array is not None
    broken = array.copy()
    broken[0, 0, 0, 0] = np.nan
    set_constant(weight, broken)
    with pytest.raises(DataError, match="frame 1 gives values that are not numbers in"):
        collect(plain, spec, [sample_frames(spec, count=1)], 1)


def test_the_digest_is_of_what_is_computed(small_model: Small, spec: ModelSpec) -> None:
    model = small_model(spec)
    digest = graph_digest(model)
    assert graph_digest(canonical(model)) == digest, "of the canonical graph, whatever it is asked of"
    renamed = model.clone()
    renamed.metadata_props["note"] = "something else"
    renamed.graph.doc_string, renamed.producer_name = "another", "another"
    for number, node in enumerate(renamed.graph):
        node.name = f"node{number}"
    assert graph_digest(renamed) == digest
    changed = model.clone()
    bias = changed.graph.initializers["classifier.bias"]
    array = constant(bias)
    assert array is not None
    set_constant(bias, array + np.float32(1e-6) * np.abs(array))
    assert graph_digest(changed) != digest
    strided = model.clone()
    node = next(node for node in strided.graph if node.name == "conv")
    node.attributes["pads"] = ir.AttrInt64s("pads", [0, 0, 2, 2])
    assert graph_digest(strided) != digest


def test_a_format_of_storage_does_not_count(small_model: Small, spec: ModelSpec) -> None:
    half = small_model(spec, half=True)
    full = canonical(half)
    formats = [{str(constant(value).dtype) for value in one.graph.initializers.values()} for one in (half, full)]  # type: ignore[union-attr]
    assert "float16" in formats[0] and "float16" not in formats[1]
    assert graph_digest(half) == graph_digest(full)


def test_a_quantised_model_is_refused(model: ir.Model, spec: ModelSpec) -> None:
    plain = canonical(model)
    found = to_ranges(collect(plain, spec, [sample_frames(spec, count=1)], 1), "minmax")
    with pytest.raises(ModelError, match=r"quantised already \(\d+ Q/DQ nodes, .* first\): give the FP32 model"):
        canonical(quantise(plain, found))
