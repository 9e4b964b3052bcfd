"""Model files: what is read, what is refused and how, and that a write is all or nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from rtpsp.errors import ModelError, OutputError
from rtpsp.labels import CAMVID
from rtpsp.onnx_file import load_model, model_bytes, model_digest, read_graph, save_model
from rtpsp.spec import ModelSpec

SPEC = ModelSpec("tiny", "pspnet18", 4, 6, CAMVID)


def tiny(
    size: tuple[int | str, int | str] = (4, 6),
    classes: int = 11,
    names: tuple[str, str] = ("image", "logits"),
    dtype: ir.DataType = ir.DataType.FLOAT,
    opset: int = 19,
) -> ir.Model:
    """One 1x1 convolution."""
    image = ir.Value(name=names[0], shape=ir.Shape((1, 3, *size)), type=ir.TensorType(dtype))
    logits = ir.Value(name=names[1], shape=ir.Shape((1, classes, *size)), type=ir.TensorType(dtype))
    array = np.arange(3 * classes, dtype=np.float32).reshape(classes, 3, 1, 1)
    weight = ir.Value(name="weight", const_value=ir.tensor(array, name="weight"))
    conv = ir.node("Conv", [image, weight], outputs=[logits], name="conv")
    graph = ir.Graph([image], [logits], nodes=[conv], initializers=[weight], opset_imports={"": opset}, name="tiny")
    return ir.Model(graph, ir_version=9)


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    model = tiny()
    save_model(model, SPEC, path)
    assert "rtpsp.spec" not in model.metadata_props
    read, spec = load_model(path)
    assert spec == SPEC
    weight, expected = (graph.graph.initializers["weight"].const_value for graph in (read, model))
    assert weight is not None and expected is not None
    np.testing.assert_array_equal(weight.numpy(), expected.numpy())
    save_model(read, spec, path)
    digest = model_digest(path)
    save_model(load_model(path)[0], spec, path)
    assert model_digest(path) == digest
    save_model(read, ModelSpec("other", "pspnet18", 4, 6, CAMVID), path)
    assert model_digest(path) != digest
    assert [entry.name for entry in tmp_path.iterdir()] == ["tiny.onnx"]


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (
            tiny(size=(4, 7)),
            r"input 'image' is FLOAT \[1, 3, 4, 7\], expected one input 'image', float32 \[1, 3, 4, 6\]",
        ),
        (tiny(size=("H", "W")), r"\[1, 3, H, W\], expected"),
        (tiny(classes=10), r"output 'logits' is FLOAT \[1, 10, 4, 6\], expected .*\[1, 11, any, any\]"),
        (tiny(names=("x", "logits")), "inputs are 'x', expected one input 'image'"),
        (tiny(names=("image", "y")), "outputs are 'y', expected one output 'logits'"),
        (tiny(names=("frames", "class_map")), "lowered already"),
        (tiny(dtype=ir.DataType.FLOAT16), "is FLOAT16"),
        (tiny(opset=11), "opset is 11, expected 13"),
    ],
)
def test_refuses_a_graph_that_breaks_the_contract(tmp_path: Path, model: ir.Model, says: str) -> None:
    save_model(model, SPEC, tmp_path / "x.onnx")
    with pytest.raises(ModelError, match=says) as caught:
        load_model(tmp_path / "x.onnx")
    assert str(caught.value).startswith(str(tmp_path / "x.onnx"))


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x00" * 100, b"\x08\x09"])
def test_refuses_what_is_not_onnx(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(ModelError, match="not an ONNX model"):
        load_model(tmp_path / "x.onnx")


def test_refuses_half_a_file(tmp_path: Path) -> None:
    data = model_bytes(tiny())
    (tmp_path / "x.onnx").write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError, match="not an ONNX model"):
        load_model(tmp_path / "x.onnx")


def test_refuses_a_model_without_a_spec(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(model_bytes(tiny()))
    with pytest.raises(ModelError, match=r"without a spec.*rtpsp export"):
        load_model(tmp_path / "x.onnx")


def test_a_spec_that_cannot_be_read_names_the_file(tmp_path: Path) -> None:
    model = tiny()
    model.metadata_props["rtpsp.spec"] = '{"version": 2}'
    (tmp_path / "x.onnx").write_bytes(model_bytes(model))
    with pytest.raises(ModelError, match=r"x\.onnx: spec version is 2"):
        load_model(tmp_path / "x.onnx")


def test_weights_beside_the_file_are_taken_in(tmp_path: Path) -> None:
    model, path = tiny(), tmp_path / "x.onnx"
    model.metadata_props["rtpsp.spec"] = SPEC.to_json()
    ir.save(model, path, external_data="x.data", size_threshold_bytes=0)
    read, _ = load_model(path)
    weight, expected = (graph.graph.initializers["weight"].const_value for graph in (read, tiny()))
    assert weight is not None and expected is not None
    np.testing.assert_array_equal(weight.numpy(), expected.numpy())
    digest = model_digest(path)
    data = bytearray((tmp_path / "x.data").read_bytes())
    data[0] ^= 1
    (tmp_path / "x.data").write_bytes(data)
    assert model_digest(path) != digest, "the weights are part of the model, wherever they lie"
    save_model(load_model(path)[0], SPEC, tmp_path / "one.onnx")
    (tmp_path / "x.data").unlink()
    assert load_model(tmp_path / "one.onnx")[1] == SPEC
    with pytest.raises(ModelError, match=r"x\.data, which is not there: put it beside the model"):
        load_model(path)


@pytest.mark.parametrize("location", ["../x.data", "/etc/passwd"])
def test_weights_outside_the_folder_are_refused(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "deep"
    folder.mkdir()
    (tmp_path / "x.data").write_bytes(bytes(1000))
    model = tiny()
    model.metadata_props["rtpsp.spec"] = SPEC.to_json()
    ir.save(model, folder / "x.onnx", external_data="x.data", size_threshold_bytes=0)
    (folder / "x.onnx").write_bytes(_relocated((folder / "x.onnx").read_bytes(), location))
    with pytest.raises(ModelError, match="cannot be read"):
        load_model(folder / "x.onnx")


def test_a_constant_whose_value_is_elsewhere_is_as_weights_elsewhere(tmp_path: Path) -> None:
    proto = onnx.ModelProto.FromString(model_bytes(tiny()))
    weight = next(tensor for tensor in proto.graph.initializer if tensor.name == "weight")
    constant = onnx.helper.make_node("Constant", [], ["weight"], value=weight)
    proto.graph.initializer.remove(weight)
    proto.graph.node.insert(0, constant)
    value = proto.graph.node[0].attribute[0].t
    onnx.external_data_helper.set_external_data(value, "x.data")
    value.ClearField("raw_data")
    (tmp_path / "x.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match=r"x\.data, which is not there"):
        read_graph(tmp_path / "x.onnx")


def _relocated(data: bytes, location: str) -> bytes:
    proto = onnx.ModelProto.FromString(data)
    for entry in proto.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = location
    changed: bytes = proto.SerializeToString()
    return changed


def test_what_is_no_segmenter_is_told_by_its_ends(tmp_path: Path) -> None:
    model = tiny()
    model.graph.outputs[0].shape = ir.Shape((1, 1000))
    (tmp_path / "x.onnx").write_bytes(model_bytes(model))
    with pytest.raises(
        ModelError, match=r"no segmenter of images \(inputs image FLOAT \[1, 3, 4, 6\].*FLOAT \[1, 1000\]"
    ):
        load_model(tmp_path / "x.onnx")


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.onnx", tmp_path):
        with pytest.raises(ModelError, match="cannot be read"):
            load_model(path)
        with pytest.raises(ModelError, match="cannot be read"):
            model_digest(path)


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "none").touch()
    with pytest.raises(OutputError, match=r"cannot be written .*--output"):
        save_model(tiny(), SPEC, tmp_path / "none" / "x.onnx")
