from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
from rtpsp.engine import BACKENDS, engine_class
for name in BACKENDS:
    engine_class(name)
assert "openvino" in sys.modules and "onnxruntime" in sys.modules
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
