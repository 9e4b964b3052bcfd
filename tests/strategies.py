"""What Hypothesis draws for several tests: JSON values, label sets, specs, headers."""

from __future__ import annotations

from typing import Any, get_args

from hypothesis import strategies as st

from rtpsp.header import EngineHeader, Target
from rtpsp.labels import LabelSet
from rtpsp.spec import MAX_SIDE, Channels, ModelSpec


def json_values() -> st.SearchStrategy[Any]:
    """Whatever JSON can hold, half characters and numbers beyond every float included."""
    anything = st.characters()  # surrogates too
    plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(anything, max_size=20)
    return st.recursive(
        plain,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(anything, max_size=8), inner, max_size=4),
        max_leaves=12,
    )


def texts(min_size: int = 0) -> st.SearchStrategy[str]:
    """Text that can be written to a file."""
    return st.text(st.characters(exclude_categories=["Cs"]), min_size=min_size, max_size=30)


def names() -> st.SearchStrategy[str]:
    """Names of classes and models: words that can be printed."""
    letters = st.characters(categories=["L", "N", "P", "S"], exclude_characters="/\\")
    return st.lists(st.text(letters, min_size=1, max_size=8), min_size=1, max_size=3).map(" ".join)


def lines(min_size: int = 0) -> st.SearchStrategy[str]:
    """Text that prints on one line."""
    return st.text(st.characters(exclude_categories=["C", "Z"], include_characters=" "), min_size=min_size, max_size=30)


@st.composite
def label_sets(draw: st.DrawFn) -> LabelSet:
    """Any label set of up to twelve classes."""
    classes = draw(st.lists(names(), min_size=1, max_size=12, unique_by=lambda name: name.casefold()))
    byte = st.integers(0, 255)
    palette = draw(st.lists(st.tuples(byte, byte, byte), min_size=len(classes), max_size=len(classes)))
    ignore = draw(st.none() | st.integers(0, 255))
    return LabelSet(draw(names()), tuple(classes), tuple(palette), ignore, draw(texts()))


@st.composite
def specs(draw: st.DrawFn) -> ModelSpec:
    """Any spec that a model file can hold."""
    side = st.integers(1, MAX_SIDE)
    channels = draw(st.sampled_from(get_args(Channels)))
    planes = {"grey": 1, "rgbx": 4, "bgrx": 4}.get(channels, 3)
    return ModelSpec(
        name=draw(names()),
        arch=draw(texts()),
        height=draw(side),
        width=draw(side),
        labels=draw(label_sets()),
        output_stride=draw(st.sampled_from([8, 16])),
        mean=draw(st.tuples(*[st.floats(-1e6, 1e6)] * planes)),
        std=draw(st.tuples(*[st.floats(1e-6, 1e6)] * planes)),
        channels=channels,
        fit=draw(st.sampled_from(["stretch", "letterbox", "crop"])),
        resize=draw(st.sampled_from(["area", "bilinear"])),
        licence=draw(texts()),
    )


@st.composite
def headers(draw: st.DrawFn) -> EngineHeader:
    """Any header that an engine file can hold."""
    capability = st.tuples(st.integers(5, 12), st.integers(0, 9)).map(lambda pair: f"{pair[0]}.{pair[1]}")
    target = Target(
        machine=draw(lines()),
        gpu=draw(lines()),
        compute_capabilities=tuple(draw(st.lists(capability, max_size=3))),
        or_later=draw(st.booleans()),
        driver=draw(st.sampled_from(["", "580", "580.65.06"])),
        version_compatible=draw(st.booleans()),
    )
    return EngineHeader(
        spec=draw(specs()),
        backend=draw(st.sampled_from(["openvino", "onnxruntime"]) | lines(min_size=1)),
        precision=draw(st.sampled_from(["fp32", "fp16", "int8"])),
        model_digest=draw(lines()),
        versions=draw(st.dictionaries(lines(), lines(), max_size=3)),
        calibration_digest=draw(st.none() | lines()),
        options={"batch": draw(st.integers(1, 1024)), "confidence": draw(st.booleans()), "model": draw(lines())},
        target=target,
    )
