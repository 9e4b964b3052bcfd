"""Engines of one model for one backend, made in memory: with its head plain or split, in any precision."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rtpsp.comparison import Ratio
from rtpsp.engine import engine_class
from rtpsp.engine.base import Engine, EngineOptions
from rtpsp.errors import BoundNotMet
from rtpsp.header import EngineHeader, Precision
from rtpsp.timing import now

if TYPE_CHECKING:
    import onnx_ir as ir

    from rtpsp.calibration_cache import CalibrationCache
    from rtpsp.graph.lower import Head, Tail
    from rtpsp.graph.quantize import IntegerFormat
    from rtpsp.graph.verify import Frames, Outputs
    from rtpsp.spec import ModelSpec

_log = logging.getLogger(__name__)

RACE_ROUNDS = 10
"""Inferences of each engine that a race counts."""


@dataclass(frozen=True)
class Form:
    """What is to be made.

    Attributes:
        precision: Of the convolutions.
        head: Plain or split.
        keep: With INT8, names of convolutions that stay in floating point.
    """

    precision: Precision
    head: Head = "plain"
    keep: frozenset[str] = frozenset()


class Maker:
    """Lowers a model once for each head, and makes engines of it.

    Args:
        graph: Of a model file.
        spec: Of the same file.
        header: What every engine's header says, but for precision and form.
        frames: uint8 [n, H, W, 3] BGR that the lowering is verified with.
        tail: What gives the class map.
        threads: CPU threads; 0 leaves them to the backend.
    """

    def __init__(
        self, graph: ir.Model, spec: ModelSpec, header: EngineHeader, frames: Frames, tail: Tail, threads: int = 0
    ) -> None:
        self.graph, self.spec, self.header, self.frames = graph, spec, header, frames
        self.tail, self.threads = tail, threads
        self.ranges: CalibrationCache | None = None
        self.integers: IntegerFormat | None = None
        self._lowered: dict[str, ir.Model] = {}
        self._answers: Outputs | None = None

    @property
    def answers(self) -> Outputs:
        """The model's own answers to the frames, in FP32 by ONNX Runtime."""
        from rtpsp.graph.verify import run

        if self._answers is None:
            self._answers = run(self.graph, self.spec, self.frames, self.threads)
        return self._answers

    def lowered(self, head: Head) -> ir.Model:
        """The FP32 graph of frames in, verified against the model's.

        Raises:
            HeadNotFound: There is no head to split.
            BoundNotMet: Lowering changed the answers.
        """
        from rtpsp.graph.lower import lower

        if head not in self._lowered:
            confidence = bool(self.header.options.get("confidence", False))
            self._lowered[head] = lower(
                self.graph, self.spec, head=head, tail=self.tail, confidence=confidence, frames=self.frames,
                reference=self.answers, threads=self.threads,
            )  # fmt: skip
        return self._lowered[head]

    def graph_of(self, form: Form) -> ir.Model:
        """The graph that an engine of this form runs."""
        graph = self.lowered(form.head)
        if form.precision != "int8":
            return graph
        from rtpsp.graph.quantize import quantise

        assert self.ranges is not None
        return quantise(graph, self.ranges.ranges, self.integers, form.keep)

    def make(self, form: Form) -> tuple[EngineHeader, bytes]:
        """What stands in an engine file of this form."""
        from rtpsp.graph.lower import model_bytes

        options: dict[str, Any] = {**self.header.options, "head": form.head, "tail": self.tail}
        if form.precision == "int8":
            assert self.integers is not None
            told = {"integers": str(self.integers), "weight_bits": self.integers.weight_bits, "scales": "fp32"}
            options["int8"] = told
        header = replace(self.header, precision=form.precision, options=options)
        return header, model_bytes(self.graph_of(form))

    def engine(self, form: Form) -> Engine:
        """An engine of this form, not open."""
        header, payload = self.make(form)
        return engine_class(header.backend)(header, payload, EngineOptions(threads=self.threads))

    def int8_without(self, head: Head, keep: Collection[str]) -> Engine:
        """An INT8 engine in which these convolutions stay in floating point, not open."""
        return self.engine(Form("int8", head, frozenset(keep)))

    def race(self, first: Form, second: Form) -> Ratio:
        """Latency of the first over that of the second, both open and asked in turn, pair by pair."""
        seconds: tuple[list[float], list[float]] = ([], [])
        frame = self.frames[:1]
        with self.engine(first) as one, self.engine(second) as other:
            for number in range(RACE_ROUNDS + 2):
                for engine, taken in zip((one, other), seconds, strict=True):
                    begin = now()
                    engine.infer(frame)
                    if number >= 2:
                        taken.append(now() - begin)
        return Ratio.of(*seconds)


def choose_head(maker: Maker, asked: str, precision: Precision) -> tuple[Head, str]:
    """The head to build, and why in words.

    Args:
        maker: Of the model.
        asked: ``plain``, ``split``, or ``auto``, which takes the faster on this machine.
        precision: In which they are compared.

    Raises:
        HeadNotFound: A split one was asked for, and the model has none to split.
        BoundNotMet: A split one was asked for, and it does not answer as the plain one does.
    """
    from rtpsp.graph.pyramid import HeadNotFound

    if asked == "plain":
        return "plain", "plain head, as asked for"
    try:
        maker.lowered("split")
    except (HeadNotFound, BoundNotMet) as error:
        if asked == "split":
            raise
        _log.info("%s", error)
        return "plain", f"plain head: {error}"
    if asked == "split":
        return "split", "split head, as asked for"
    ratio = maker.race(Form(precision, "plain"), Form(precision, "split")).median
    if ratio > 1:
        return "split", f"split head: {ratio:.2f}x as fast as the plain one here (median of {RACE_ROUNDS} pairs)"
    return "plain", f"plain head: {1 / ratio:.2f}x as fast as the split one here (median of {RACE_ROUNDS} pairs)"
