"""Writing a file is all or nothing, and its mode is any file's."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rtpsp.errors import OutputError
from rtpsp.files import check_writable, write_atomically


def listed(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")
    return path


def test_parts_follow_each_other_in_place_of_the_old_file(old: Path) -> None:
    write_atomically(old, b"head", b"", b"body", hint="-o")
    assert old.read_bytes() == b"headbody"
    assert listed(old.parent) == ["x.bin"]


@pytest.mark.parametrize("call", ["os.fsync", "os.replace"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    old: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(call, full)
    with pytest.raises(
        OutputError, match=r"x\.bin: cannot be written \(No space left on device\): name another"
    ) as caught:
        write_atomically(old, b"new", hint="name another file with -o")
    assert isinstance(caught.value.__cause__, OSError)
    assert old.read_bytes() == b"old" and listed(old.parent) == ["x.bin"]


def test_an_interrupted_write_leaves_nothing_either(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(old, b"new", hint="-o")
    assert old.read_bytes() == b"old" and listed(old.parent) == ["x.bin"]


def test_the_file_is_synced_before_it_is_renamed(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def recorded(name: str, call: Callable[..., None]) -> Callable[..., None]:
        def wrapper(*given: object) -> None:
            calls.append(name)
            call(*given)

        return wrapper

    monkeypatch.setattr(os, "fsync", recorded("fsync", os.fsync))
    monkeypatch.setattr(os, "replace", recorded("replace", os.replace))
    write_atomically(old, b"new", hint="-o")
    assert calls == ["fsync", "replace"] and old.read_bytes() == b"new"


def test_a_folder_is_made_only_if_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "x.bin"
    with pytest.raises(OutputError, match="cannot be written"):
        write_atomically(path, b"new", hint="-o")
    assert listed(tmp_path) == []
    write_atomically(path, b"new", hint="-o", make_folder=True)
    assert path.read_bytes() == b"new"


def test_a_folder_or_a_file_in_the_way(tmp_path: Path, old: Path) -> None:
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "folder", old / "x.bin"):
        with pytest.raises(OutputError, match="cannot be written"):
            write_atomically(path, b"new", hint="-o", make_folder=True)
    assert listed(tmp_path) == ["folder", "x.bin"] and old.read_bytes() == b"old"


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
@pytest.mark.usefixtures("umask")
def test_the_mode_is_what_the_umask_leaves(tmp_path: Path) -> None:
    write_atomically(tmp_path / "x.bin", b"new", hint="-o")
    assert (tmp_path / "x.bin").stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without named pipes")
def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    """A pipe stands for the devices: as root, a rename would put a file in the place of /dev/null."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    says = r"pipe: cannot be written \(it is a device or a pipe, expected .*: -o"
    with pytest.raises(OutputError, match=says):
        check_writable(pipe, hint="-o")
    with pytest.raises(OutputError, match=says):
        write_atomically(pipe, b"new", hint="-o")
    assert pipe.is_fifo()


def test_what_a_link_leads_to_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link, target = tmp_path / "x.engine", tmp_path / "disk" / "x.engine"
    link.symlink_to(target)
    for text in (b"first", b"second"):
        check_writable(link, hint="-o")
        write_atomically(link, text, hint="-o")
        assert link.is_symlink() and target.read_bytes() == text
    assert [entry.name for entry in target.parent.iterdir()] == ["x.engine"]
