"""Engines of one model for one backend, made in memory: with its head plain or split, in any precision."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from rtpsp.comparison import Ratio
from rtpsp.engine import BACKENDS, engine_class, why_not_here
from rtpsp.engine.base import Engine, EngineOptions
from rtpsp.engine.compatibility import judge
from rtpsp.engine.tensorrt_builder import Plan, build_plan
from rtpsp.engine.tensorrt_options import PlanOptions
from rtpsp.errors import BoundNotMet, EngineFileError, MissingError
from rtpsp.header import EngineHeader, Precision, Target
from rtpsp.timing import now

if TYPE_CHECKING:
    import onnx_ir as ir

    from rtpsp.calibration_cache import CalibrationCache
    from rtpsp.graph.lower import Head, Tail
    from rtpsp.graph.quantize import IntegerFormat
    from rtpsp.graph.verify import Frames, Outputs
    from rtpsp.spec import ModelSpec

_log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""

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
        frames: uint8 [n, H, W, planes] that the lowering is verified with.
        tail: What gives the class map.
        threads: CPU threads; 0 leaves them to the backend.
        plan: What TensorRT's builder is told.
        progress: Told of the builder's phases, in percent.
    """

    def __init__(
        self,
        graph: ir.Model,
        spec: ModelSpec,
        header: EngineHeader,
        frames: Frames,
        tail: Tail,
        threads: int = 0,
        plan: PlanOptions | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.graph, self.spec, self.header, self.frames = graph, spec, header, frames
        self.tail, self.threads = tail, threads
        self.backend = BACKENDS[header.backend]
        self.ranges: CalibrationCache | None = None
        self.integers: IntegerFormat | None = None
        self._options, self._progress = plan, progress
        self._batch = int(header.options.get("batch", 1))
        self._lowered: dict[tuple[Head, int], ir.Model] = {}
        self._plans: dict[Form, Plan] = {}
        self._answers: Outputs | None = None

    @property
    def answers(self) -> Outputs:
        """The model's own answers to the frames, in FP32 by ONNX Runtime."""
        from rtpsp.graph.verify import run

        if self._answers is None:
            self._answers = run(self.graph, self.spec, self.frames, self.threads)
        return self._answers

    @property
    def measures_with(self) -> str:
        """The backend whose engines tell what a form costs in accuracy.

        It is ONNX Runtime for a GPU: the machine that builds may have none, and choosing what stays in floating point
        takes an engine for each part, of which TensorRT's builder takes minutes.
        """
        return "onnxruntime" if self.backend.gpu else self.header.backend

    @cached_property
    def why_not_here(self) -> str | None:
        """Why this machine cannot run the engines, in words; None where it can, as far as can be told without one."""
        if not self.backend.gpu:
            return None
        reason = why_not_here(self.header.backend)
        if reason is None and self.backend.plan:
            reason = "; ".join(judge(self.header, self.backend.package).refusals) or None
        return reason

    def lowered(self, head: Head, batch: int = 1) -> ir.Model:
        """The FP32 graph of frames in, verified against the model's.

        One that takes more frames than there are is verified as the one that takes these: a thousand frames at a time
        would be gigabytes for ONNX Runtime, and tell no more.

        Raises:
            HeadNotFound: There is no head to split.
            BoundNotMet: Lowering changed the answers.
        """
        from rtpsp.graph.lower import lower

        if (head, batch) not in self._lowered:
            verified = batch <= len(self.frames)
            if not verified:
                self.lowered(head, len(self.frames))
            confidence = bool(self.header.options.get("confidence", False))
            self._lowered[head, batch] = lower(
                self.graph, self.spec, batch, head=head, tail=self.tail, confidence=confidence, verify=verified,
                frames=self.frames, reference=self.answers if verified else None, threads=self.threads,
            )  # fmt: skip
        return self._lowered[head, batch]

    def graph_of(self, form: Form, batch: int | None = None) -> ir.Model:
        """The graph that an engine of this form runs: for a GPU in the types that it computes in, to the last cast.

        Args:
            form: Of the engine.
            batch: Frames of one inference, other than the engine's own.
        """
        graph = self._quantised(form, batch or self._batch)
        if self.backend.gpu and form.precision != "fp32":
            from rtpsp.graph.precision import to_half

            graph = to_half(graph)
        if self.backend.plan:
            from rtpsp.graph.tensorrt import to_tensorrt

            graph = to_tensorrt(graph)
        return graph

    def _quantised(self, form: Form, batch: int) -> ir.Model:
        graph = self.lowered(form.head, batch)
        if form.precision != "int8":
            return graph
        from rtpsp.graph.quantize import quantise

        assert self.ranges is not None
        return quantise(graph, self.ranges.ranges, self.integers, form.keep)

    def make(self, form: Form) -> tuple[EngineHeader, bytes]:
        """What stands in an engine file of this form: of a TensorRT flavour its plan, else the graph."""
        from rtpsp.graph.lower import model_bytes

        header = self._header(form)
        if not self.backend.plan:
            return header, model_bytes(self.graph_of(form))
        if form not in self._plans:
            self._plans[form] = build_plan(
                header.backend, model_bytes(self.graph_of(form)), self._options, self._tell_phase
            )
        plan = self._plans[form]
        return replace(header, target=plan.target, versions={**header.versions, **plan.versions}), plan.data

    def notes(self, form: Form) -> tuple[str, ...]:
        """What TensorRT's builder has to tell of a form that was made."""
        return self._plans[form].notes if form in self._plans else ()

    def _header(self, form: Form) -> EngineHeader:
        options: dict[str, Any] = {**self.header.options, "head": form.head, "tail": self.tail}
        if form.precision == "int8":
            assert self.integers is not None
            scales = "fp16" if self.backend.gpu else "fp32"
            told = {"integers": str(self.integers), "weight_bits": self.integers.weight_bits, "scales": scales}
            options["int8"] = told
        return replace(self.header, precision=form.precision, options=options)

    def _tell_phase(self, phase: str, share: float) -> None:
        if self._progress is not None:
            self._progress(f"{self.header.backend}: {phase}", round(100 * share), 100)

    def engine(self, form: Form) -> Engine:
        """An engine of this form, not open."""
        header, payload = self.make(form)
        return engine_class(header.backend)(header, payload, EngineOptions(threads=self.threads))

    def measured(self, form: Form) -> Engine:
        """An engine of `measures_with` that answers as one of this form does, a frame at a time; not open.

        For a GPU the graph is the same but for FP16: its Q/DQ nodes have FP32 scales, and all between them is FP32.
        """
        from rtpsp.graph.lower import model_bytes

        header = self._header(form)
        options = {**header.options, "batch": 1}
        if self.measures_with != header.backend:
            options.pop("int8", None)  # by which ONNX Runtime would multiply integers, which may saturate on this CPU
        header = replace(header, backend=self.measures_with, options=options, target=Target())
        payload = model_bytes(self._quantised(form, batch=1))
        return engine_class(header.backend)(header, payload, EngineOptions(threads=self.threads))

    def int8_without(self, head: Head, keep: Collection[str]) -> Engine:
        """An INT8 engine, as `measured` gives it, in which these convolutions stay in floating point."""
        return self.measured(Form("int8", head, frozenset(keep)))

    def batch_of_frames(self) -> Frames:
        """The frames, over and over until they fill a batch."""
        return np.ascontiguousarray(self.frames[np.arange(self._batch) % len(self.frames)])

    def race(self, first: Form, second: Form) -> Ratio:
        """Latency of the first over that of the second, both open and asked in turn, pair by pair."""
        seconds: tuple[list[float], list[float]] = ([], [])
        frames = self.batch_of_frames()
        with self.engine(first) as one, self.engine(second) as other:
            for number in range(RACE_ROUNDS + 2):
                for engine, taken in zip((one, other), seconds, strict=True):
                    begin = now()
                    engine.infer(frames)
                    if number >= 2:
                        taken.append(now() - begin)
        return Ratio.of(*seconds)


_UNTIMED: tuple[Head, str] = ("plain", "plain head: it could not be timed against a split one here (--head split)")


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
    if asked == "auto" and maker.why_not_here is not None:
        _log.info("heads are not timed: %s", maker.why_not_here)
        return _UNTIMED
    try:
        maker.lowered("split")
    except (HeadNotFound, BoundNotMet) as error:
        if asked == "split":
            raise
        _log.info("%s", error)
        return "plain", f"plain head: {error}"
    if asked == "split":
        return "split", "split head, as asked for"
    try:
        ratio = maker.race(Form(precision, "plain"), Form(precision, "split")).median
    except (EngineFileError, MissingError) as error:
        if not maker.backend.gpu:
            raise
        _log.info("heads are not timed: %s", error)
        return _UNTIMED
    if ratio > 1:
        return "split", f"split head: {ratio:.2f}x as fast as the plain one here (median of {RACE_ROUNDS} pairs)"
    return "plain", f"plain head: {1 / ratio:.2f}x as fast as the split one here (median of {RACE_ROUNDS} pairs)"
