"""The shipped model: what its card says of it is so."""

from __future__ import annotations

import re

import numpy as np
import pytest

from rtpsp import zoo
from rtpsp.errors import UsageError
from rtpsp.graph.lower import load_model, lower, model_digest
from rtpsp.graph.verify import run, sample_frames
from rtpsp.labels import CAMVID

DIGEST = "c3f5433bb58e481b4712c57d4c103efe6a843cd40c34b3091029a18f509468ec"


def card() -> str:
    return zoo.model_path().with_suffix(".md").read_text(encoding="utf-8")


def test_file_is_the_one_that_was_measured() -> None:
    path = zoo.model_path()
    assert model_digest(path) == DIGEST
    assert DIGEST in card()
    assert path.stat().st_size < 30_000_000
    assert f"{path.stat().st_size:,} bytes" in card()


def test_spec_says_what_the_card_says() -> None:
    _, spec = load_model(zoo.model_path())
    assert (spec.name, spec.arch, spec.size, spec.output_stride) == ("pspnet18-camvid", "pspnet18", (540, 720), 16)
    assert spec.labels == CAMVID
    assert "non-commercial" in spec.licence and "\n" not in spec.licence
    for name in CAMVID.names:
        assert re.search(rf"\b{name}\b", card()), name


def test_lowers_within_the_bounds_and_sees_more_than_one_class() -> None:
    model, spec = load_model(zoo.model_path())
    lowered = lower(model, spec)
    assert {node.op_type for node in lowered.graph}.isdisjoint({"BatchNormalization", "Gather", "AveragePool"})
    assert len(np.unique(run(lowered, spec, sample_frames(spec, 1)).class_map)) > 1


def test_holds_nothing_of_the_machine_that_made_it() -> None:
    data = zoo.model_path().read_bytes()
    for trace in (b"/tmp", b"/home", b"/work", b"site-packages", b"stack_trace", b"pkg.torch"):
        assert trace not in data, trace


def test_licence_lies_beside_the_weights() -> None:
    text = zoo.model_path().with_name("LICENSE-WEIGHTS.txt").read_text(encoding="utf-8")
    assert "CC BY-NC 4.0" in text and "CamVid" in text


def test_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(UsageError, match="pspnet18-camvid"):
        zoo.model_path("pspnet50-mars")
