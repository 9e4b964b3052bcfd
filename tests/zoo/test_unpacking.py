"""A packed model is unpacked once, whole, wherever there is a place."""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rtpsp import files
from rtpsp.errors import MissingError, OutputError
from rtpsp.zoo import unpacking
from rtpsp.zoo.unpacking import unpacked

DATA = b"weights " * 9999
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A packed file; cache and temporary files lie in folders of this test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    path = tmp_path / "small.onnx.gz"
    path.write_bytes(gzip.compress(DATA, mtime=0))
    return path


def test_it_is_unpacked_once(packed: Path, tmp_path: Path) -> None:
    path = unpacked(packed, DIGEST)
    assert path == tmp_path / "cache" / "rtpsp" / "models" / DIGEST[:16] / "small.onnx"
    assert path.read_bytes() == DATA
    packed.unlink()
    assert unpacked(packed, DIGEST) == path
    unpacking._whole.clear()
    assert unpacked(packed, DIGEST) == path, "another process"


def _shorten(path: Path) -> None:
    path.write_bytes(DATA[:-1])


def _flip(path: Path) -> None:
    path.write_bytes(b"W" + DATA[1:])
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize("harm", [_shorten, _flip, Path.unlink], ids=["shorter", "other", "gone"])
def test_a_damaged_one_is_written_anew(
    packed: Path, harm: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    path = unpacked(packed, DIGEST)
    harm(path)
    assert unpacked(packed, DIGEST).read_bytes() == DATA
    assert ("is damaged: it is unpacked anew" in caplog.text) == (harm is not Path.unlink)
    assert [other.name for other in path.parent.iterdir()] == ["small.onnx"]


def test_a_cache_that_cannot_be_written_has_a_stand_in(
    packed: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("in the way")
    path = unpacked(packed, DIGEST)
    assert path.is_relative_to(tmp_path / "tmp") and path.read_bytes() == DATA
    assert path.parents[2].stat().st_mode & 0o777 == 0o700
    assert "cannot be written (Not a directory): the shipped model is unpacked to" in caplog.text
    packed.unlink()
    unpacking._whole.clear()
    assert unpacked(packed, DIGEST) == path, "the next process finds it"


def test_a_full_disk_has_a_stand_in(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, *parts: bytes, **options: object) -> None:
        if path.is_relative_to(tmp_path / "cache"):
            raise OutputError(f"{path}: cannot be written ({os.strerror(errno.ENOSPC)}): ")
        files.write_atomically(path, *parts, hint="", make_folder=True)

    monkeypatch.setattr(unpacking, "write_atomically", full)
    assert unpacked(packed, DIGEST).is_relative_to(tmp_path / "tmp")


@pytest.mark.parametrize("mode", [0o777, 0o700])
def test_nobody_elses_stand_in_is_trusted(packed: Path, tmp_path: Path, mode: int) -> None:
    (tmp_path / "cache").write_text("in the way")
    folder = unpacked(packed, DIGEST).parents[2]
    folder.chmod(mode)
    if mode == 0o700:
        assert unpacked(packed, DIGEST).is_relative_to(folder)
        return
    with pytest.raises(OutputError, match=r"cannot be written .* somebody else\): let XDG_CACHE_HOME name a folder"):
        unpacked(packed, DIGEST)


def test_a_damaged_installation_says_so(packed: Path) -> None:
    whole = packed.read_bytes()
    for data in (whole[:-9], whole[:50] + b"?" + whole[51:], b"no gzip", b""):
        packed.write_bytes(data)
        with pytest.raises(MissingError, match="install rtpsp again"):
            unpacked(packed, DIGEST)
    packed.write_bytes(gzip.compress(b"another"))
    with pytest.raises(MissingError, match=f"holds another model .* expected {DIGEST[:16]}.: install rtpsp again"):
        unpacked(packed, DIGEST)
    packed.unlink()
    with pytest.raises(MissingError, match="No such file"):
        unpacked(packed, DIGEST)


def test_processes_at_once_find_it_whole(packed: Path, tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom rtpsp.zoo.unpacking import unpacked\n"
        "print(end='ready', flush=True)\nsys.stdin.read()\n"
        "print(len(unpacked(Path(sys.argv[1]), sys.argv[2]).read_bytes()))"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(packed), DIGEST], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(3)
    ]
    for child in children:
        assert child.stdout is not None and child.stdout.read(5) == b"ready"
    for child in children:
        assert child.stdin is not None
        child.stdin.close()
        child.stdin = None
    for child in children:
        out, _ = child.communicate(timeout=60)
        assert (child.returncode, int(out)) == (0, len(DATA))
    assert len(list((tmp_path / "cache" / "rtpsp" / "models").rglob("*"))) == 2, "a folder and the file"
