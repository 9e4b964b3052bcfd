"""Engines of PSPNets with random weights, of any architecture and size: speed needs no trained ones.

Weights and INT8's ranges do not depend on the input's size: they are made once, the ranges on frames of a drawn street
of 240x320, and serve every size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from rtpsp.arrays import Image
from rtpsp.bench.frames import street_pictures, to_batches
from rtpsp.build_options import BuildOptions, choose_tail, default_precision, to_header, usual_plan
from rtpsp.calibrate import DEFAULT_METHOD
from rtpsp.calibration_cache import CalibrationCache, TensorRange, to_fit, write_cache
from rtpsp.comparison import Ratio
from rtpsp.engine.file import write_engine_file
from rtpsp.errors import UsageError
from rtpsp.header import EngineHeader, Precision
from rtpsp.int8 import Int8Options, quantise_model
from rtpsp.labels import CAMVID, LabelSet, distinct_palette
from rtpsp.maker import RACE_ROUNDS, Form, Maker, choose_head
from rtpsp.model.arch import ARCHS
from rtpsp.spec import ModelSpec
from rtpsp.timing import now

if TYPE_CHECKING:
    import onnx_ir as ir

    from rtpsp.graph.lower import Head
    from rtpsp.graph.network_weights import Weights

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""

RANDOM = "random_weights"
"""Key of a header's options in which an engine says that its weights are."""
LEAST_SIZE = (64, 64)  # smaller feature maps have fewer cells than the pyramid has bins
RANGES_FRAMES = 4
RANGES_SIZE = (240, 320)  # all tensors of PSPNet-152 at 720x960 would be gigabytes
RACE_SECONDS = 5.0  # enough to tell a plain head from a split one, which differ by a tenth or more


class RandomNetwork:
    """One architecture with random weights.

    Args:
        arch: Name in `rtpsp.model.arch.ARCHS`.
        output_stride: 8 or 16.
        classes: How many; 11 have CamVid's names.
        threads: CPU threads of whatever has to be computed; 0 leaves them to the backend.
        seed: Of the weights.

    Raises:
        UsageError: No such architecture or stride, or no class.
    """

    def __init__(
        self, arch: str, *, output_stride: int = 8, classes: int = len(CAMVID), threads: int = 0, seed: int = 0
    ) -> None:
        if arch not in ARCHS:
            raise UsageError(f"no architecture {arch!r}: use one of {', '.join(ARCHS)}, or give a model file (.onnx)")
        if output_stride not in (8, 16):
            raise UsageError(f"output stride is {output_stride}, expected 8 or 16")
        if classes < 1:
            raise UsageError(f"a model needs at least 1 class, got {classes}")
        self.arch, self.output_stride, self.classes = arch, output_stride, classes
        self._threads, self._seed = threads, seed

    def spec(self, size: tuple[int, int]) -> ModelSpec:
        """What the network knows of itself at a size (height, width) in pixels.

        Raises:
            UsageError: The size is too small.
        """
        if min(size) < LEAST_SIZE[0]:
            raise UsageError(f"size is {size[0]}x{size[1]}, expected {LEAST_SIZE[0]}x{LEAST_SIZE[1]} or more")
        labels, stride = _labels(self.classes), self.output_stride
        return ModelSpec(f"{self.arch}-random", self.arch, *size, labels, stride, licence="none: random weights")

    def model(self, size: tuple[int, int]) -> ir.Model:
        """A model file's graph at a size."""
        return self._weights.graph(self.spec(size))

    def write_engine(
        self,
        path: Path,
        size: tuple[int, int],
        backend: str,
        precision: Precision | None = None,
        *,
        batch: int = 1,
        head: str = "auto",
        progress: Progress | None = None,
    ) -> EngineHeader:
        """Build an engine file; no step of lowering is compared, so compare its answers before they count.

        Args:
            path: Where.
            size: Model input (height, width) in pixels.
            backend: Name in `rtpsp.engine.BACKENDS`.
            precision: None is the usual one of the backend.
            batch: Frames of one inference.
            head: ``plain``, ``split``, or ``auto``: the faster one here, by a few inferences of each.
            progress: Told of each step.

        Raises:
            RtpspError: As `rtpsp.build.build_engine`.
        """
        from rtpsp.graph.ranges import graph_digest
        from rtpsp.graph.verify import sample_frames

        tell = progress or (lambda step, done, total: None)
        tell("drawing weights", 0, 4)
        spec, graph = self.spec(size), self.model(size)
        precision = precision or default_precision(backend)
        options = BuildOptions(precision, backend, threads=self._threads, batch=batch, plan=usual_plan(backend))
        header = to_header(spec, options, graph_digest(graph))
        header = replace(header, options={**header.options, RANDOM: True})
        tail = choose_tail("auto", graph, spec)
        frames = sample_frames(spec, count=1)
        maker = _QuickMaker(graph, spec, header, frames, tail, self._threads, options.plan, progress)
        if precision == "int8":
            tell("measuring INT8's ranges", 1, 4)
            cache = self._cache(spec, header.model_digest)
            file = path.with_suffix(".ranges.json")
            write_cache(file, cache)
            tell("choosing the head", 2, 4)
            form = quantise_model(maker, Int8Options(cache=file), head, tell).form
            digest = cache.frames
        else:
            tell("choosing the head", 2, 4)
            form, digest = Form(precision, choose_head(maker, head, precision)[0]), None
        tell("compiling", 3, 4)
        header, payload = maker.make(form)
        header = replace(header, calibration_digest=digest)
        write_engine_file(path, header, payload)
        tell("done", 4, 4)
        return header

    @cached_property
    def _weights(self) -> Weights:
        from rtpsp.graph.network_weights import draw_weights

        return draw_weights(ARCHS[self.arch], self.spec(LEAST_SIZE), self._seed, self._threads)

    @cached_property
    def _ranges(self) -> tuple[dict[str, TensorRange], str]:
        """Of every tensor, and the digest of the frames that they were measured on."""
        from rtpsp.graph.ranges import canonical, collect, to_ranges

        spec = self.spec(RANGES_SIZE)
        frames = to_batches(_street(), spec)
        found = to_ranges(collect(canonical(self.model(spec.size)), spec, frames, self._threads), DEFAULT_METHOD)
        return found, hashlib.sha256(b"".join(frame.tobytes() for frame in frames)).hexdigest()

    def _cache(self, spec: ModelSpec, graph: str) -> CalibrationCache:
        ranges, frames = self._ranges
        return CalibrationCache(spec.name, graph, frames, RANGES_FRAMES, DEFAULT_METHOD, to_fit(spec), ranges)


class _QuickMaker(Maker):
    """Makes engines of a network in which nobody's answers are at stake, in seconds where they would take minutes."""

    def lowered(self, head: Head, batch: int = 1) -> ir.Model:
        """The FP32 graph of frames in, not compared with the model's: an inference of it takes seconds."""
        from rtpsp.graph.lower import lower

        if (head, batch) not in self._lowered:
            self._lowered[head, batch] = lower(
                self.graph, self.spec, batch, head=head, tail=self.tail, verify=False, threads=self.threads
            )
        return self._lowered[head, batch]

    def race(self, first: Form, second: Form) -> Ratio:
        """As `Maker.race`, and no more pairs than fit into `RACE_SECONDS`."""
        seconds: tuple[list[float], list[float]] = ([], [])
        frames = self.batch_of_frames()
        with self.engine(first) as one, self.engine(second) as other:
            for engine in (one, other):
                engine.infer(frames)
            start = now()
            while len(seconds[0]) < RACE_ROUNDS and (not seconds[0] or now() - start < RACE_SECONDS):
                for engine, taken in zip((one, other), seconds, strict=True):
                    begin = now()
                    engine.infer(frames)
                    taken.append(now() - begin)
        return Ratio.of(*seconds)


@lru_cache(maxsize=1)
def _street() -> list[Image]:
    return street_pictures(count=RANGES_FRAMES, size=RANGES_SIZE)


def _labels(classes: int) -> LabelSet:
    if classes == len(CAMVID):
        return CAMVID
    names = tuple(f"class {index}" for index in range(classes))
    return LabelSet("numbers", names, distinct_palette(classes))
