"""PSPNets of random weights at full width, exported once for all the tests that build them."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from rtpsp.labels import CAMVID
from rtpsp.spec import ModelSpec

if TYPE_CHECKING:
    import onnx_ir as ir

SIZE = (96, 128)


@lru_cache
def full_width(arch: str) -> tuple[ir.Model, ModelSpec]:
    """The graph of a model file, which nobody may change, and its spec."""
    from rtpsp.model.export import to_onnx
    from rtpsp.model.pspnet import build
    from rtpsp.model.synthetic import randomise_statistics

    network = build(arch, len(CAMVID))
    randomise_statistics(network)
    spec = ModelSpec(arch, arch, *SIZE, CAMVID)
    return to_onnx(network, spec), spec
