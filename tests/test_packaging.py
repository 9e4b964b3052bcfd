"""What a user gets from ``pip install``: the model and its licence, and nothing that is not ours to give."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for name in tracked:
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--no-deps",
            "--no-build-isolation",
            "-q",
            "-w",
            str(folder),
            str(source),
        ],
        check=True,
        capture_output=True,
    )
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_the_wheel_holds_the_model_its_card_and_its_licence(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    for name in ("pspnet18-camvid.onnx", "pspnet18-camvid.md", "LICENSE-WEIGHTS.txt"):
        assert f"rtpsp/zoo/{name}" in names
    assert "rtpsp/py.typed" in names
    outside = {name.split("/")[0] for name in names} - {"rtpsp"}
    assert all(name.endswith(".dist-info") for name in outside), outside


def test_the_metadata_says_what_it_is(wheel: zipfile.ZipFile) -> None:
    name = next(name for name in wheel.namelist() if name.endswith("METADATA"))
    metadata = Parser().parsestr(wheel.read(name).decode())
    licence = metadata["License-Expression"] or metadata["License"]
    assert "Apache-2.0" in licence and "CamVid" in licence, "the weights are not under the code's licence"
    base = [line for line in metadata.get_all("Requires-Dist") or [] if "extra ==" not in line]
    assert not any(line.startswith(("torch", "nvidia", "tensorrt")) for line in base)
    assert set(metadata.get_all("Provides-Extra") or []) == {"train", "test"}
    entry = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "rtpsp = rtpsp.cli:main" in wheel.read(entry).decode()


def test_tracked_files_stay_small() -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    total = sum((ROOT / name).stat().st_size for name in tracked.split("\0") if name and (ROOT / name).is_file())
    assert total < 32e6
