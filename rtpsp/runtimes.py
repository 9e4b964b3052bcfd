"""The vendors' inference runtimes, imported with their telemetry off: a tool that sees cameras calls nobody.

Importing OpenVINO reports to its maker through the package ``openvino_telemetry``; where that cannot be imported it
uses a stub of its own. ONNX Runtime takes an environment variable, which its users may set otherwise.
"""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType

_REPORTER = "openvino_telemetry"


def import_openvino() -> ModuleType:
    """The module ``openvino``, which reports nothing if this is the first import of it in the process."""
    hidden = _REPORTER not in sys.modules
    if hidden:
        sys.modules[_REPORTER] = None  # type: ignore[assignment]  # what Python documents for "cannot be imported"
    try:
        return importlib.import_module("openvino")
    finally:
        if hidden:
            del sys.modules[_REPORTER]


def import_onnxruntime() -> ModuleType:
    """The module ``onnxruntime``, which reports nothing unless the environment says so."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return importlib.import_module("onnxruntime")
