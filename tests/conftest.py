"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import os
import signal
from functools import cache
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import settings

from rtpsp.labels import CAMVID
from rtpsp.onnx_file import save_model
from rtpsp.spec import SPEC_KEY, Fit, ModelSpec

# No deadline: machines are shared. On the build server a run is the same each time; elsewhere it looks for new cases.
settings.register_profile("rtpsp", deadline=None, max_examples=50, derandomize=bool(os.environ.get("CI")))
settings.load_profile("rtpsp")

# Behind a shell's "&" Ctrl-C is ignored, which processes hand down: those that the tests start would not hear it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # and so is this one under nohup
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

LONGEST = (
    "test_readme.py", "test_build_tensorrt.py", "test_gpu_check.py", "graph/test_tensorrt_rtx.py", "test_build.py",
    "model/test_export.py", "awkward/test_awkward.py", "cli/test_train.py", "test_on_the_double.py",
)  # fmt: skip
"""Files in ``tests/`` that take longest, and go first: with `--dist loadfile` one process has a last long one alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


COLOUR_HEIGHT, COLOUR_WIDTH = 48, 64


def save_colour_model(path: Path, fit: Fit = "stretch", size: tuple[int, int] = (COLOUR_HEIGHT, COLOUR_WIDTH)) -> None:
    """A model file that names a pixel by the palette colour it is nearest to: its answer can be predicted exactly.

    The squared distance to colour c is |x|² - 2 c·x + |c|², so a 1x1 convolution scores it: 2 c·x - |c|². A little is
    added for each class, since whole numbers lie exactly between two colours all too often, and then rounding decides.
    """
    spec = ModelSpec("colours", "test", *size, CAMVID, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), fit=fit)
    palette = np.array(CAMVID.palette, np.float32) / 255
    weights = ir.Value(name="w", const_value=ir.tensor(2 * palette.reshape(-1, 3, 1, 1), name="w"))
    offsets = 0.0003 * np.arange(0.37, len(CAMVID), dtype=np.float32)
    bias = ir.Value(name="b", const_value=ir.tensor(offsets - (palette**2).sum(axis=1), name="b"))
    image = ir.Value(name="image", shape=ir.Shape((1, 3, *size)), type=ir.TensorType(ir.DataType.FLOAT))
    conv = ir.node("Conv", [image, weights, bias])
    logits = conv.outputs[0]
    logits.name, logits.dtype, logits.shape = "logits", ir.DataType.FLOAT, ir.Shape((1, len(CAMVID), *size))
    graph = ir.Graph(
        [image], [logits], nodes=[conv], initializers=[weights, bias], opset_imports={"": 19}, name="colours"
    )
    model = ir.Model(graph, ir_version=9)
    model.metadata_props[SPEC_KEY] = spec.to_json()
    save_model(model, spec, path)


@cache
def small_pspnet() -> bytes:
    """A model file of 48x64: a whole PSPNet-18, of one residual block a layer and an eighth of the width, untrained."""
    import dataclasses

    from rtpsp.model.export import to_onnx
    from rtpsp.model.pspnet import ARCHS, build
    from rtpsp.model.synthetic import randomise_statistics
    from rtpsp.onnx_file import model_bytes

    network = build(dataclasses.replace(ARCHS["pspnet18"].narrowed(8), blocks=(1, 1, 1, 1)), len(CAMVID))
    randomise_statistics(network)
    spec = ModelSpec("small", "pspnet18", COLOUR_HEIGHT, COLOUR_WIDTH, CAMVID)
    model = to_onnx(network, spec)
    model.metadata_props[SPEC_KEY] = spec.to_json()
    return model_bytes(model)


def save_frames(folder: Path, count: int, size: tuple[int, int] = (COLOUR_HEIGHT, COLOUR_WIDTH)) -> None:
    """PNG files of smooth noise that differ, ``images/00.png`` and so on, with labels of two classes in ``labels/``."""
    import cv2

    random = np.random.default_rng(3)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    truth = np.full(size, 3, np.uint8)
    truth[:, size[1] // 2 :] = 8
    for number in range(count):
        coarse = random.integers(0, 256, (6, 8, 3), np.uint8)
        image = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / "images" / f"{number:02d}.png"), image)
        cv2.imwrite(str(folder / "labels" / f"{number:02d}.png"), truth)


@pytest.fixture(scope="session")
def pspnet_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of `small_pspnet`."""
    path = tmp_path_factory.mktemp("small") / "small.onnx"
    path.write_bytes(small_pspnet())
    return path


@pytest.fixture(scope="session")
def colour_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file of 48x64 that segments by colour."""
    path = tmp_path_factory.mktemp("model") / "colours.onnx"
    save_colour_model(path)
    return path


@pytest.fixture(scope="session")
def colour_engine(colour_model: Path) -> Path:
    """Its OpenVINO engine in FP32."""
    from rtpsp.build import BuildOptions, build_engine

    return build_engine(colour_model, colour_model.with_suffix(".engine"), BuildOptions("fp32")).path
