"""A run as Prometheus metrics, read from a snapshot each time that somebody asks.

Names and units follow Prometheus' conventions: seconds, a suffix ``_total`` on what only grows. The label ``source`` is
the source's URI without secrets.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from rtpsp.outside.condition import names_of, silent_for
from rtpsp.redaction import scrub
from rtpsp.stream.snapshot import Snapshot, SourceSnapshot
from rtpsp.timing import BOUNDS, Series, now

_Value = Callable[[SourceSnapshot], float | None]
_Values = Callable[[SourceSnapshot], Mapping[str, float]]

_COUNTERS: tuple[tuple[str, str, _Value], ...] = (
    ("rtpsp_frames_received_total", "Frames that the source gave.", lambda source: source.received),
    ("rtpsp_frames_shown_total", "Frames that every sink had.", lambda source: source.shown),
    ("rtpsp_frames_missed_total", "Frames lost before they could be read.", lambda source: source.missed),
    ("rtpsp_frames_late_total", "Frames not decoded because they were too old.", lambda source: source.health.late),
    ("rtpsp_source_reconnects_total", "How often the source came back.", lambda source: source.health.reconnects),
    ("rtpsp_source_downtime_seconds_total", "Seconds without the source.", lambda source: _downtime(source)),
)
_COUNTERS_BY: tuple[tuple[str, str, str, _Values], ...] = (
    (
        "rtpsp_frames_dropped_total", "stage", "Frames that a newer one replaced, by what they waited for.",
        lambda source: source.dropped,
    ),
    ("rtpsp_source_faults_total", "kind", "Faults, failed tries included.", lambda source: source.health.faults),
    ("rtpsp_source_stamps_total", "kind", "Time stamps put in order.", lambda source: source.health.stamps),
)  # fmt: skip
_GAUGES: tuple[tuple[str, str, _Value], ...] = (
    ("rtpsp_fps", "Frames shown a second, over the last seconds.", lambda source: source.fps),
    ("rtpsp_last_age_seconds", "Age of the last frame when it was shown.", lambda source: source.last_age),
    ("rtpsp_seconds_since_frame", "Since a frame was shown, or else since it was opened or lost.", silent_for),
    ("rtpsp_source_present", "1 while frames are expected to come.", lambda source: source.health.present),
    ("rtpsp_source_ended", "1 once it gives no more frames.", lambda source: bool(source.ended)),
)  # fmt: skip


class RunCollector(Collector):
    """Turns a snapshot into metrics.

    Args:
        snapshot: Called at each collection, from the thread that asks.
    """

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot

    def describe(self) -> Iterable[Metric]:
        """None: the names need no check against those of other collectors, and a run none before its time."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """All metrics of this moment."""
        snapshot = self._snapshot()
        sources = list(zip(names_of(snapshot.sources), snapshot.sources, strict=True))
        for name, text, value_of in _COUNTERS:
            counter = CounterMetricFamily(name, text, labels=("source",))
            for label, source in sources:
                counter.add_metric((label,), value_of(source) or 0)
            yield counter
        for name, kind, text, values_of in _COUNTERS_BY:
            counter = CounterMetricFamily(name, text, labels=("source", kind))
            for label, source in sources:
                for key, count in list(values_of(source).items()):  # a copy: the source's thread may add a kind
                    counter.add_metric((label, key), count)
            yield counter
        for name, text, value_of in _GAUGES:
            gauge = GaugeMetricFamily(name, text, labels=("source",))
            for label, source in sources:
                if (value := value_of(source)) is not None:
                    gauge.add_metric((label,), value)
            yield gauge
        yield _histograms(
            "rtpsp_age_seconds", "From seen to shown.", "source", {label: source.age for label, source in sources}
        )
        yield _histograms("rtpsp_stage_seconds", "Work of each stage on a frame.", "stage", snapshot.stages)
        yield from _of_the_run(snapshot)


def to_registry(snapshot: Callable[[], Snapshot]) -> CollectorRegistry:
    """A registry of its own with the run and, on Linux, the process: memory, CPU time, open files."""
    registry = CollectorRegistry()
    registry.register(RunCollector(snapshot))
    ProcessCollector(registry=registry)
    return registry


def _of_the_run(snapshot: Snapshot) -> Iterable[Metric]:
    drops = CounterMetricFamily(
        "rtpsp_sink_dropped_total", "Pictures that an output was too slow for.", labels=["output"]
    )
    for output, count in snapshot.sink_drops.items():
        drops.add_metric((scrub(output),), count)
    yield drops
    yield GaugeMetricFamily("rtpsp_outputs_failed", "Outputs that ended while the run goes on.", len(snapshot.failures))
    yield GaugeMetricFamily("rtpsp_stages_stalled", "Stages that stand still.", len(snapshot.stalled))
    yield GaugeMetricFamily("rtpsp_ready", "1 once the engine is open and warm.", snapshot.ready)
    build = GaugeMetricFamily("rtpsp_build_info", "What runs; always 1.", labels=("version", "python"))
    build.add_metric((_version(), platform.python_version()), 1)
    yield build


def _histograms(name: str, text: str, label: str, series: Mapping[str, Series]) -> Metric:
    family = HistogramMetricFamily(name, text, labels=(label,))
    edges = [*(str(bound) for bound in BOUNDS), "+Inf"]
    for key, durations in series.items():
        histogram = durations.histogram()
        family.add_metric((key,), list(zip(edges, histogram.counts, strict=True)), histogram.sum)
    return family


def _downtime(source: SourceSnapshot) -> float:
    health = source.health
    return health.downtime + (0.0 if health.present else now() - health.since)


def _version() -> str:
    try:
        return version("rtpsp")
    except PackageNotFoundError:  # from a checkout that nobody installed
        return "unknown"
