"""A run of the whole loop against a server of this folder, for the long runs under ``bench/``."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from rtpsp.engine.base import Engine
from rtpsp.engine.fake import FakeEngine
from rtpsp.errors import UsageError
from rtpsp.live import RunOptions, open_pipeline
from rtpsp.stream.report import RunReport
from rtpsp.stream.sink import NullSink
from rtpsp.timing import quantile
from tests.servers.launch import Camera, Kind, Server, save_frames
from tests.servers.truth import Held, Seen, TimeCodes

PATIENCE = 60.0


class Shown(NullSink):
    """Asks for the overlay and does nothing with it."""

    view = "overlay"


def to_engine(name: str) -> Engine | Path:
    """``fake:8`` sleeps, eight frames a second; ``real`` is the shipped model; anything else an engine file."""
    if name.startswith("fake:"):
        rate = name.removeprefix("fake:")
        if not rate.isdigit() or rate == "0":
            raise UsageError(f"engine {name}: expected frames a second, such as fake:8")
        return FakeEngine(latency=1 / int(rate))
    if name == "real":
        from rtpsp.default import default_engine

        return default_engine()
    return Path(name)


class Running:
    """A run in a thread of its own, from entering to leaving; the time code of each picture is read.

    Args:
        source: URI.
        engine: As `to_engine`.
        options: How it runs.
    """

    report: RunReport
    """Once it is left."""

    def __init__(self, source: str, engine: str, options: RunOptions | None = None) -> None:
        self.codes = TimeCodes()
        self.pipeline = open_pipeline(source, to_engine(engine), [Shown(), self.codes], options)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="run")

    def check(self) -> None:
        """Raises what the run raised; `RuntimeError` where it ended without an error."""
        if not self._thread.is_alive():
            raise self._error or RuntimeError(f"the run is over: {self.report.ended}")

    def __enter__(self) -> Running:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.pipeline.stop("measured")
        self._thread.join(PATIENCE)
        if self._error and error is None:
            raise self._error

    def _run(self) -> None:
        try:
            self.pipeline.run()
        except BaseException as error:
            self._error = error
        self.report = self.pipeline.report()


@contextmanager
def serving(kind: Kind, video: Path | None, size: tuple[int, int], fps: int) -> Iterator[Server]:
    """A server of a video's pictures, again and again; of a grey ramp without one.

    Args:
        kind: Which server.
        video: What OpenCV reads.
        size: (height, width).
        fps: Pictures a second.
    """
    height, width = size
    with tempfile.TemporaryDirectory() as folder:
        frames = save_frames(video, Path(folder) / "frames.i420", width, height) if video else None
        with Server(kind, Camera(width, height, fps, frames=frames)) as server:
            yield server


def figures(seen: list[Seen]) -> dict[str, Any]:
    """Ages of pictures in milliseconds, by the time code and as reported, and how far the two are apart.

    The p99 of a minute rests on few pictures at a low rate (five of 480): the largest age stands beside it.
    """
    known = [item for item in seen if item.exposed is not None]
    return {
        "pictures": len(seen),
        "unread": len(seen) - len(known),
        "true_ms": _quantiles([item.shown - item.exposed for item in known if item.exposed is not None]),
        "reported_ms": _quantiles([item.shown - item.captured for item in seen]),
        "told_too_young_ms": _quantiles([item.captured - item.exposed for item in known if item.exposed is not None]),
    }


def _quantiles(seconds: list[float]) -> dict[str, float] | None:
    if not seconds:
        return None
    ordered = sorted(seconds)
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {name: round(quantile(ordered, share) * 1e3, 1) for name, share in shares.items()}


def save(path: Path, result: dict[str, Any], rows: str) -> None:
    """Writes a result as JSON, each of its many rows in one line.

    Args:
        path: The file.
        result: What the benchmark found.
        rows: The key of a list in it.
    """
    lines = ",\n".join(f"  {json.dumps(row)}" for row in result[rows])
    rest = json.dumps({name: value for name, value in result.items() if name != rows}, indent=1)
    path.write_text(f'{rest[:-2]},\n "{rows}": [\n{lines}\n ]\n}}\n', encoding="utf-8")


def holding(held: Held) -> dict[str, float]:
    """As JSON; memory in MB of 10^6 bytes."""
    return {"threads": held.threads, "files": held.files, "memory_mb": round(held.memory / 1e6, 1)}


def counts(report: RunReport) -> dict[str, Any]:
    """Where the frames went, and whether it adds up."""
    frames = report.frames
    rest = frames.received - frames.shown - sum(frames.dropped.values()) - frames.discarded
    return {
        "received": frames.received,
        "shown": frames.shown,
        "dropped": frames.dropped,
        "discarded": frames.discarded,
        "missed": frames.missed,
        "unaccounted": rest,
    }
