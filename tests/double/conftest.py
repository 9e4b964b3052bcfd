"""Fixtures on the driver's double."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator

import pytest

from tests.double import LIBRARY, Double

ON_THE_DOUBLE = LIBRARY in os.environ
collect_ignore_glob = [] if ON_THE_DOUBLE else ["test_*.py"]

if ON_THE_DOUBLE:
    # PyCUDA is linked to every function of the driver, of which the double has those that are called.
    sys.setdlopenflags(os.RTLD_LAZY)
    if importlib.util.find_spec("pycuda") is None:
        from tests.double import pycuda_double

        pycuda_double.install()


@pytest.fixture
def double() -> Iterator[Double]:
    """The driver's double, as new; at the end nothing may be left on it."""
    double = Double()
    double.reset()
    yield double
    assert double.left() == {}


@pytest.fixture(params=["cuda-python", "pycuda"])
def binding(request: pytest.FixtureRequest) -> str:
    """Each binding of CUDA."""
    return str(request.param)
