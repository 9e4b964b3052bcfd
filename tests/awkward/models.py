"""Awkward engines and models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from rtpsp.engine.file import write_engine_file
from rtpsp.header import EngineHeader, Target
from rtpsp.labels import CAMVID, LabelSet
from rtpsp.spec import SPEC_KEY, ModelSpec
from tests.awkward import files
from tests.awkward.case import ENGINE, Case, nothing
from tests.conftest import save_colour_model, save_frames

SPEC = ModelSpec("colours", "test", 48, 64, CAMVID)
HEADER = EngineHeader(SPEC, "openvino", "fp32", "ab" * 32, {"rtpsp": "0.1.0"}, options={"model": "colours.onnx"})
PLAN = replace(
    HEADER, backend="tensorrt", precision="fp16", versions={"tensorrt": "11.4.0"},
    target=Target("x86_64", "NVIDIA H200", ("9.0",), driver="580.65"),
)  # fmt: skip
FOUR = replace(HEADER, spec=replace(SPEC, mean=(0.5,) * 4, std=(0.5,) * 4, channels="rgbx"))
TWO = LabelSet("two", ("road", "sky"), ((0, 0, 0), (9, 9, 9)))
RUN = ("run", "--source", "sim://street?w=160&h=120&frames=2", "--engine", "x.engine")
BUILD = ("build-engine", "x.onnx", "-o", "x.engine")
COMPARE = ("compare", ENGINE, ENGINE, "--source", "sim://street?w=160&h=120&frames=2")


def engine(
    header: EngineHeader = HEADER, change: Callable[[bytes], bytes] = lambda data: data, payload: bytes = bytes(10_000)
) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        path = folder / "x.engine"
        write_engine_file(path, header, payload)
        path.write_bytes(change(path.read_bytes()))

    return make


def flipped(place: int) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        damaged = bytearray(data)
        damaged[place] ^= 4
        return bytes(damaged)

    return change


def graph(
    inputs: list[list[int | str]], outputs: list[list[int | str]], spec: ModelSpec | None = None
) -> Callable[[Path], None]:
    """An ONNX file with these inputs and outputs, all float; the first goes to every output unchanged."""

    def make(folder: Path) -> None:
        ends = [
            [
                helper.make_tensor_value_info(f"{kind}{place}", TensorProto.FLOAT, shape)
                for place, shape in enumerate(shapes)
            ]
            for kind, shapes in (("in", inputs), ("out", outputs))
        ]
        nodes = [helper.make_node("Identity", ["in0"], [f"out{place}"]) for place in range(len(outputs))]
        model = helper.make_model(
            helper.make_graph(nodes, "g", ends[0], ends[1]), opset_imports=[helper.make_opsetid("", 19)], ir_version=9
        )
        if spec:
            helper.set_model_props(model, {SPEC_KEY: spec.to_json()})
        onnx.save(model, folder / "x.onnx")

    return make


def colours(change: Callable[[onnx.ModelProto, Path], None]) -> Callable[[Path], None]:
    """A good model file, changed."""

    def make(folder: Path) -> None:
        path = folder / "x.onnx"
        save_colour_model(path)
        model = onnx.load(path)
        change(model, path)

    return make


def as_it_is(model: onnx.ModelProto, path: Path) -> None:
    """A good model, of which something else is asked than it or this machine can give."""


def dynamic(model: onnx.ModelProto, path: Path) -> None:
    for place, name in ((0, "batch"), (2, "height"), (3, "width")):
        model.graph.input[0].type.tensor_type.shape.dim[place].dim_param = name
    onnx.save(model, path)


def without_weights(model: onnx.ModelProto, path: Path) -> None:
    onnx.save(model, path, save_as_external_data=True, location="x.onnx.data", size_threshold=0)
    (path.parent / "x.onnx.data").unlink()


def with_another_spec(spec: str) -> Callable[[onnx.ModelProto, Path], None]:
    def change(model: onnx.ModelProto, path: Path) -> None:
        helper.set_model_props(model, {SPEC_KEY: spec})
        onnx.save(model, path)

    return change


def text(name: str, content: str = "not what it says\n") -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content)


def model_and_a_file_in_the_way(folder: Path) -> None:
    save_colour_model(folder / "x.onnx")
    (folder / "out").write_text("in the way")


def checkpoint(folder: Path) -> None:
    import torch

    from rtpsp.model.pspnet import build

    torch.save(build("pspnet18", 11).state_dict(), folder / "net.pth")
    (folder / "my.txt").write_text("road\nsky\ncar\n")


def torch_is_missing() -> str | None:
    from importlib.util import find_spec

    return None if find_spec("torch") else "PyTorch is not installed"


def table_and_model(content: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        save_colour_model(folder / "x.onnx")
        (folder / "t.table").write_text(content)

    return make


def frames_out_of_order(folder: Path) -> None:
    save_frames(folder, 2)
    (folder / "list.txt").write_text("images/01.png labels/01.png\nimages/00.png labels/00.png\n")


def three_planes_for_four(folder: Path) -> None:
    engine(FOUR)(folder)
    files.image(folder / "b.png")


def a_colour_of_no_class(folder: Path) -> None:
    save_frames(folder, 1)
    label = files.picture()
    label[:2, :5] = 3, 2, 1
    files.image(folder / "labels" / "00.png", label)


TABLE = "TRT-8501-EntropyCalibration2\nimage: 3c010204\n{}: 3c010204\n"
IMPORT = ("calib", "import", "t.table", "--model", "x.onnx")
EVAL = ("eval", ENGINE, "--data")
EXPORT = ("export", "net.pth", "--arch", "pspnet18", "--size", "48x64", "--labels")

ENGINE_AND_MODEL_CASES = [
    Case("an engine that is not there", nothing, RUN, 3, r"x\.engine: No such file.*rtpsp build-engine MODEL\.onnx"),
    Case("an engine cut short", engine(change=lambda data: data[:-100]), RUN, 3, r"cut short.*rtpsp build-engine"),
    Case("an engine cut within its header", engine(change=lambda data: data[:300]), RUN, 3, "cut short, the header"),
    Case("an engine with a flipped bit in its header", engine(change=flipped(200)), RUN, 3, "header is damaged"),
    Case("an engine with a flipped bit in its payload", engine(change=flipped(-9)), RUN, 3, "payload is damaged"),
    Case(
        "an engine of a later format", engine(change=lambda data: data[:8] + b"\x09" + data[9:]), RUN, 3,
        "engine format 9, this rtpsp reads 2: upgrade rtpsp",
    ),
    Case(
        "an engine built for a GPU", engine(PLAN), RUN, 4,
        r"built for NVIDIA H200 \(compute capability 9\.0\), and this machine has no .*build-engine colours\.onnx",
    ),
    Case(
        "an engine for a backend that is unknown", engine(replace(HEADER, backend="coreml")), RUN, 3,
        "backend 'coreml' is unknown to this rtpsp, expected one of openvino",
    ),
    Case(
        "an engine whose payload is no graph", engine(payload=b"junk" * 99), RUN, 3,
        "OpenVINO .* cannot compile this engine.*build it again",
    ),
    Case(
        "the layers of a plan without its GPU", engine(PLAN), ("inspect", "x.engine", "--layers"), 4,
        r"its layers are told by TensorRT alone, and it was built for NVIDIA H200",
    ),
    Case(
        "TensorRT where it is not installed", colours(as_it_is), (*BUILD, "--backend", "tensorrt"), 4,
        "needs the package tensorrt, which is not installed: pip install tensorrt",
    ),
    Case(
        "an option of TensorRT's for another backend", colours(as_it_is),
        (*BUILD, "--backend", "openvino", "--target", "sm89"), 2, "--target",
    ),
    Case("a text file named .engine", text("x.engine"), RUN, 3, "not an rtpsp engine"),
    Case("a model given as an engine", text("x.onnx"), (*RUN[:-1], "x.onnx"), 2, "is a model.*build-engine x.onnx"),
    Case("a model that is not there", nothing, BUILD, 3, r"x\.onnx: cannot be read \(No such file"),
    Case("a text file named .onnx", text("x.onnx"), BUILD, 3, "17 bytes that are not an ONNX model"),
    Case(
        "an ONNX that is no segmenter", graph([[1, 3, 224, 224]], [[1, 1000]]), BUILD, 3,
        r"no segmenter of images \(inputs in0 FLOAT \[1, 3, 224, 224\], outputs out0 FLOAT \[1, 1000\]\)",
    ),
    Case(
        "an ONNX that is no segmenter, with a spec", graph([[1, 3, 48, 64]], [[1, 1000]], SPEC), BUILD, 3,
        "inputs are 'in0', expected one input 'image'",
    ),
    Case("a segmenter without a spec", graph([[1, 3, 8, 8]], [[1, 3, 8, 8]]), BUILD, 3, "without a spec.*rtpsp export"),
    Case(
        "one without a spec, and labels of another count", graph([[1, 3, 8, 8]], [[1, 3, 8, 8]]),
        (*BUILD, "--labels", "camvid"), 3, "camvid names 11 classes, the model gives 3: take 8 out",
    ),
    Case(
        "one without a spec that takes any size", graph([["n", 3, "h", "w"]], [["n", 3, "h", "w"]]),
        (*BUILD, "--labels", "camvid"), 2, r"takes images of any size \(\?x\?\): say which one.*--size HxW",
    ),
    Case(
        "one without a spec that takes five planes", graph([[1, 5, 8, 8]], [[1, 5, 8, 8]]),
        (*BUILD, "--labels", "camvid"), 3, r"has 5 planes, expected one image.* of 1, 3 or 4 planes",
    ),
    Case(
        "one with a spec, of which another is said", colours(as_it_is), (*BUILD, "--bgr"), 2,
        "brings its own spec, which says all of that.*--rgb or --bgr is for models without one: leave it out",
    ),
    Case("an ONNX with dynamic shapes", colours(dynamic), BUILD, 3, r"\[batch, 3, height, width\], expected one input"),
    Case("an ONNX with two inputs", graph([[1, 3, 8, 8], [1]], [[1, 3, 8, 8]], SPEC), BUILD, 3, "'in0', 'in1', exp"),
    Case("an ONNX whose external data is missing", colours(without_weights), BUILD, 3, "x.onnx.data, which is not"),
    Case("an ONNX whose spec is no JSON", colours(with_another_spec("{")), BUILD, 3, "spec is not JSON"),
    Case(
        "a spec with fewer classes than the model",
        colours(with_another_spec(replace(SPEC, labels=TWO).to_json())),
        BUILD, 3, r"output 'logits' is FLOAT \[1, 11, 48, 64\], expected .*\[1, 2, any, any\]",
    ),
    Case("a folder named .onnx", lambda folder: (folder / "x.onnx").mkdir(), BUILD, 2, "directory"),
    Case(
        "labels of another count", checkpoint, (*EXPORT, "my.txt", "-o", "x.onnx"), 3,
        r"my\.txt names 3 classes, the model gives 11: add 8, in id order", why_not=torch_is_missing,
    ),
    Case(
        "labels that are misspelt", checkpoint, (*EXPORT, "camvit", "-o", "x.onnx"), 2, "did you mean camvid",
        why_not=torch_is_missing,
    ),
    Case(
        "labels that name a class twice",
        lambda folder: (folder / "my.txt").write_text("road\nsky\nRoad\n"), (*EXPORT, "my.txt", "-o", "x.onnx"), 3,
        "lines 1 and 3",
    ),
    Case(
        "an engine that cannot be written", model_and_a_file_in_the_way,
        ("build-engine", "x.onnx", "-o", "out/x.engine"), 7, r"out/x\.engine: cannot be written",
    ),
    Case(
        "a confidence asked of an engine without one", engine(), (*RUN, "--min-confidence", "0.5"), 2,
        "gives no confidence.*--confidence",
    ),
    Case(
        "a misspelt key in a config file", text("rtpsp.toml", '[run]\nsource = "sim://street"\nledgend = true\n'),
        ("run", "--config", "rtpsp.toml"), 2, "ledgend.*did you mean 'legend'",
    ),
    Case(
        "a misspelt table in a config file", text("rtpsp.toml", "[rum]\nlegend = true\n"),
        ("run", "--config", "rtpsp.toml"), 2, "rum.*did you mean 'run'",
    ),
    Case(
        "a value of the wrong kind in a config file", text("rtpsp.toml", '[run]\nalpha = "much"\n'),
        ("run", "--config", "rtpsp.toml"), 2, "alpha.*much",
    ),
    Case(
        "a config file that is not TOML", text("rtpsp.toml", "run: {legend: true}\n"),
        ("run", "--config", "rtpsp.toml"), 3, "rtpsp.toml.*TOML",
    ),
    Case("a config file that is not there", nothing, ("run", "--config", "none.toml"), 3, "none.toml"),
    Case("a calibration cache that is not there", nothing, ("calib", "show", "c.json"), 3, r"c\.json: cannot be read"),
    Case(
        "a calibration cache cut short", text("c.json", '{"version": 1, "ran'), ("calib", "show", "c.json"), 3,
        r"c\.json: calibration cache is not JSON .*calibrate again with 'rtpsp build-engine",
    ),
    Case(
        "a calibration cache of a later layout", text("c.json", '{"version": 9}'), ("calib", "export", "c.json"), 3,
        "has version 9, this rtpsp reads 1: upgrade rtpsp",
    ),
    Case(
        "a TensorRT table given as a cache", text("t.table", TABLE.format("logits")), ("calib", "show", "t.table"), 3,
        r"is a TensorRT calibration table.*rtpsp calib import t\.table --model",
    ),
    Case(
        "a TensorRT table of another model", table_and_model(TABLE.format("conv_9")), IMPORT, 3,
        r"of the table's 2 tensors 1 are not in colours \('conv_9'\) and 1 are",
    ),
    Case(
        "a TensorRT table with a tensor twice", table_and_model(TABLE.format("image")), IMPORT, 3,
        "line 3 of the table: tensor 'image' stands there twice",
    ),
    Case(
        "two engines of different classes", engine(replace(HEADER, spec=replace(SPEC, labels=TWO))),
        ("compare", ENGINE, "x.engine"), 3,
        r"has the 11 classes of 'camvid', B \(x\.engine\) the 2 of 'two', and class 0 is 'Sky' in one, 'road' in",
    ),
    Case("a model given as one of two engines", text("x.onnx"), ("compare", ENGINE, "x.onnx"), 2, "is a model.*build-"),
    Case("the same engine twice", nothing, (*COMPARE, "--frames", "2", "--worst", "worst"), 0),
    Case("labelled data and a source at once", nothing, (*COMPARE, "--data", "d"), 2, "expected one of them"),
    Case(
        "pictures where a file is in the way", text("out"), (*COMPARE, "--worst", "out/worst"), 7,
        r"worst-1\.png: cannot be written .*--worst",
    ),
    Case(
        "a confusion matrix that is to be no picture", nothing,
        ("eval", ENGINE, "--data", "sim://street?frames=1", "--confusion", "matrix.txt"), 2, r"ends in \.png",
    ),
    Case(
        "a plot over time of no video", nothing, (*EVAL, "sim://street?frames=1", "--plot", "plot.png"), 2,
        "--plot is about the frames of a video: add --video",
    ),
    Case(
        "frames of a video that are out of order", frames_out_of_order, (*EVAL, "list.txt", "--video"), 3,
        r"images/00\.png comes after images/01\.png, expected frames in the order of time",
    ),
    Case(
        "labels in a colour that no class has", a_colour_of_no_class, (*EVAL, "."), 3,
        r"labels/00\.png has colours #010203 \(10 pixels\), which label set 'camvid' has for no class",
    ),
    Case(
        "scores to smooth of an engine that gives none", nothing, (*RUN[:-1], ENGINE, "--smooth"), 2,
        "engine of colours gives class maps .*, --smooth needs its scores: build it with 'rtpsp build-engine .*host'",
    ),
    Case(
        "scores to smooth that are to stay on the GPU", nothing, (*RUN, "--smooth", "--device-io", "on"), 2,
        "--smooth needs them: leave it or --device-io on out",
    ),
    Case(
        "an image without the fourth plane that a model takes", three_planes_for_four,
        ("run", "--source", "b.png", "--engine", "x.engine"), 3, r"b\.png is an image of 3 plane\(s\) without a fourth",
    ),
    Case(
        "a video for a model that takes a fourth plane", engine(FOUR), RUN, 3,
        "is the simulator without a fourth plane, and the model takes one beside B, G and R: give a folder of images",
    ),
]  # fmt: skip
