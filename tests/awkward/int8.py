"""Awkward calibration frames, ranges and bounds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx_ir as ir

from rtpsp.calibration_cache import CalibrationCache, TensorRange, to_fit, write_cache
from rtpsp.graph.quantize import quantise
from rtpsp.graph.ranges import canonical, graph_digest, tensors_of
from rtpsp.onnx_file import load_model, save_model
from rtpsp.spec import ModelSpec
from tests.awkward.case import Case, Ran
from tests.awkward.models import TABLE, colours, dynamic, torch_is_missing
from tests.conftest import save_colour_model, save_frames, small_pspnet

BUILD = ("build-engine", "x.onnx", "-o", "x.engine", "--threads", "1", "--head", "plain")
CALIB = (*BUILD, "--int8", "--calib")
CACHE = (*BUILD, "--int8", "--calib-cache", "c.json")
LOOSE = ("--min-agreement", "50")
ENOUGH = 100  # fewer frames bring a warning of their own


def case(
    name: str,
    make: Callable[[Path], object],
    arguments: tuple[str, ...],
    code: int,
    line: str | None = None,
    check: Callable[[Ran], None] | None = None,
) -> Case:
    """One with the small PSPNet, which has something to quantise, as ``x.onnx``."""

    def made(folder: Path) -> None:
        (folder / "x.onnx").write_bytes(small_pspnet())
        make(folder)

    return Case(name, made, arguments, code, line, check, why_not=torch_is_missing)


def frames(count: int = ENOUGH, broken: int = 0, other: tuple[int, int] | None = None) -> Callable[[Path], None]:
    """Labelled frames in ``data``; some of the first cannot be read, or half of them have another size."""

    def make(folder: Path) -> None:
        save_frames(folder / "data", count)
        paths = sorted((folder / "data" / "images").iterdir())
        for path in paths[:broken]:
            path.write_bytes(path.read_bytes()[:50])
        for path in paths[::2] if other else ():
            image = cv2.imread(str(path))
            assert image is not None and other is not None
            cv2.imwrite(str(path), cv2.resize(image, other[::-1]))

    return make


def empty(folder: Path) -> None:
    (folder / "data" / "images").mkdir(parents=True)


def cache(change: Callable[[ir.Model, ModelSpec], tuple[ir.Model, ModelSpec]]) -> Callable[[Path], None]:
    """Ranges ``c.json`` of the model as it was before it changed."""

    def make(folder: Path) -> None:
        model, spec = load_model(folder / "x.onnx")
        ranges = {name: TensorRange(-4, 4, 4) for name in tensors_of(canonical(model))}
        found = CalibrationCache("small", graph_digest(model), "ab" * 32, 300, "mse", to_fit(spec), ranges)
        write_cache(folder / "c.json", found)
        save_model(*change(model, spec), folder / "x.onnx")

    return make


def trained_on(model: ir.Model, spec: ModelSpec) -> tuple[ir.Model, ModelSpec]:
    weight = model.graph.initializers["head.classifier.bias"]
    assert weight.const_value is not None
    weight.const_value = ir.tensor(weight.const_value.numpy() + np.float32(0.1), name=weight.name)
    return model, spec


def with_letterbox(model: ir.Model, spec: ModelSpec) -> tuple[ir.Model, ModelSpec]:
    from dataclasses import replace

    return model, replace(spec, fit="letterbox")


def quantised_already(folder: Path) -> None:
    model, spec = load_model(folder / "x.onnx")
    model = canonical(model)
    save_model(quantise(model, {name: TensorRange(-4, 4, 4) for name in tensors_of(model)}), spec, folder / "x.onnx")
    frames(2)(folder)


def file(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content)


def nothing_written(ran: Ran) -> None:
    assert not list(ran.folder.glob("*.engine"))


def int8_engine(ran: Ran) -> None:
    from rtpsp.engine.file import read_engine_file

    told = read_engine_file(ran.folder / "x.engine").header.options["int8"]
    assert told["images"] >= 72 and told["cost"]["agreement"] > 0.5 and "pyramid/0" in ran.out


def kept_below_bound(ran: Ran) -> None:
    assert [path.name for path in ran.folder.glob("*.engine")] == ["x-below-bound.engine"]


INT8_CASES = [
    case(
        "calibration from a folder without images", empty, (*CALIB, "data/images"), 3, "no images in data/images",
        nothing_written,
    ),
    case(
        "calibration from a folder that is not there", file("dta", ""), (*CALIB, "data"), 3,
        "no folder, file or camera is called 'data': did you mean dta",
    ),
    case(
        "calibration images of which a few are damaged", frames(ENOUGH + 6, 6), (*CALIB, "data/images", *LOOSE), 0,
        r"6 of 106 images cannot be read and are left out of the calibration set: 00\.png, 01\.png, ", int8_engine,
    ),
    case(
        "calibration images of which many are damaged", frames(20, broken=3), (*CALIB, "data/images"), 3,
        r"3 of 20 images cannot be read, expected 10% at most: 00\.png, 01\.png, 02\.png; the first: ",
        nothing_written,
    ),
    case(
        "calibration images of two sizes", frames(other=(90, 41)), (*CALIB, "data/images", *LOOSE), 0, None, int8_engine
    ),
    case(
        "calibration from a camera that is not there", frames(0), (*CALIB, "/dev/video77"), 4, "no camera /dev/video77"
    ),
    case(
        "calibration frames for an FP32 engine", frames(2), (*BUILD, "--fp32", "--calib", "data"), 2,
        "--calib is for INT8, and --fp32 was asked for: leave one out",
    ),
    case(
        "calibration frames and ranges at once", frames(2), (*CALIB, "data", "--calib-cache", "c.json"), 2,
        "leave --calib or --calib-cache out",
    ),
    case("INT8 of a model without ranges", frames(0), (*BUILD, "--int8"), 2, "no ranges come with it: give images or"),
    case(
        "INT8 of a model that is quantised already", quantised_already, (*CALIB, "data"), 3,
        r"quantised already \(\d+ Q/DQ nodes, .* first\): give the FP32 model that it was made from", nothing_written,
    ),
    Case(
        "INT8 of an ONNX with dynamic shapes", colours(dynamic), (*CALIB, "data"), 3,
        r"\[batch, 3, height, width\], expected one input",
    ),
    Case(
        "INT8 of a model of a single convolution", lambda folder: save_colour_model(folder / "x.onnx"), CACHE, 3,
        "INT8 has nothing to do in colours: its only convolutions are those that give the scores",
    ),
    case(
        "ranges of a network that was trained on", cache(trained_on), CACHE, 3,
        r"c\.json: calibration cache of small does not hold here: its network is \w{8}\.\.\., expected .*: calibrate",
        nothing_written,
    ),
    case(
        "ranges of frames that were stretched", cache(with_letterbox), CACHE, 3,
        "does not hold here: its fit is stretch/area 48x64, expected letterbox/area 48x64: calibrate again",
    ),
    case("ranges that are not there", frames(0), CACHE, 3, r"c\.json: cannot be read \(No such file"),
    case("ranges in a text file", file("c.json", "not JSON\n"), CACHE, 3, r"c\.json: calibration cache is not JSON"),
    case("ranges in a TensorRT table", file("c.json", TABLE.format("x")), CACHE, 3, "a TensorRT .*rtpsp calib import"),
    case(
        "a share of pixels that is not in percent", frames(2), (*CALIB, "data", "--min-agreement", "0.99"), 2,
        "0.99 would be 0.99 %, expected a share in percent, such as 99",
    ),
    case(
        "a bound of accuracy without labels", frames(), (*CALIB, "data/images", "--max-miou-drop", "0.5"), 2,
        "data/images has no labels to measure it with: give --calib a labelled folder",
    ),
    case(
        "a bound of accuracy that was never measured", cache(lambda model, spec: (model, spec)), (*CACHE, *LOOSE), 2,
        "50.00% or more is asked for, and the ranges come with no measured accuracy: give frames",
    ),
    case(
        "a bound of accuracy that cannot hold", frames(), (*CALIB, "data/images", "--min-agreement", "100"), 6,
        r"whichever parts stay in floating point: expected .* 100\.00% or more, got .* as x-below-bound\.engine: ask",
        kept_below_bound,
    ),
]  # fmt: skip
