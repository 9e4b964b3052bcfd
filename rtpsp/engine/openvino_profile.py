"""OpenVINO's times of layers: its performance counters, read after each inference."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rtpsp.arrays import Image
from rtpsp.engine.base import Answer, Result
from rtpsp.engine.openvino_backend import OpenVINOEngine
from rtpsp.engine.profile import BYTES, ProfiledEngine, RanLayer

if TYPE_CHECKING:
    import openvino as ov


class ProfiledOpenVINOEngine(OpenVINOEngine, ProfiledEngine):
    """A graph that was compiled with counters.

    They hold means over all inferences since then, in whole microseconds. So what one inference took is a difference of
    sums, which is wrong by up to as many microseconds as there were inferences; over inferences that follow each other
    these errors cancel out.
    """

    _more_settings: Mapping[str, Any] = {"PERF_COUNT": True}

    def _open(self) -> str:
        self._inferences = 0
        self._counted: list[dict[str, float]] = []
        return super()._open()

    def _finish(self, work: tuple[ov.InferRequest, Image]) -> Answer:
        self._inferences += 1
        return super()._finish(work)

    def infer_counted(self, frames: Image) -> Result:
        """See `ProfiledEngine.infer_counted`."""
        before = self._sums()
        result = self.infer(frames)
        after = self._sums()
        self._counted.append({name: max(0.0, total - before.get(name, 0.0)) for name, total in after.items()})
        return result

    def layers(self) -> tuple[RanLayer, ...]:
        """See `ProfiledEngine.layers`."""
        assert self._compiled is not None and self._counted
        ran = set().union(*self._counted)
        nodes = self._compiled.get_runtime_model().get_ordered_ops()
        return tuple(
            # A layer of less than a microsecond can count as one that did not run, until it took longer once.
            _layer(node, tuple(counted.get(node.get_friendly_name(), 0.0) for counted in self._counted))
            for node in nodes
            if node.get_friendly_name() in ran
        )

    def _sums(self) -> dict[str, float]:
        """Seconds that each layer has taken so far in all; those that never run are left out."""
        if not self._inferences:
            return {}
        return {
            info.node_name: info.real_time.total_seconds() * self._inferences
            for info in self._free[0].get_profiling_info()
            if info.status.name == "EXECUTED"
        }


def _layer(node: ov.Node, seconds: tuple[float, ...]) -> RanLayer:
    told = _told(node)
    sizes = [_bytes(value) for value in (*node.input_values(), *node.outputs())]
    return RanLayer(
        name=node.get_friendly_name(),
        kind=told["layerType"],
        format=told["runtimePrecision"],
        sources=tuple(filter(None, told.get("originalLayersNames", "").split(","))),
        seconds=seconds,
        bytes=None if None in sizes else sum(filter(None, sizes)),
    )


def _told(node: ov.Node) -> dict[str, str]:
    return {key: str(value.value) for key, value in node.get_rt_info().items()}


def _bytes(value: ov.Output) -> int | None:
    shape = value.get_partial_shape()
    if shape.is_dynamic:
        return None
    told = _told(value.get_node())
    formats = (told.get("outputPrecisions") or told["runtimePrecision"]).split(",")  # one where all are the same
    kind = formats[value.get_index()] if len(formats) > 1 else formats[0]
    values = math.prod(shape.to_shape())
    return values * BYTES[kind] if kind in BYTES else (None if values else 0)
