"""Which packages are here, and that none of them calls home."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from rtpsp.runtimes import UNTOLD, installed_version
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
