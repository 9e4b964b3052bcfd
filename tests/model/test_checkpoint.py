"""Checkpoints: what loads, and what is said of one that does not."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from rtpsp.errors import ModelError
from rtpsp.model import checkpoint as room
from rtpsp.model.pspnet import ARCHS, build

SMALL = {name: arch.narrowed(16) for name, arch in ARCHS.items()}


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same code on networks of a 256th of the work."""
    for name, arch in SMALL.items():
        monkeypatch.setitem(ARCHS, name, arch)


def trained() -> Any:
    torch.manual_seed(1)
    return build("pspnet18", 5)


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_loads_half_precision_wrapped_and_prefixed(tmp_path: Path, wrapper: str | None, prefix: str) -> None:
    model = trained().half()
    state: Any = {prefix + key: value for key, value in model.state_dict().items() if not key.startswith("aux.")}
    torch.save(state if wrapper is None else {wrapper: state, "epoch": 3}, tmp_path / "net.pth")
    assert room.read_state_dict(tmp_path / "net.pth")["head.conv.weight"].dtype == torch.float32
    loaded = room.load_checkpoint(tmp_path / "net.pth", "pspnet18", 5)
    assert not loaded.training
    for key, value in model.state_dict().items():
        if not key.startswith("aux."):
            assert torch.equal(loaded.state_dict()[key], value.float() if value.is_floating_point() else value), key
    assert loaded.head.conv.weight.dtype == torch.float32


def test_keeps_the_auxiliary_head_that_is_there(tmp_path: Path) -> None:
    model = trained()
    torch.save(model.state_dict(), tmp_path / "net.pth")
    loaded = room.load_checkpoint(tmp_path / "net.pth", "pspnet18", 5)
    assert loaded.aux is not None
    assert torch.equal(loaded.aux.classifier.weight, model.aux.classifier.weight)


def test_names_the_architecture_that_would_fit(tmp_path: Path) -> None:
    torch.save(trained().state_dict(), tmp_path / "net.pth")
    with pytest.raises(ModelError, match=r"not a pspnet50 .*missing.*another shape.*it is a pspnet18 with 5 classes"):
        room.load_checkpoint(tmp_path / "net.pth", "pspnet50", 5)
    with pytest.raises(ModelError, match=r"head\.classifier\.weight.* it has 5 classes"):
        room.load_checkpoint(tmp_path / "net.pth", "pspnet18", 11)


def test_names_what_is_missing_and_what_is_unexpected(tmp_path: Path) -> None:
    state = trained().state_dict()
    state["decoder.weight"] = state.pop("head.conv.weight")
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(ModelError, match=r"head\.conv\.weight missing; decoder\.weight unexpected"):
        room.load_checkpoint(tmp_path / "net.pth", "pspnet18", 5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_refuses_weights_of_a_training_that_diverged(tmp_path: Path, value: float) -> None:
    state = trained().state_dict()
    state["head.conv.weight"][0, 0, 0, 0] = value
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(ModelError, match=r"net\.pth: head\.conv\.weight with values.*diverged"):
        room.load_checkpoint(tmp_path / "net.pth", "pspnet18", 5)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_checkpoint_cut_short_anywhere_gets_one_clear_line(tmp_path: Path, legacy: bool) -> None:
    path = tmp_path / "net.pth"
    torch.save({"a": torch.ones(4, 3), "b": torch.arange(5)}, path, _use_new_zipfile_serialization=not legacy)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError, match=r"net\.pth"):
            room.read_state_dict(path)


class Danger:
    """Runs code when unpickled by a careless loader."""

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (Path("/nonexistent/danger"),)


def test_runs_no_code_from_a_checkpoint(tmp_path: Path) -> None:
    torch.save({"state_dict": Danger()}, tmp_path / "net.pth")
    with pytest.raises(ModelError, match="runs no code"):
        room.read_state_dict(tmp_path / "net.pth")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "damaged|not a"),
        (b"no checkpoint at all", "net.pth: is text; a checkpoint is what torch.save writes"),
        ("\u00fc".encode() * 2100, "is text"),
        (b"\x01\x02 neither", "not a checkpoint"),
        (b"PK\x03\x04 half a zip", "damaged"),
        (pickle.dumps([1, 2]), "damaged|not a|list"),
    ],
)
def test_unreadable_files_get_one_clear_line(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "net.pth").write_bytes(content)
    with pytest.raises(ModelError, match=says) as caught:
        room.read_state_dict(tmp_path / "net.pth")
    assert "\n" not in str(caught.value)
    assert "net.pth" in str(caught.value)


@pytest.mark.parametrize(("content", "says"), [([1, 2], "a list"), ({}, "empty"), ({"epoch": 3}, "epoch")])
def test_refuses_what_is_no_state_dict(tmp_path: Path, content: Any, says: str) -> None:
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(ModelError, match=says):
        room.read_state_dict(tmp_path / "net.pth")


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(ModelError, match="cannot be read"):
            room.read_state_dict(path)
