"""How far TensorRT's builder is, as one number that only grows, and how the builder is told to stop.

It reports phases within phases, each of so many steps, to an ``IProgressMonitor``. Steps say little of time: on a GPU
nearly all of it goes into one phase deep down, in which candidates for each layer are timed. So a phase that is known
to lead there gives most of itself to the one inside it that does. Of other phases, each gets half of what is left of
the step that it lies in. Names "may change between versions of TensorRT", says its documentation: then the share grows
less evenly, no more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast

from rtpsp.engine import tensorrt_types as types
from rtpsp.engine.tensorrt_api import TensorRT

LONG = ("Building engine", "Building engine from subgraph", "Computing profile costs", "Timing tactics")
"""The phases on the way to where the time goes, outermost first, as TensorRT-RTX 1.7 names them."""
LONGEST = "Timing graph nodes"

_MOST = 0.95


@dataclass
class _Phase:
    """A phase that is open.

    Attributes:
        parent: The phase that it lies in.
        done: Steps that are done.
        within: Share that is done of the step that it is at.
        long: Share that is done of what leads to `LONGEST`.
    """

    name: str
    steps: int
    parent: _Phase | None
    done: int = 0
    within: float = 0.0
    long: float = 0.0

    @property
    def share(self) -> float:
        steps = min(1.0, (self.done + self.within) / self.steps)
        return (1 - _MOST) * steps + _MOST * self.long if self.name in LONG else steps

    def with_inner(self, name: str, share: float) -> _Phase:
        """This phase, with a share done of another inside it."""
        if self.name in LONG and name in (*LONG, LONGEST):
            return replace(self, long=self.long + (1 - self.long) * _MOST * share)
        return replace(self, within=self.within + (1 - self.within) * 0.5 * share)


@dataclass
class Phases:
    """The phases that are open, and the share of the whole that they come to; any thread may call it.

    Attributes:
        told: Is called with the name of a phase and the share of the whole that is done, 0 to 1, at each change.
    """

    told: Callable[[str, float], None]
    _open: dict[str, _Phase] = field(default_factory=dict)
    _whole: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase begins, inside another or as the outermost."""
        with self._lock:
            self._open[name] = _Phase(name, max(1, steps), self._open.get(parent) if parent else None)
            self._tell(self._open[name])

    def step(self, name: str, step: int) -> None:
        """A phase's step, counted from 0, is done."""
        with self._lock:
            if phase := self._open.get(name):
                phase.done, phase.within = max(phase.done, step + 1), 0.0
                self._tell(phase)

    def finish(self, name: str) -> None:
        """A phase ends, perhaps before its last step."""
        with self._lock:
            if (phase := self._open.pop(name, None)) and (outer := phase.parent):
                grown = outer.with_inner(name, 1.0)
                outer.within, outer.long = grown.within, grown.long
                self._tell(outer)

    def _tell(self, phase: _Phase) -> None:
        name = phase.name
        while outer := phase.parent:
            phase = outer.with_inner(phase.name, phase.share)
        self._whole = max(self._whole, phase.share)
        self.told(name, self._whole)


def make_monitor(trt: TensorRT, phases: Phases, cancelled: threading.Event) -> types.IProgressMonitor:
    """An ``IProgressMonitor`` for a build; it must outlive the configuration that it is set in.

    Args:
        trt: A flavour's module.
        phases: Is told what the builder is at.
        cancelled: Once it is set, the builder ends at its next step and gives nothing.
    """
    base: Any = trt.IProgressMonitor

    class Monitor(base):  # type: ignore[misc]  # its base is a value
        def __init__(self) -> None:
            super().__init__()  # TensorRT's classes insist on it

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            phases.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            phases.step(phase_name, step)
            return not cancelled.is_set()

        def phase_finish(self, phase_name: str) -> None:
            phases.finish(phase_name)

    return cast(types.IProgressMonitor, Monitor())
