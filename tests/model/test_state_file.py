"""Checkpoint files of training frameworks are read as data; what would run code or is damaged gets one clear line."""

from __future__ import annotations

import argparse
import collections
import datetime
import io
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rtpsp.errors import ModelError
from rtpsp.model.inert import MAX_DEPTH, Placeholder, survey
from rtpsp.model.state_dict import find_state
from rtpsp.model.state_file import as_mapping, read_file


def save(content: Any, path: Path, legacy: bool = False) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


def archive(path: Path, data: bytes) -> Path:
    """A file of torch.save whose pickle is this one."""
    save({"w": torch.ones(2)}, path)
    with zipfile.ZipFile(path) as old:
        entries = {info.filename: old.read(info) for info in old.infolist()}
    with zipfile.ZipFile(path, "w") as new:
        for name, content in entries.items():
            new.writestr(name, data if name.endswith("data.pkl") else content)
    return path


@pytest.fixture
def framework(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A package of classes that are there when a checkpoint is written and gone when it is read."""
    module = ModuleType("framework")

    class ConfigDict(dict[str, Any]):
        """A mapping, as mmengine's."""

    class Listing(list[Any]):
        """A sequence, as omegaconf's."""

    class History:
        """An object with attributes, as mmengine's HistoryBuffer; loading it would be seen."""

        def __init__(self) -> None:
            self.values = np.arange(3.0)

        def __setstate__(self, state: Any) -> None:
            raise AssertionError("code of a foreign class ran")

    for kind in (ConfigDict, Listing, History):
        kind.__module__, kind.__qualname__ = "framework", kind.__name__
        setattr(module, kind.__name__, kind)
    monkeypatch.setitem(sys.modules, "framework", module)
    return module


@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_load_beside_foreign_classes(
    tmp_path: Path, framework: Any, legacy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = {"a.weight": torch.randn(4, 3), "a.bias": nn.Parameter(torch.ones(4)), "n": torch.tensor(7)}
    content = {
        "meta": framework.ConfigDict(names=framework.Listing(["road", "sky"]), scale=np.float64(3)),
        "message_hub": {"log": collections.deque([framework.History()]), "when": datetime.datetime.now()},
        "args": argparse.Namespace(lr=0.1, out=Path("x")),
        "counts": collections.defaultdict(int, x=1),
        "state_dict": weights,
    }
    path = save(content, tmp_path / "net.pth", legacy)
    monkeypatch.delitem(sys.modules, "framework")
    state = find_state(read_file(path))
    assert state.found == ("state_dict",)
    assert all(torch.equal(state.tensors[name], value) for name, value in weights.items())
    assert {"framework.ConfigDict", "framework.History", "argparse.Namespace"} <= set(state.foreign)
    assert isinstance(state.beside["meta"], Placeholder)
    assert "framework" not in sys.modules


@pytest.mark.parametrize("legacy", [False, True])
def test_a_whole_pickled_module_gives_its_tensors(tmp_path: Path, legacy: bool) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()))
    state = find_state(read_file(save({"model": model, "epoch": 3}, tmp_path / "net.pt", legacy)))
    assert set(state.tensors) == set(model.state_dict())
    assert all(torch.equal(state.tensors[name], value) for name, value in model.state_dict().items())


class Call:
    """Unpickled by a careless loader it calls a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.what = (function, arguments)

    def __reduce__(self) -> Any:
        return self.what


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("function", "name"),
    [(os.system, r"(posix|nt)\.system"), (exec, r"builtins\.exec"), (subprocess.check_output, r"subprocess"),
     (getattr, r"builtins\.getattr"), (__import__, r"builtins\.__import__"), (io.open, r"io\.open|_io\.open")],
)  # fmt: skip
def test_a_pickle_that_would_run_code_is_refused_and_nothing_runs(
    tmp_path: Path, function: Any, name: str, legacy: bool
) -> None:
    witness = tmp_path / "ran"
    command = f"open({str(witness)!r}, 'w')" if function is exec else f"touch {witness}"
    arguments = (str(witness), "w") if function is io.open else (command,)
    content = {"state_dict": {"w": torch.ones(3)}, "hook": Call(function, *arguments)}
    path = save(content, tmp_path / "net.pth", legacy)
    with pytest.raises(ModelError, match=rf"names {name}.*runs no code") as caught:
        read_file(path)
    assert not witness.exists()
    assert "\n" not in str(caught.value)


def test_names_hidden_from_the_survey_are_refused_too(tmp_path: Path) -> None:
    """Protocol 4 takes names off the stack: those are only known when they are looked up."""
    data = pickle.dumps(Call(os.system, f"touch {tmp_path / 'ran'}"), protocol=4)
    assert survey(io.BytesIO(data)) == []
    with pytest.raises(ModelError, match="runs no code"):
        read_file(archive(tmp_path / "net.pth", data))
    assert not (tmp_path / "ran").exists()


def test_no_pickle_changes_a_class_or_writes_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 1.6 torch kept the source of modules, and writes how it differs to a file of the class's name if asked."""
    monkeypatch.chdir(tmp_path)
    counter, rebuild = b"ccollections\nCounter\n", b"ctorch._utils\n_rebuild_tensor_v2\n"
    asks = b"N}X\x0c\x00\x00\x00dump_patches\x88s\x86b0"  # BUILD with a state of slots: any attribute of any object
    for change, name in ((counter + asks, counter), (rebuild + asks, rebuild), (b"", counter)):
        saved = b"(X\x06\x00\x00\x00module" + name + b"X\x01\x00\x00\x00fX\x01\x00\x00\x00xtQ"
        parts = [torch.serialization.MAGIC_NUMBER, torch.serialization.PROTOCOL_VERSION, {"little_endian": True}]
        content = b"".join(pickle.dumps(part, 2) for part in parts) + b"\x80\x02" + change + saved + b"."
        (tmp_path / "net.pth").write_bytes(content + pickle.dumps([], 2))
        if change:
            with pytest.raises(ModelError, match=r"net\.pth: damaged"):
                read_file("net.pth")
        else:
            assert read_file("net.pth").foreign == ("collections.Counter",)
        assert not hasattr(collections.Counter, "dump_patches")
        assert not hasattr(torch._utils._rebuild_tensor_v2, "dump_patches")
        assert [path.name for path in tmp_path.iterdir()] == ["net.pth"]


@pytest.mark.parametrize("nest", [b"\x85", b"N\x86", b"0N\x85N\x87"[1:]])
def test_nesting_that_would_exhaust_the_stack(tmp_path: Path, nest: bytes) -> None:
    data = b"\x80\x02}N" + nest * 300_000 + b"N" + b"s."  # the tuple is a key: it would be hashed
    with pytest.raises(ModelError, match="damaged"):
        read_file(archive(tmp_path / "net.pth", data))


def test_ordinary_nesting_and_long_lists_pass() -> None:
    value: Any = []
    for _ in range(50):
        value = {"inner": [value, (1, 2)]}
    survey(io.BytesIO(pickle.dumps({"x": value, "history": [(step, 0.5) for step in range(5000)]}, protocol=2)))
    for _ in range(MAX_DEPTH):
        value = (value,)
    with pytest.raises(ValueError, match="nested"):
        survey(io.BytesIO(pickle.dumps(value, protocol=2)))


def test_an_archive_that_unpacks_to_much_more_than_it_is(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("net/data.pkl", pickle.dumps({}, protocol=2))
        bomb.writestr("net/data/0", bytes(10_000_000))
    with pytest.raises(ModelError, match="unpack to 100000"):
        read_file(path)


def test_a_mapping_whose_methods_are_hidden_is_read_all_the_same(tmp_path: Path) -> None:
    hidden = (
        b"}(X\x05\x00\x00\x00itemsNX\x03\x00\x00\x00getNX\x04\x00\x00\x00keysNub."  # BUILD: attributes of these names
    )
    data = pickle.dumps(collections.OrderedDict(a=1), 2)[:-1] + hidden
    content = read_file(archive(tmp_path / "net.pth", data)).content
    assert content.items is None and as_mapping(content) == {"a": 1}


def test_a_tensor_larger_than_what_is_stored_of_it(tmp_path: Path) -> None:
    path = save({"w": torch.ones(1).expand(1 << 40)}, tmp_path / "net.pth")
    with pytest.raises(ModelError, match=r"w are no plain tensors, or larger than stored"):
        find_state(read_file(path))


def test_a_program_of_torchscript(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    with zipfile.ZipFile(path, "w") as program:
        program.writestr("net/data.pkl", pickle.dumps({}, protocol=2))
        program.writestr("net/constants.pkl", pickle.dumps((), protocol=2))
    with pytest.raises(ModelError, match=r"TorchScript.*state_dict"):
        read_file(path)


def test_what_is_no_checkpoint_says_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20))
    with pytest.raises(ModelError, match=r"a picture: .*rtpsp run"):
        read_file(tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as other:
        other.writestr("net.pth", b"x" * 100)
    with pytest.raises(ModelError, match=r"not one of torch\.save"):
        read_file(tmp_path / "b.zip")
    with pytest.raises(ModelError, match=r"did you mean .*a\.pth"):
        read_file(tmp_path / "aa.pth")


def test_safetensors(tmp_path: Path) -> None:
    torch_files = pytest.importorskip("safetensors.torch")
    weights = {"a": torch.randn(3, 2), "b": torch.ones(4, dtype=torch.float16)}
    torch_files.save_file(weights, tmp_path / "net.safetensors", metadata={"format": "pt"})
    state = find_state(read_file(tmp_path / "net.safetensors"))
    assert torch.equal(state.tensors["a"], weights["a"])
    assert state.tensors["b"].dtype == torch.float32
    whole = (tmp_path / "net.safetensors").read_bytes()
    for length in (len(whole) - 1, 60, 9):
        (tmp_path / "net.safetensors").write_bytes(whole[:length])
        with pytest.raises(ModelError, match=r"net\.safetensors"):
            read_file(tmp_path / "net.safetensors")
