"""The contract of CUDA's bindings on a device."""

from __future__ import annotations

from tests.double.cuda_contract import CudaContract


class TestContract(CudaContract):
    pass
