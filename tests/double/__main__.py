"""pytest, with the double as the driver."""

from __future__ import annotations

import subprocess
import sys

from tests.double import compile_double, environment

sys.exit(subprocess.run([sys.executable, "-m", "pytest", *sys.argv[1:]], env=environment(compile_double())).returncode)
