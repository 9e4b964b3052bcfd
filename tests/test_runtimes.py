"""Which packages are here, and that none of them calls home."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from rtpsp.runtimes import UNTOLD, built_for_cuda, installed_version, instead
from tests.doctor.doubles import install

PROGRAM = """
import sys
from rtpsp.engine import BACKENDS, engine_class
from rtpsp.runtimes import installed_version
there = [name for name, backend in BACKENDS.items() if not backend.gpu and installed_version(backend.package)]
for name in there:
    engine_class(name)
assert all(name in sys.modules for name in there) and "onnxruntime" in there
print([name for name in sys.modules if name.split(".")[0] == "openvino_telemetry"])
"""


def test_runtimes_report_to_nobody_and_leave_no_files(tmp_path: Path) -> None:
    environment = {
        key: value for key, value in os.environ.items() if key not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    }
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**environment, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "[]"
    assert [str(path) for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("package", "modules", "distributions", "expected"),
    [
        ("tensorrt", {"tensorrt"}, {"tensorrt": "11.4.0.106"}, "11.4.0.106"),
        ("tensorrt", {"tensorrt"}, {"tensorrt_cu13": "11.4.0.106"}, "11.4.0.106"),
        ("tensorrt", {"tensorrt"}, {"tensorrt_cu12": "10.16.1.11"}, "10.16.1.11"),
        ("tensorrt", {"tensorrt"}, {}, UNTOLD),  # unpacked, and put on the path
        ("tensorrt", set(), {"tensorrt": "11.4.0.106"}, None),  # metadata alone runs nothing
        ("tensorrt", {"tensorrt_rtx_bindings"}, {"tensorrt_rtx_cu13_bindings": "1.7.1.116"}, None),
        ("tensorrt-rtx", {"tensorrt_rtx_bindings"}, {"tensorrt_rtx_cu13_bindings": "1.7.1.116"}, "1.7.1.116"),
        ("tensorrt-rtx", {"tensorrt_rtx"}, {"tensorrt_rtx": "1.8.0"}, "1.8.0"),
        ("tensorrt-rtx", {"tensorrt_rtx_bindings"}, {"tensorrt_rtx_cu12_bindings": "1.6.1.120"}, "1.6.1.120"),
        ("onnxruntime", {"onnxruntime"}, {"onnxruntime_gpu": "1.31.1"}, "1.31.1"),
        ("onnxruntime-gpu", {"onnxruntime"}, {"onnxruntime_gpu": "1.31.1"}, "1.31.1"),
        ("onnxruntime-gpu", {"onnxruntime"}, {"onnxruntime": "1.32.0"}, None),
        ("onnxruntime-gpu", {"onnxruntime"}, {}, None),
        ("openvino", {"openvino"}, {"openvino": "2026.4.1"}, "2026.4.1"),
        ("openvino", set(), {}, None),
        ("onnx-ir", set(), {"onnx_ir": "1.1.0"}, "1.1.0"),
    ],
)
def test_a_package_by_any_of_its_names(
    package: str,
    modules: set[str],
    distributions: dict[str, str],
    expected: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(monkeypatch, **distributions)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: SimpleNamespace() if name in modules else None)
    assert installed_version(package) == expected


def test_a_module_without_its_parent_is_not_there() -> None:
    assert installed_version("pycuda") is None or installed_version("pycuda")[0].isdigit()  # type: ignore[index]
    assert installed_version("no-such-package") is None


def wheel(folder: Path, distribution: str, version: str, files: dict[str, str]) -> None:
    """Unpack a wheel into a folder, over whatever lies there: what pip does."""
    told = folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
    told.mkdir()
    (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    lines = []
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(text)}\n")
    (told / "RECORD").write_text("".join(lines))


def tensorrt(folder: Path, cuda: int, version: str) -> None:
    """The wheels that ``pip install tensorrt-cu12`` and its like bring."""
    wheel(
        folder, f"tensorrt-cu{cuda}-bindings", version, {"tensorrt_bindings/__init__.py": f"__version__ = {version!r}"}
    )
    wheel(folder, f"tensorrt-cu{cuda}-libs", version, {"tensorrt_libs/__init__.py": ""})
    wheel(folder, f"tensorrt-cu{cuda}", version, {"tensorrt/__init__.py": "from tensorrt_bindings import *"})


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of packages in the place of the real ones, where TensorRT may be."""
    folder = tmp_path / "site"
    folder.mkdir()
    others = [path for path in sys.path if not path.endswith("-packages")]
    monkeypatch.setattr(sys, "path", [str(folder), *others])
    for name in ("tensorrt", "tensorrt_bindings"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    importlib.invalidate_caches()
    return folder


def test_the_cuda_that_a_package_is_for_is_told_by_its_distribution(site: Path) -> None:
    tensorrt(site, 12, "11.4.0.106")
    importlib.invalidate_caches()
    assert (installed_version("tensorrt"), built_for_cuda("tensorrt")) == ("11.4.0.106", 12)
    wheel(site, "tensorrt", "11.4.0.106", {})  # the metapackage
    assert built_for_cuda("tensorrt") == 12


def test_an_archive_does_not_tell_its_cuda(site: Path) -> None:
    wheel(site, "tensorrt", "10.16.1.11", {"tensorrt/__init__.py": ""})
    importlib.invalidate_caches()
    assert (installed_version("tensorrt"), built_for_cuda("tensorrt")) == ("10.16.1.11", None)


def test_of_two_with_the_same_files_the_later_one_counts(site: Path) -> None:
    """``pip uninstall tensorrt`` takes the metapackage alone, and leaves what it had brought."""
    tensorrt(site, 13, "11.4.0.106")
    tensorrt(site, 12, "10.13.3.9")
    importlib.invalidate_caches()
    assert (installed_version("tensorrt"), built_for_cuda("tensorrt")) == ("10.13.3.9", 12)
    names = instead("tensorrt", "tensorrt-cu12").removeprefix("pip uninstall -y ").partition(" && ")
    assert set(names[0].split()) == {
        f"tensorrt-cu{cuda}{part}" for cuda in (12, 13) for part in ("", "-bindings", "-libs")
    }
    assert names[2] == "pip install tensorrt-cu12"


def test_what_is_not_there_needs_no_uninstalling() -> None:
    assert instead("pycuda", "pycuda").endswith("pip install pycuda")
