"""A part of the check: what it is called, what it needs, how long it may take, and what it is handed."""

from __future__ import annotations

import importlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

Results = Mapping[str, Mapping[str, Any]]
"""What earlier parts left, by the part's name: `status`, `reason` or `error`, `data`."""
Need = Callable[[Results], str]
"""Why a part cannot run, after what earlier parts found; empty where it can."""
T = TypeVar("T")
WARM_SECONDS = 0.2
"""As trtexec warms up: a GPU that has idled runs at a fraction of its clock, and takes tens of ms to raise it."""
MOST_SECONDS = 4.0
"""What is timed is not repeated for longer, be it only `LEAST_RUNS` times."""
LEAST_RUNS = 20


class Skip(Exception):
    """A part found out by itself that it cannot run here; the text says why."""


@dataclass
class Job:
    """What a part is handed.

    Attributes:
        arguments: Of the part, e.g. a flavour and a network.
        work: Folder that all parts share: models and engines that one leaves for the next.
        results: What earlier parts found.
        quick: Few repetitions: the figures mean nothing, the way to them is what is tried.
    """

    arguments: tuple[str, ...]
    work: Path
    results: Results
    quick: bool = False
    report: Path | None = None
    data: dict[str, Any] = field(default_factory=dict)

    def keep(self, **figures: Any) -> None:
        """Adds figures and writes down all so far: they survive whatever ends this process."""
        self.data |= figures
        if self.report is not None:
            write_json(self.report, {"status": "unfinished", "data": self.data})

    @property
    def runs(self) -> int:
        """How often what is timed runs, after warm-up."""
        return 10 if self.quick else 300

    @property
    def warm(self) -> int:
        """How often it runs before that at least."""
        return 2 if self.quick else 20

    def warm_up(self, work: Callable[[], Any]) -> None:
        """Runs what is to be timed, which waits for the device, `warm` times and for `WARM_SECONDS`."""
        end = time.monotonic() + (0 if self.quick else WARM_SECONDS)
        turn = 0
        while turn < self.warm or time.monotonic() < end:
            work()
            turn += 1

    def repeated(self, work: Callable[[int], T]) -> list[T]:
        """Warms up, then gives what each of `runs` turns gives that is told its number, or as many as time allows."""
        self.warm_up(lambda: work(0))
        end, found = time.monotonic() + MOST_SECONDS, []
        for turn in range(self.runs):
            found.append(work(turn))
            if turn + 1 >= LEAST_RUNS and time.monotonic() > end:
                break
        return found


@dataclass(frozen=True)
class Part:
    """One line of the table.

    Attributes:
        name: As ``--only`` and the JSON call it.
        function: ``module:function`` in this folder; imported in the part's own process alone.
        limit: Seconds after which it is ended.
        needs: Asked in turn; the first that objects has the part recorded as skipped.
        arguments: Handed to the function as `Job.arguments`.
        after: Parts whose results it looks at: ``--only`` runs them, too.
    """

    name: str
    function: str
    limit: float
    needs: tuple[Need, ...] = ()
    arguments: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    def why_not(self, results: Results) -> str:
        """The first objection of what it needs; empty where there is none. A need that raises is one."""
        try:
            return next(filter(None, (need(results) for need in self.needs)), "")
        except Exception as error:  # whatever the packages of a machine come up with: the other parts go on
            return f"what it needs could not be asked: {type(error).__name__}: {error}"

    def load(self) -> Callable[[Job], dict[str, Any] | None]:
        """The function."""
        module, _, name = self.function.partition(":")
        function: Callable[[Job], dict[str, Any] | None] = getattr(importlib.import_module(f"gpu.{module}"), name)
        return function


def write_json(path: Path, values: Any) -> None:
    """Writes a JSON file as a whole or not at all."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(values, file, indent=1, default=_plain)
        file.write("\n")
    os.replace(name, path)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # NumPy's numbers and arrays
        return value.tolist()
    return str(value)


def rounded(value: float, digits: int = 4) -> float:
    """To so many significant digits: what is behind them is noise."""
    return float(f"{value:.{digits}g}")


def figures(milliseconds: list[float]) -> dict[str, float | int]:
    """Median, p90, p99 and least of durations in milliseconds. p99 is given from 200 runs on, with 2 of them beyond."""
    from rtpsp.timing import quantile

    ordered = sorted(milliseconds)
    shares = {"median_ms": 0.5, "p90_ms": 0.9, **({"p99_ms": 0.99} if len(ordered) >= 200 else {})}
    found: dict[str, float | int] = {key: rounded(quantile(ordered, share)) for key, share in shares.items()}
    return {**found, "min_ms": rounded(ordered[0]), "runs": len(ordered)}
