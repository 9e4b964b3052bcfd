"""The shipped model: what its card says of it is so."""

from __future__ import annotations

import re

import numpy as np
import pytest

from rtpsp import zoo
from rtpsp.errors import UsageError
from rtpsp.files import sha256_of
from rtpsp.graph.lower import load_model, lower, model_digest
from rtpsp.graph.verify import run, sample_frames
from rtpsp.labels import CAMVID


def card() -> str:
    return zoo.packed_path().with_name(f"{zoo.DEFAULT}.md").read_text(encoding="utf-8")


def test_file_is_the_one_that_was_measured() -> None:
    path = zoo.model_path()
    assert path.name == f"{zoo.DEFAULT}.onnx"
    assert model_digest(path) == sha256_of(path) == zoo.model_digest()
    assert f"`{zoo.model_digest()}`" in card()
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
    text = zoo.packed_path().with_name("LICENSE-WEIGHTS.txt").read_text(encoding="utf-8")
    assert "CC BY-NC 4.0" in text and "CamVid" in text


def test_unknown_name_lists_what_there_is() -> None:
    for ask in (zoo.model_path, zoo.model_digest, zoo.packed_path, zoo.model_spec, zoo.cache_path):
        with pytest.raises(UsageError, match="pspnet18-camvid"):
            ask("pspnet50-mars")


def test_what_is_told_without_the_model_is_so() -> None:
    assert zoo.model_spec() == load_model(zoo.model_path())[1]
    assert zoo.packed_path().stat().st_size < 0.92 * zoo.model_path().stat().st_size
