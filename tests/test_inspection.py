"""What ``rtpsp inspect`` tells of engines and models, good and bad, without running them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner

from rtpsp.cli.inspect import command
from rtpsp.engine.compatibility import Verdict
from rtpsp.engine.file import read_engine_file, write_engine_file
from rtpsp.engine.tensorrt_layers import Layer
from rtpsp.errors import EngineFileError, InputError, MissingError, ModelError, UsageError
from rtpsp.header import EngineHeader, Target
from rtpsp.inspection import inspect
from rtpsp.layers import extract, layers
from rtpsp.machine import Gpu
from tests.foreign_models import as_it_is, save


def test_an_engine_that_runs_here(colour_engine: Path) -> None:
    found = inspect(colour_engine)
    assert (found.kind, found.serves, found.why_not) == ("engine", True, ())
    assert found.spec is not None and found.spec.name == "colours"
    assert found.facts["model"] == "colours.onnx" and found.facts["payload"]["kind"] == "ONNX"
    assert f"--engine {colour_engine}" in found.advice
    assert json.loads(json.dumps(found.to_dict()))["spec"]["height"] == 48


def test_nothing_of_the_file_is_run(colour_engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*args: object) -> None:
        raise AssertionError("a runtime was asked")

    monkeypatch.setattr("rtpsp.engine.engine_class", load)
    monkeypatch.setattr("rtpsp.engine.openvino_backend.OpenVINOEngine._open", load)
    assert inspect(colour_engine).serves


def test_a_plan_for_a_gpu(colour_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtpsp.engine.compatibility.gpus", lambda: ())
    header = read_engine_file(colour_engine).header
    target = Target("x86_64", "NVIDIA H200", ("9.0",), or_later=True, driver="580.65")
    path = tmp_path / "plan.engine"
    write_engine_file(path, replace(header, backend="tensorrt", precision="fp16", target=target), b"plan")
    found = inspect(path)
    assert not found.serves and "no NVIDIA GPU" in found.why_not[0]
    assert any("can run code" in warning for warning in found.warnings)
    assert found.facts["built_for"]["compute_capabilities"] == ["9.0"]
    assert found.advice.startswith("copy it to a GPU of compute capability 9.0 or later, or build one for this machine")
    assert "--fp16" in found.advice and f"-o {tmp_path / 'plan-here.engine'}" in found.advice, "not over this one"
    told = CliRunner().invoke(command, [str(path)])
    assert told.exit_code == 0 and "runs here    no: it was built for NVIDIA H200" in told.stdout
    assert "built for    NVIDIA H200, compute capability 9.0 or later\n" in told.stdout
    assert ", NVIDIA's driver 580.65\n" in told.stdout, "a fact of the building machine, and no bound"


def test_an_engine_for_batches_is_not_for_the_live_loop(colour_engine: Path, tmp_path: Path) -> None:
    file = read_engine_file(colour_engine)
    path = tmp_path / "batch.engine"
    write_engine_file(path, replace(file.header, options={**file.header.options, "batch": 4}), file.payload())
    found = inspect(path)
    assert found.serves and "Engine.infer 4 frames at a time" in found.advice
    assert "--engine" not in found.advice, "which would end with an error"


def test_a_damaged_payload_is_told_with_its_header(colour_engine: Path, tmp_path: Path) -> None:
    data = bytearray(colour_engine.read_bytes())
    data[-1] ^= 1
    path = tmp_path / "x.engine"
    path.write_bytes(data)
    found = inspect(path)
    assert not found.serves and "damaged" in found.why_not[0] and found.spec is not None


def test_a_model(colour_model: Path, tmp_path: Path) -> None:
    found = inspect(colour_model)
    assert (found.kind, found.serves) == ("model", True)
    assert found.facts["inputs"] == ["image FLOAT [1, 3, 48, 64]"] and found.facts["operators"] == {"Conv": 1}
    assert found.facts["weights"] == {"FLOAT": 44}
    report = tmp_path / "deep" / "x.json"
    told = CliRunner().invoke(command, [str(colour_model), "--json", str(report)])
    assert told.exit_code == 0 and "can be built yes" in told.stdout and "Bicyclist" in told.stdout
    expected = json.loads(json.dumps(found.to_dict()))
    assert json.loads(report.read_text()) == expected
    alone = CliRunner().invoke(command, [str(colour_model), "--json", "-"])
    assert json.loads(alone.stdout) == expected, "nothing but JSON on standard output"


def test_a_lowered_model(colour_engine: Path, tmp_path: Path) -> None:
    path = tmp_path / "lowered.onnx"
    path.write_bytes(read_engine_file(colour_engine).payload())
    found = inspect(path)
    assert found.kind == "lowered model" and not found.serves and "lowered already" in found.why_not[0]


def test_a_model_without_a_spec(colour_model: Path, tmp_path: Path) -> None:
    proto = onnx.load(colour_model)
    del proto.metadata_props[:]
    onnx.save(proto, tmp_path / "x.onnx")
    found = inspect(tmp_path / "x.onnx")
    assert found.kind == "foreign model" and found.spec is None and "no spec" in found.why_not[0]
    assert found.facts["outputs"] == ["logits FLOAT [1, 11, 48, 64]"]


def test_what_is_neither(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("hello")
    (tmp_path / "text.engine").write_text("hello")
    for name, kind, says in (
        ("text.onnx", ModelError, "not an ONNX model"),
        ("text.engine", EngineFileError, "not an rtpsp engine"),
        ("none.onnx", InputError, "No such file"),
        (".", InputError, "is not a file"),
    ):
        with pytest.raises(kind, match=says):
            inspect(tmp_path / name)


INT8 = {
    "integers": "u8 data, 8-bit weights", "method": "mse", "images": 240,
    "asked": "a class agreement of 98.50% or more",
    "cost": {"frames": 60, "agreement": 0.9912, "worst": 0.975},
    "parts": [
        {"group": "stem [red]", "convolutions": 1, "loss": 0.00123, "int8": False},
        {"group": "head", "convolutions": 2, "loss": None, "int8": True},
    ],
}  # fmt: skip


def int8_engine(path: Path, colour_engine: Path, told: object) -> Path:
    file = read_engine_file(colour_engine)
    options = {**file.header.options, "head": "split", "int8": told}
    header = replace(file.header, precision="int8", calibration_digest="cd" * 32, options=options)
    write_engine_file(path, header, file.payload())
    return path


def test_an_int8_engine(colour_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    path = int8_engine(tmp_path / "x.engine", colour_engine, INT8)
    found = inspect(path)
    assert found.facts["int8"] == INT8 and found.facts["head"] == "split"
    told = CliRunner().invoke(command, [str(path)])
    assert told.exit_code == 0, told.output
    tail = found.facts["tail"]
    for line in (
        f"form         split head, class map by the {tail}",
        "integers     u8 data, 8-bit weights; mse ranges over 240 frames, sha256 cdcdcdcdcdcdcdcd",
        "accuracy     99.120% class agreement (worst frame 97.50%) on 60 frames; asked for a class agreement of 98.50%",
        "│ stem [red] │            1 │    0.123 │ float   │",
        "│ head       │            2 │        - │ INT8    │",
    ):
        assert line in told.stdout, told.stdout


@pytest.mark.parametrize(
    "told",
    [
        5,
        {"integers": "a\nb", "method": 7, "images": "many", "cost": {"frames": 1}, "parts": 9},
        {"cost": {"agreement": 10**400}, "parts": [{"group": "\x1b[31m"}], "asked": None},
    ],
)
def test_what_anybody_may_have_written_into_a_header(colour_engine: Path, tmp_path: Path, told: object) -> None:
    path = int8_engine(tmp_path / "x.engine", colour_engine, told)
    found = inspect(path)
    assert json.loads(json.dumps(found.to_dict()))
    printed = CliRunner().invoke(command, [str(path)])
    assert printed.exit_code == 0 and "│" not in printed.stdout and "accuracy" not in printed.stdout
    assert "\x1b" not in printed.stdout and "sha256 cdcdcdcdcdcdcdcd" in printed.stdout


def test_the_payload_alone(colour_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = tmp_path / "new" / "bare.onnx"
    told = CliRunner().invoke(command, [str(colour_engine), "--extract", str(bare)])
    assert told.exit_code == 0 and f"{bare}: an ONNX graph, 0." in told.stdout
    assert bare.read_bytes() == read_engine_file(colour_engine).payload()
    onnx.checker.check_model(onnx.load(bare))
    plan = plan_engine(tmp_path / "plan.engine", colour_engine)
    report = CliRunner().invoke(command, [str(plan), "--extract", str(tmp_path / "x.plan"), "--json", "-"])
    assert json.loads(report.stdout)["payload"]["kind"] == "plan", "nothing but JSON on standard output"
    assert (tmp_path / "x.plan").read_bytes() == b"plan", "although it does not run here"


def plan_engine(path: Path, colour_engine: Path) -> Path:
    header = read_engine_file(colour_engine).header
    target = Target("x86_64", "NVIDIA H200", ("9.0",))
    versions = {"tensorrt": "11.4.0"}
    write_engine_file(path, replace(header, backend="tensorrt", versions=versions, target=target), b"plan")
    return path


def test_what_cannot_be_extracted(colour_engine: Path, colour_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not an engine, and only engines have a payload"):
        extract(colour_model, tmp_path / "x")
    data = bytearray(colour_engine.read_bytes())
    data[-1] ^= 1
    damaged = tmp_path / "damaged.engine"
    damaged.write_bytes(data)
    with pytest.raises(EngineFileError, match="payload is damaged"):
        extract(damaged, tmp_path / "x")
    assert not (tmp_path / "x").exists()
    told = CliRunner().invoke(command, [str(damaged), "--extract", str(damaged)])
    assert isinstance(told.exception, UsageError) and damaged.read_bytes() == data


def test_the_layers_of_a_graph(colour_engine: Path, colour_model: Path) -> None:
    found = layers(colour_engine)
    assert len(found) > 1 and found[0].inputs == ("u8",), "the frames"
    conv = next(layer for layer in found if layer.kind == "Conv")
    assert conv.weights in ("f32", "i8") or conv.inputs[1:], "or they come from a DequantizeLinear"
    assert all(layer.outputs and "?" not in layer.outputs for layer in found)
    assert layers(colour_model)[0].shapes == ((1, 11, 48, 64),)
    told = CliRunner().invoke(command, [str(colour_engine), "--layers"])
    assert told.exit_code == 0 and f"{len(found)} layers" in told.stdout and "loading" not in told.stderr
    report = json.loads(CliRunner().invoke(command, [str(colour_model), "--layers", "--json", "-"]).stdout)
    assert report["layers"][0]["kind"] == "Conv" and "layers" not in inspect(colour_model).to_dict()


def test_the_layers_of_a_plan_are_told_by_its_runtime_alone(
    colour_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []

    def read_layers(header: EngineHeader, payload: bytes) -> list[Layer]:
        asked.append(payload)
        return [Layer("conv1 + [relu]\x1b", "CaskConvolution", ("f16",), ("f16",), ((1, 64, 24, 32),), "f16", "sm90")]

    monkeypatch.setattr("rtpsp.engine.tensorrt_backend.read_layers", read_layers)
    monkeypatch.setattr("rtpsp.engine.compatibility.gpus", lambda: ())
    path = plan_engine(tmp_path / "plan.engine", colour_engine)
    with pytest.raises(MissingError, match=r"told by TensorRT alone, and it was built for NVIDIA H200.*'rtpsp build-"):
        layers(path)
    out, report = tmp_path / "x.plan", tmp_path / "x.json"
    told = CliRunner().invoke(command, [str(path), "--layers", "--extract", str(out), "--json", str(report)])
    assert isinstance(told.exception, MissingError), "after all else"
    assert "runs here    no: " in told.stdout and f"{out}: a plan" in told.stdout and "loading" not in told.stderr
    assert "layers" not in json.loads(report.read_text())
    assert not asked, "what does not fit is not loaded"
    gpu = Gpu("NVIDIA H200", "9.0", "580.65.06", 139 << 30, "13.0")
    monkeypatch.setattr("rtpsp.engine.compatibility.gpus", lambda: (gpu,))
    monkeypatch.setattr("rtpsp.engine.installed_version", lambda package: "11.4.0")
    monkeypatch.setattr("rtpsp.layers.judge_file", lambda file: Verdict())
    monkeypatch.setattr("rtpsp.inspection.judge_file", lambda file: Verdict())
    told = CliRunner().invoke(command, [str(path)])
    assert told.exit_code == 0 and not asked, "without the option nothing is loaded"
    told = CliRunner().invoke(command, [str(path), "--layers"])
    assert told.exit_code == 0 and asked == [b"plan"]
    assert "a plan can run code" in told.stderr
    assert "conv1 + [relu]?" in told.stdout and "1x64x24x32" in told.stdout


def test_a_model_from_elsewhere_is_told_how_it_is_built(tmp_path: Path) -> None:
    path = save(tmp_path / "x.onnx", as_it_is, ("n", 5, "h", "w"), image=("n", 3, "h", "w"))
    assert inspect(path).advice == f"rtpsp build-engine {path} --labels SET|FILE --size HxW"
    save(path, as_it_is, (1, 5, 12, 16), image=(1, 1, 24, 32), planes=1)
    assert inspect(path).advice.endswith("--labels SET|FILE --mean A --std A")
    model = onnx.load(path)
    model.graph.node[1].domain = "mmdeploy"
    onnx.save(model, path)
    found = inspect(path)
    assert "1 mmdeploy::Relu" in found.why_not[1] and found.advice == "make the file with 'rtpsp export'"
