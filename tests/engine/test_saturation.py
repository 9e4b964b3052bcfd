"""INT8 products on CPUs with and without dot products of bytes; the latter by oneDNN's own limit."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from rtpsp import machine
from rtpsp.engine import BACKENDS
from rtpsp.engine.saturation import FULL_WEIGHT, SAFE_WEIGHT, product_error, saturates, why_saturates
from rtpsp.errors import EngineFileError
from rtpsp.runtimes import installed_version

DOT_PRODUCTS = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"}
X86 = machine.cpu().architecture.lower() in ("x86_64", "amd64")
LIMIT = os.environ.get("ONEDNN_MAX_CPU_ISA")
ON_CPUS = [name for name, backend in BACKENDS.items() if not backend.gpu and installed_version(backend.package)]

PROGRAM = """
import json
from rtpsp.engine.saturation import *
weights = [127, 65, 64]
print(json.dumps({"errors": [[product_error("openvino", weight, signed) for weight in weights]
                             for signed in (False, True)], "why": why_saturates("openvino")}))
"""


@pytest.mark.skipif(not X86 or LIMIT is not None, reason="only on x86-64 do the features tell")
@pytest.mark.parametrize("backend", ON_CPUS)
def test_the_verdict_is_that_of_the_processors_features(backend: str) -> None:
    """Measured and told apart: a kernel that leaves VNNI unused would be found."""
    assert saturates(backend) == (not DOT_PRODUCTS & machine.cpu().features)
    assert (why_saturates(backend) is None) == (not saturates(backend))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("backend", ON_CPUS)
def test_seven_bits_are_exact_on_every_processor(backend: str, signed: bool) -> None:
    assert product_error(backend, SAFE_WEIGHT, signed) == 0


@pytest.mark.skipif(not X86, reason="the limit is one of x86-64")
def test_without_dot_products_eight_bits_saturate_and_seven_do_not() -> None:
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    unsigned, signed = told["errors"]
    assert unsigned[0] == pytest.approx(1 - 32767 / (2 * 255 * FULL_WEIGHT), abs=0.01)
    assert signed[0] > 0.9, "what 128 too many in each activation adds is subtracted in full, but was not added"
    assert unsigned[1] > 0 and signed[1] > 0 and unsigned[2] == signed[2] == 0
    assert told["why"].startswith("openvino adds INT8 products in 16 bits")
    assert "ONEDNN_MAX_CPU_ISA=AVX2" in told["why"] or "no dot product" in told["why"]


def test_a_backend_that_is_unknown() -> None:
    with pytest.raises(EngineFileError, match="coreml"):
        saturates("coreml")
