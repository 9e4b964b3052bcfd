"""Models that rtpsp did not export: each answers as its own file does, which ONNX Runtime runs as it is."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto

from rtpsp.errors import ModelError, RtpspError, UsageError
from rtpsp.foreign import Adapted, Given, adapt
from rtpsp.graph.lower import lower
from rtpsp.graph.verify import run, sample_frames
from rtpsp.labels import LabelSet, distinct_palette
from rtpsp.onnx_file import check_model, load_model, save_model
from rtpsp.runtimes import import_onnxruntime
from rtpsp.spec import IMAGENET_MEAN, IMAGENET_STD
from rtpsp.upsampling import Grid, reference_class_map, upsample
from tests.foreign_models import SIZE, End, as_it_is, cast, chain, node, resized, save

HALF = (SIZE[0] // 2, SIZE[1] // 2)
INT64, FLOAT, UINT8 = TensorProto.INT64, TensorProto.FLOAT, TensorProto.UINT8


def labels(count: int) -> LabelSet:
    return LabelSet("set", tuple(f"class{index}" for index in range(count)), distinct_palette(count))


def ask(path: Path, image: npt.NDArray[Any], output: str = "y") -> npt.NDArray[Any]:
    """What the file itself answers."""
    options = import_onnxruntime().SessionOptions()
    options.log_severity_level = 3
    session: Any = import_onnxruntime().InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    answer: npt.NDArray[Any] = np.asarray(session.run([output], {session.get_inputs()[0].name: image})[0])
    return answer


def frame_of(adapted: Adapted) -> npt.NDArray[np.uint8]:
    return sample_frames(adapted.spec, count=1)


def imagenet(frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """RGB, normalised, NCHW: what nearly every PSPNet takes."""
    normal = (frames[..., ::-1] / 255 - IMAGENET_MEAN) / IMAGENET_STD
    return np.ascontiguousarray(normal.transpose(0, 3, 1, 2), np.float32)


def class_map_of(adapted: Adapted, frames: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    """Of the lowered graph, each step of which is compared with the one before."""
    check_model(adapted.graph, adapted.spec)
    answer: npt.NDArray[Any] = run(lower(adapted.graph, adapted.spec), adapted.spec, frames).class_map[0]
    return answer


def argmax(axis: int = 1, keepdims: int = 0) -> End:
    return node("ArgMax", axis=axis, keepdims=keepdims)


NEAREST_IDS = chain(
    argmax(keepdims=1), cast(FLOAT),
    node("Resize", ([], np.float32), ([1, 1, 2, 2], np.float32), mode="nearest", nearest_mode="floor",
         coordinate_transformation_mode="asymmetric"),
    cast(INT64), node("Squeeze", ([1], np.int64)),
)  # fmt: skip
LESS = node("Mul", (0.1, np.float32))
"""Brings the scores to where float32's sigmoid is not 1 yet."""
LAST = node("Transpose", perm=[0, 2, 3, 1])

MAPS: dict[str, tuple[End, tuple[int, ...], int]] = {
    "int64 ids": (chain(resized(), argmax()), (1, *SIZE), INT64),
    "with the axis": (chain(resized(), argmax(keepdims=1)), (1, 1, *SIZE), INT64),
    "int32 ids": (chain(resized(), argmax(), cast(TensorProto.INT32)), (1, *SIZE), TensorProto.INT32),
    "bytes": (chain(resized(), argmax(axis=-3), cast(TensorProto.INT32), cast(UINT8)), (1, *SIZE), UINT8),
    "ids as floats": (chain(resized(), argmax(), cast(FLOAT)), (1, *SIZE), FLOAT),
    "without the batch": (chain(resized(), argmax(), node("Squeeze", ([0], np.int64))), SIZE, INT64),
    "probabilities first": (chain(resized(), node("Softmax", axis=1), argmax()), (1, *SIZE), INT64),
    "upsampled probabilities": (chain(node("Softmax", axis=1), resized(), argmax()), (1, *SIZE), INT64),
    "nearest ids": (NEAREST_IDS, (1, *SIZE), INT64),
    "nearest scores": (chain(resized("nearest", "asymmetric"), argmax()), (1, *SIZE), INT64),
    "aligned corners": (chain(resized(coordinates="align_corners"), argmax()), (1, *SIZE), INT64),
    "classes last": (chain(resized(), LAST, argmax(axis=3)), (1, *SIZE), INT64),
    "the best of one": (
        chain(resized(), node("TopK", ([1], np.int64), axis=1), node("Squeeze", ([1], np.int64))), (1, *SIZE), INT64,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MAPS)
def test_class_ids_are_the_originals(tmp_path: Path, name: str) -> None:
    end, shape, result = MAPS[name]
    adapted = adapt(save(tmp_path / "x.onnx", end, shape, result=result), Given(labels(5)))
    frames = frame_of(adapted)
    expected = ask(adapted.path, imagenet(frames)).reshape(SIZE)
    np.testing.assert_array_equal(class_map_of(adapted, frames), expected)
    assert len(np.unique(expected)) > 2 and "class ids of 5 classes at that size" in adapted.told


SCORES: dict[str, tuple[End, tuple[int, ...]]] = {
    "scores": (resized(), (1, 5, *SIZE)),
    "probabilities": (chain(resized(), node("Softmax", axis=1)), (1, 5, *SIZE)),
    "upsampled probabilities": (chain(node("Softmax", axis=1), resized()), (1, 5, *SIZE)),
    "logarithms": (chain(resized(), node("LogSoftmax", axis=1)), (1, 5, *SIZE)),
    "sigmoids": (chain(LESS, resized(), node("Sigmoid")), (1, 5, *SIZE)),
    "upsampled sigmoids": (chain(LESS, node("Sigmoid"), resized()), (1, 5, *SIZE)),
    "classes last": (chain(resized(), LAST), (1, *SIZE, 5)),
    "probabilities of classes last": (chain(resized(), LAST, node("Softmax", axis=-1)), (1, *SIZE, 5)),
    "without the batch": (chain(resized(), node("Squeeze", ([0], np.int64))), (5, *SIZE)),
}


@pytest.mark.parametrize("name", SCORES)
def test_scores_and_probabilities_of_the_full_size(tmp_path: Path, name: str) -> None:
    end, shape = SCORES[name]
    adapted = adapt(save(tmp_path / "x.onnx", end, shape), Given(labels(5)))
    frames = frame_of(adapted)
    answer = ask(adapted.path, imagenet(frames)).reshape(shape)
    axis = 2 if shape[-1] == 5 else 0
    expected = answer[0] if len(shape) == 4 else answer
    np.testing.assert_array_equal(class_map_of(adapted, frames), expected.argmax(axis=axis))
    if "probabilities" in name:
        logits = run(adapted.graph, adapted.spec, frames).logits
        assert logits is not None
        powers = np.exp(logits[0] - logits[0].max(axis=0))
        np.testing.assert_allclose(powers / powers.sum(axis=0), np.moveaxis(expected, axis, 0), atol=1e-5)


@pytest.mark.parametrize("end", [as_it_is, node("Softmax", axis=1)], ids=["scores", "probabilities"])
def test_scores_of_half_the_size_are_upsampled_bilinearly(tmp_path: Path, end: End) -> None:
    adapted = adapt(save(tmp_path / "x.onnx", end, (1, 5, *HALF)), Given(labels(5)))
    frames = frame_of(adapted)
    scores = ask(save(tmp_path / "scores.onnx", as_it_is, (1, 5, *HALF)), imagenet(frames))
    np.testing.assert_array_equal(class_map_of(adapted, frames), reference_class_map(scores[0], Grid.whole(HALF, SIZE)))
    assert "of 12x16 cells, which are upsampled bilinearly" in adapted.told


SINGLE: dict[str, tuple[End, tuple[int, ...], int, float]] = {
    "a score": (resized(channels=1), (1, 1, *SIZE), FLOAT, 0.0),
    "a score of half the size": (as_it_is, (1, 1, *HALF), FLOAT, 0.0),
    "without its axis": (chain(resized(channels=1), node("Squeeze", ([1], np.int64))), (1, *SIZE), FLOAT, 0.0),
    "a sigmoid": (chain(resized(channels=1), node("Sigmoid")), (1, 1, *SIZE), FLOAT, 0.5),
    "an upsampled sigmoid": (chain(node("Sigmoid"), resized(channels=1)), (1, 1, *SIZE), FLOAT, 0.5),
    "a threshold": (
        chain(resized(channels=1), node("Sigmoid"), node("Greater", (0.3, np.float32)), cast(UINT8)), (1, 1, *SIZE),
        UINT8, 0.5,
    ),
    "a threshold of a score": (
        chain(resized(channels=1), node("Greater", (0.7, np.float32)), cast(INT64)), (1, 1, *SIZE), INT64, 0.5,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SINGLE)
def test_one_score_tells_two_classes_apart(tmp_path: Path, name: str) -> None:
    end, shape, result, bound = SINGLE[name]
    adapted = adapt(save(tmp_path / "x.onnx", end, shape, result=result, classes=1), Given(labels(2)))
    frames = frame_of(adapted)
    answer = ask(adapted.path, imagenet(frames)).reshape(shape[-2:])
    if answer.shape != SIZE:
        answer = upsample(answer[None], Grid.whole(HALF, SIZE))[0]
    np.testing.assert_array_equal(class_map_of(adapted, frames), answer > bound)
    assert 0.05 < np.mean(answer > bound) < 0.95
    with pytest.raises(ModelError, match="names 3 classes, the model gives 2"):
        adapt(adapted.path, Given(labels(3)))


def normalised(mean: float | list[float], std: float | list[float]) -> End:
    column = [np.reshape(np.atleast_1d(values), (1, -1, 1, 1)) for values in (mean, std)]
    return chain(node("Sub", (column[0], np.float32)), node("Div", (column[1], np.float32)))


BYTES_LAST = chain(cast(FLOAT), node("Transpose", perm=[0, 3, 1, 2]))
MEAN_255, STD_255 = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
SWAP = node("Gather", ([2, 1, 0], np.int64), axis=1)
SWAP_LAST = node("Slice", ([-1], np.int64), ([-4], np.int64), ([3], np.int64), ([-1], np.int64))
AT = {"nhwc": (1, *SIZE, 3), "nchw": (1, 3, *SIZE)}
INPUTS: dict[str, tuple[End, str, int, float, str]] = {
    "bytes, normalised": (chain(BYTES_LAST, normalised(MEAN_255, STD_255)), "nhwc", UINT8, 1, "rgb"),
    "bytes of planes": (chain(cast(FLOAT), normalised(MEAN_255, STD_255)), "nchw", UINT8, 1, "rgb"),
    "bytes by halves": (
        chain(BYTES_LAST, node("Div", (127.5, np.float32)), node("Sub", (1.0, np.float32))), "nhwc", UINT8, 1, "rgb",
    ),
    "bytes as they are": (BYTES_LAST, "nhwc", UINT8, 0.01, "rgb"),
    "bytes, swapped": (
        chain(BYTES_LAST, SWAP, normalised(MEAN_255[::-1], STD_255[::-1])), "nhwc", UINT8, 1, "bgr",
    ),
    "bytes, swapped while last": (
        chain(SWAP_LAST, BYTES_LAST, normalised(MEAN_255[::-1], STD_255[::-1])), "nhwc", UINT8, 1, "bgr",
    ),
    "floats of 0..255": (normalised(MEAN_255, STD_255), "nchw", FLOAT, 1, "rgb"),
    "floats of 0..1": (normalised(list(IMAGENET_MEAN), list(IMAGENET_STD)), "nchw", FLOAT, 1, "rgb"),
    "floats of 0..1 by halves": (
        chain(node("Mul", (2.0, np.float32)), node("Sub", (1.0, np.float32))), "nchw", FLOAT, 1, "rgb",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", INPUTS)
def test_preprocessing_inside_the_graph_goes_into_the_spec(tmp_path: Path, name: str) -> None:
    before, layout, dtype, scale, order = INPUTS[name]
    path = save(
        tmp_path / "x.onnx", chain(resized(), argmax()), (1, *SIZE), image=AT[layout], before=before, dtype=dtype,
        result=INT64, scale=scale,
    )  # fmt: skip
    adapted = adapt(path, Given(labels(5)))
    frames = frame_of(adapted)
    image = frames[..., ::-1] / (1 if dtype == UINT8 or "255" in name else 255)
    image = image if layout == "nhwc" else image.transpose(0, 3, 1, 2)
    expected = ask(path, np.ascontiguousarray(image, np.uint8 if dtype == UINT8 else np.float32))[0]
    assert len(np.unique(expected)) > 2
    np.testing.assert_array_equal(class_map_of(adapted, frames), expected)
    assert adapted.spec.channels == order and adapted.graph.graph[0].op_type == "Conv"
    if "swap" in name:
        assert adapted.spec.mean == pytest.approx(IMAGENET_MEAN[::-1])
    elif "halves" in name:
        assert adapted.spec.mean == adapted.spec.std == (0.5,) * 3
    elif name != "bytes as they are":
        assert adapted.spec.mean == pytest.approx(IMAGENET_MEAN) and adapted.spec.std == pytest.approx(IMAGENET_STD)
    with pytest.raises(UsageError, match="normalises inside its graph, and --mean would do it again"):
        adapt(path, Given(labels(5), mean=(0.5,) * 3, std=(0.5,) * 3))


def test_floats_with_the_planes_last_are_turned(tmp_path: Path) -> None:
    path = save(
        tmp_path / "x.onnx", chain(resized(), LAST), (1, *SIZE, 5), image=AT["nhwc"],
        before=node("Transpose", perm=[0, 3, 1, 2]),
    )  # fmt: skip
    adapted = adapt(path, Given(labels(5)))
    frames = frame_of(adapted)
    expected = ask(path, np.ascontiguousarray(imagenet(frames).transpose(0, 2, 3, 1)))[0].argmax(axis=2)
    np.testing.assert_array_equal(class_map_of(adapted, frames), expected)
    assert adapted.graph.graph[0].op_type == "Conv"


def test_what_is_no_factor_a_plane_stays_in_the_graph(tmp_path: Path) -> None:
    """A colour transform, and a turn that a sum over the planes precedes."""
    mixed = np.random.default_rng(1).normal(size=(3, 3, 1, 1))
    before = chain(BYTES_LAST, node("Div", (255.0, np.float32)), node("Conv", (mixed, np.float32)))
    path = save(tmp_path / "x.onnx", resized(), (1, 5, *SIZE), image=AT["nhwc"], before=before, dtype=UINT8)
    adapted = adapt(path, Given(labels(5)))
    frames = frame_of(adapted)
    expected = ask(path, np.ascontiguousarray(frames[..., ::-1]))[0].argmax(axis=0)
    np.testing.assert_array_equal(class_map_of(adapted, frames), expected)
    assert (*adapted.spec.mean, *adapted.spec.std) == (0, 0, 0, 1, 1, 1), "a division by 255 gives 0..1"
    noise = node("Add", (np.random.default_rng(1).normal(size=(1, *SIZE, 3)), np.float32))
    save(path, resized(), (1, 5, *SIZE), image=AT["nhwc"], before=chain(noise, node("Transpose", perm=[0, 3, 1, 2])))
    adapted = adapt(path, Given(labels(5)))
    expected = ask(path, np.ascontiguousarray(imagenet(frames).transpose(0, 2, 3, 1)))[0].argmax(axis=0)
    np.testing.assert_array_equal(class_map_of(adapted, frames), expected)


@pytest.mark.parametrize(
    ("given", "order", "mean"),
    [
        (Given(mean=tuple(MEAN_255), std=tuple(STD_255)), "rgb", IMAGENET_MEAN),
        (Given(mean=tuple(MEAN_255[::-1]), std=(1.0, 1.0, 1.0)), "bgr", IMAGENET_MEAN[::-1]),
        (Given(mean=(104.0, 117.0, 123.0), std=(1.0, 1.0, 1.0), order="rgb"), "rgb", (104 / 255, 117 / 255, 123 / 255)),
        (Given(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), order="bgr"), "bgr", (0.5, 0.5, 0.5)),
        (Given(mean=(0, 0, 0), std=(255, 255, 255)), "rgb", (0, 0, 0)),
        (Given(order="bgr"), "bgr", IMAGENET_MEAN[::-1]),
        (Given(), "rgb", IMAGENET_MEAN),
    ],
)
def test_normalisation_as_it_is_said(tmp_path: Path, given: Given, order: str, mean: tuple[float, ...]) -> None:
    path = save(tmp_path / "x.onnx", chain(resized(), argmax()), (1, *SIZE), result=INT64, scale=0.1)
    adapted = adapt(path, replace(given, labels=labels(5)))
    frames = frame_of(adapted)
    image = (frames if order == "bgr" else frames[..., ::-1]) / 255
    if given.mean and given.std:
        unit = 255 if max(*given.mean, *given.std) > 2 else 1
        image = (image * unit - given.mean) / given.std
    else:
        image = (image - mean) / (IMAGENET_STD if order == "rgb" else IMAGENET_STD[::-1])
    expected = ask(path, np.ascontiguousarray(image.transpose(0, 3, 1, 2), np.float32))[0]
    np.testing.assert_array_equal(class_map_of(adapted, frames), expected)
    assert adapted.spec.channels == order and adapted.spec.mean == pytest.approx(mean)
    assumed = [word for word in ("RGB order", "ImageNet's mean") if word in adapted.told.partition("assumed: ")[2]]
    order_is_told = given.order or (given.mean and given.mean[0] > 0)
    assert assumed == ([] if order_is_told else ["RGB order"]) + ([] if given.mean else ["ImageNet's mean"])


@pytest.mark.parametrize(("planes", "channels"), [(1, "grey"), (4, "rgbx")])
def test_one_plane_and_four(tmp_path: Path, planes: int, channels: str) -> None:
    path = save(tmp_path / "x.onnx", resized(), (1, 5, *SIZE), image=(1, planes, *SIZE), planes=planes)
    with pytest.raises(UsageError, match=f"give --mean and --std with {planes} value"):
        adapt(path, Given(labels(5)))
    adapted = adapt(path, Given(labels(5), mean=(0.4,) * planes, std=(0.2,) * planes))
    assert adapted.spec.channels == channels and adapted.spec.planes == planes
    frames = frame_of(adapted)
    image = (frames[..., [2, 1, 0, 3][:planes] if planes == 4 else [0]] / 255 - 0.4) / 0.2
    expected = ask(path, np.ascontiguousarray(image.transpose(0, 3, 1, 2), np.float32))[0].argmax(axis=0)
    np.testing.assert_array_equal(class_map_of(adapted, frames), expected)


def test_fp16_becomes_fp32(tmp_path: Path) -> None:
    path = save(
        tmp_path / "x.onnx", resized(), (1, 5, *SIZE), dtype=TensorProto.FLOAT16, result=TensorProto.FLOAT16, half=True
    )
    adapted = adapt(path, Given(labels(5)))
    frames = frame_of(adapted)
    expected = ask(path, imagenet(frames).astype(np.float16))[0].argmax(axis=0)
    assert np.mean(class_map_of(adapted, frames) == expected) > 0.97
    assert "taken over in FP32, of an FP16 original" in adapted.told.lower().replace("fp", "FP")


def test_open_sizes_are_fixed_by_the_option(tmp_path: Path) -> None:
    """The upsampling's target follows from the input's, by a dozen nodes."""

    def end(writer: Any, scores: str) -> str:
        size = writer.add("Slice", writer.add("Shape", "x"), writer.keep([2], np.int64), writer.keep([4], np.int64))
        start = writer.add("Slice", writer.add("Shape", scores), writer.keep([0], np.int64), writer.keep([2], np.int64))
        sizes = writer.add("Concat", start, size, axis=0)
        return str(writer.add("Resize", scores, "", "", sizes, mode="linear"))  # of opset 13

    path = save(
        tmp_path / "x.onnx", chain(end, argmax()), ("n", "h", "w"), image=("n", 3, "h", "w"), result=INT64, opset=13
    )
    with pytest.raises(UsageError, match=r"takes images of any size \(\?x\?\).*--size HxW"):
        adapt(path, Given(labels(5)))
    for size in (SIZE, (17, 41)):
        adapted = adapt(path, Given(labels(5), size=size))
        assert adapted.spec.size == size
        assert [one.op_type for one in adapted.graph.graph] == ["Conv", "Relu", "Conv", "Resize"]
        frames = frame_of(adapted)
        np.testing.assert_array_equal(class_map_of(adapted, frames), ask(path, imagenet(frames))[0])


def test_an_auxiliary_output_is_left_out(tmp_path: Path) -> None:
    more = {"aux": (chain(node("Neg"), resized()), (1, 5, *SIZE)), "features": (node("Neg"), (1, 5, *HALF))}
    path = save(tmp_path / "x.onnx", resized(), (1, 5, *SIZE), more={"aux": more["aux"]})
    assert "; 'aux' is left out" in adapt(path, Given(labels(5))).told
    assert "gives 'aux'" in adapt(path, Given(labels(5), output="aux")).told
    save(path, resized(), (1, 5, *SIZE), more={"z": more["aux"]})
    with pytest.raises(UsageError, match=r"outputs 'y' \(scores, 5 classes\), 'z' \(.*name one with --output-tensor"):
        adapt(path, Given(labels(5)))
    with pytest.raises(UsageError, match="there is no output 'w': the model has 'y', 'z'"):
        adapt(path, Given(labels(5), output="w"))
    ids = chain(resized(), argmax())
    save(path, chain(ids, cast(FLOAT)), (1, *SIZE), more={"twin": (chain(ids, cast(FLOAT)), (1, *SIZE))})
    with pytest.raises(UsageError, match="name one"):
        adapt(path, Given(labels(5)))


def test_the_kept_model_is_a_model_of_ours(tmp_path: Path) -> None:
    path = save(tmp_path / "x.onnx", chain(resized(), argmax()), (1, *SIZE), result=INT64)
    given = Given(labels(5), fit="letterbox", resize="bilinear", name="mine", licence="MIT")
    adapted = adapt(path, given)
    save_model(adapted.graph, adapted.spec, tmp_path / "kept.onnx")
    graph, spec = load_model(tmp_path / "kept.onnx")
    assert spec == adapted.spec and (spec.fit, spec.resize, spec.name, spec.licence) == (
        "letterbox",
        "bilinear",
        "mine",
        "MIT",
    )
    onnx.checker.check_model(onnx.load(tmp_path / "kept.onnx"), full_check=True)
    assert graph.graph.outputs[0].name == "logits"
    with pytest.raises(
        UsageError, match=r"kept\.onnx brings its own spec.*--labels, --fit, --resize, --name, --licence"
    ):
        adapt(tmp_path / "kept.onnx", given)


SAID = Given(labels(5))
PLAIN: dict[str, Any] = {"end": resized(), "output": (1, 5, *SIZE)}


@pytest.mark.parametrize(
    ("model", "given", "error", "says"),
    [
        (PLAIN, Given(), ModelError, r"tells 5 classes apart, and nothing says which: name them with --labels"),
        (PLAIN, Given(labels(7)), ModelError, "names 7 classes, the model gives 5: take 2 out"),
        (PLAIN, Given(labels(5), size=(20, 20)), UsageError, "fixed to 24x32, and --size says 20x20: leave it out"),
        (PLAIN, Given(labels(5), mean=(0.5,) * 3), UsageError, "--mean without --std: give both"),
        (PLAIN, Given(labels(5), mean=(0.5,), std=(0.5,)), UsageError, "--mean has 1 values and --std 1, and the"),
        (PLAIN, Given(labels(5), mean=(123.0,) * 3, std=(0.017,) * 3), UsageError, "on two scales"),
        (PLAIN, Given(labels(5), mean=(0.4,) * 3, std=(58.0,) * 3), UsageError, "on two scales"),
        (PLAIN, Given(labels(5), mean=(0.4,) * 3, std=(0.0,) * 3), UsageError, "--std above 0"),
        (PLAIN | {"image": (2, 3, *SIZE), "output": None}, SAID, ModelError, "takes 2 images at once"),
        (
            PLAIN | {"image": (1, 5, *SIZE), "planes": 5}, SAID, ModelError,
            r"input x FLOAT \[1, 5, 24, 32\] has 5 planes, expected one image",
        ),
        (PLAIN | {"image": (3, *SIZE)}, SAID, ModelError, "export it with four axes"),
        (
            {"end": node("GlobalAveragePool"), "output": (1, 5, 1, 1), "image": (1, 3, *SIZE)}, Given(labels(2)),
            ModelError, "is no segmenter of images",
        ),
        ({"end": node("ReduceMean", keepdims=0), "output": ()}, SAID, ModelError, "is no segmenter of images"),
        (PLAIN | {"image": (1, 3, 7, 0)}, SAID, UsageError, r"of any size \(7x\?\)"),
    ],
)  # fmt: skip
def test_what_is_refused(
    tmp_path: Path, model: dict[str, Any], given: Given, error: type[RtpspError], says: str
) -> None:
    path = save(tmp_path / "x.onnx", **model)
    with pytest.raises(error, match=says) as caught:
        adapt(path, given)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_a_size_that_the_graph_cannot_take(tmp_path: Path) -> None:
    """A sum of two paths that meet only where both halve the same."""
    path = save(
        tmp_path / "x.onnx",
        chain(node("Add", (np.zeros((1, 5, *HALF)), np.float32)), as_it_is),
        ("n", 5, "h", "w"),
        image=("n", 3, "h", "w"),
    )
    assert adapt(path, Given(labels(5), size=SIZE)).spec.size == SIZE
    with pytest.raises(
        ModelError, match=r"cannot take an input of 1x3x26x32 \(.*a size that it was exported for"
    ) as bad:
        adapt(path, Given(labels(5), size=(26, 32)))
    assert "\n" not in str(bad.value)


def test_operators_that_are_not_onnx(tmp_path: Path) -> None:
    path = save(tmp_path / "x.onnx", resized(), (1, 5, *SIZE))
    model = onnx.load(path)
    for domain, says in (("mmdeploy", "1 mmdeploy::Relu"), ("com.microsoft", "before ONNX Runtime optimised it")):
        model.graph.node[1].domain = domain
        onnx.save(model, path)
        with pytest.raises(ModelError, match=says):
            adapt(path, SAID)


def test_names_that_the_passes_give_are_taken(tmp_path: Path) -> None:
    """Whatever tensors are called, also as ours will be."""
    path = save(tmp_path / "x.onnx", chain(resized(), argmax()), (1, *SIZE), result=INT64)
    text = path.read_bytes()
    model = onnx.ModelProto.FromString(text)
    names = {"x": "logits", "t0": "image", "t1": "frames/float", "t2": "scores", "c0": "class_map/index", "y": "frames"}
    for one in model.graph.node:
        for ends in (one.input, one.output):
            for place, name in enumerate(ends):
                ends[place] = names.get(name, name)
    for value in (*model.graph.initializer, *model.graph.input, *model.graph.output):
        value.name = names.get(value.name, value.name)
    onnx.save(model, path)
    adapted = adapt(path, SAID)
    frames = frame_of(adapted)
    np.testing.assert_array_equal(class_map_of(adapted, frames), ask(path, imagenet(frames), "frames")[0])
    assert re.match(
        r"x\.onnx \(opset 17\)\n  takes 'logits', float32 NCHW of 3 planes at 24x32, and gives 'frames'", adapted.told
    )


def test_a_damaged_graph(tmp_path: Path) -> None:
    path = save(tmp_path / "x.onnx", resized(), (1, 5, *SIZE))
    model = onnx.load(path)
    model.graph.node[1].input[0] = "nowhere"
    onnx.save(model, path)
    with pytest.raises(ModelError, match="reads a tensor that nothing gives"):
        adapt(path, SAID)


def test_a_model_in_training_mode(tmp_path: Path) -> None:
    ones = [(np.ones(5), np.float32)] * 4
    norm = node("BatchNormalization", *ones, training_mode=1)
    path = save(tmp_path / "x.onnx", chain(norm, resized()), (1, 5, *SIZE))
    with pytest.raises(ModelError, match=r"training mode.*after model\.eval\(\)"):
        adapt(path, SAID)


def test_a_quantised_model(tmp_path: Path) -> None:
    scale = ((0.1, np.float32), (0, np.int8))
    path = save(
        tmp_path / "x.onnx", chain(node("QuantizeLinear", *scale), node("DequantizeLinear", *scale), resized()),
        (1, 5, *SIZE),
    )  # fmt: skip
    with pytest.raises(ModelError, match="quantised already"):
        adapt(path, SAID)
