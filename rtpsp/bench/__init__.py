"""Benchmarks of this machine: how fast engines and the live loop are, and what that is worth beside something else.

`bench` measures an engine file, alone and in the loop; `bench_subjects` several, in turn. Every section of ``rtpsp
bench`` is a module: `rtpsp.bench.card`, `baseline`, `growth`, `layers`, `peers`, `cameras`. Figures are defined in
`rtpsp.timing`, `timeline`, `ratios` and `loop`; ``bench/README.md`` has them in words, and the schema of the report.
"""

from __future__ import annotations

from rtpsp.bench.frames import PictureSource
from rtpsp.bench.measure import BenchOptions, bench, bench_subjects
from rtpsp.bench.report import SCHEMA, BenchReport, problems

__all__ = ["SCHEMA", "BenchOptions", "BenchReport", "PictureSource", "bench", "bench_subjects", "problems"]
