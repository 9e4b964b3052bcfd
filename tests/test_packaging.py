"""What a user gets from ``pip install``: the model and its licence, and nothing that is not ours to give."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkout without what git ignores."""
    source = tmp_path_factory.mktemp("package") / "source"
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
    return source


@pytest.fixture(scope="module")
def wheel(source: Path) -> zipfile.ZipFile:
    folder = source.parent
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
    for name in ("pspnet18-camvid.onnx.gz", "pspnet18-camvid.md", "LICENSE-WEIGHTS.txt"):
        assert f"rtpsp/zoo/{name}" in names
    assert {"rtpsp/py.typed", "rtpsp/engine/kernels/class_map.cu", "rtpsp/engine/kernels/resize.cu"} <= names
    outside = {name.split("/")[0] for name in names} - {"rtpsp"}
    assert all(name.endswith(".dist-info") for name in outside), outside


def test_the_source_archive_holds_what_the_wheel_does_and_no_half_of_the_tests(
    source: Path, wheel: zipfile.ZipFile
) -> None:
    program = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"
    subprocess.run([sys.executable, "-c", program, str(source.parent)], cwd=source, check=True, capture_output=True)
    with tarfile.open(next(source.parent.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {name for name in wheel.namelist() if name.startswith("rtpsp/")} <= names
    assert {"setup.py", "pyproject.toml", "README.md", "LICENSE"} <= names
    assert not [name for name in names if name.startswith("tests")]


def test_pins_leave_the_oldest_python_a_choice() -> None:
    """A pin whose release needs a newer Python than ours would make ``make test`` fail there."""
    oldest = {"python_version": "3.10", "python_full_version": "3.10.0"}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        pin = Requirement(line)
        try:
            needs = metadata(pin.name)["Requires-Python"]
        except PackageNotFoundError:  # of an extra that is not installed here
            continue
        if needs and "3.10.0" not in SpecifierSet(needs):
            assert pin.marker is not None and not pin.marker.evaluate(oldest), f"{pin.name} needs Python {needs}"


def test_the_metadata_says_what_it_is(wheel: zipfile.ZipFile) -> None:
    name = next(name for name in wheel.namelist() if name.endswith("METADATA"))
    told = Parser().parsestr(wheel.read(name).decode())
    licence = told["License-Expression"] or told["License"]
    assert "Apache-2.0" in licence and "CamVid" in licence, "the weights are not under the code's licence"
    base = [line for line in told.get_all("Requires-Dist") or [] if "extra ==" not in line]
    assert not any(line.startswith(("torch", "tensorrt")) for line in base)
    nvidia = [line for line in base if line.startswith(("nvidia", "cuda"))]
    assert len(nvidia) == 1 and nvidia[0].startswith("nvidia-ml-py"), "50 kB of Python that asks the driver, no CUDA"
    gpu = {"pycuda"} | {
        f"{name}{cuda}" for name in ("tensorrt", "tensorrt-rtx", "onnxruntime-gpu") for cuda in ("", "-cu12")
    }
    assert set(told.get_all("Provides-Extra") or []) == {"train", "test", *gpu}
    entry = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "rtpsp = rtpsp.cli:main" in wheel.read(entry).decode()


def test_tracked_files_stay_small() -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    total = sum((ROOT / name).stat().st_size for name in tracked.split("\0") if name and (ROOT / name).is_file())
    assert total < 32e6
