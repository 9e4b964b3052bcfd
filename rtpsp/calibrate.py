"""Ranges for INT8: measured on a calibration set, or from a cache that holds for the model at hand."""

from __future__ import annotations

import logging
import os.path
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from rtpsp import zoo
from rtpsp.arrays import Image
from rtpsp.calibration_cache import (
    CalibrationCache,
    TensorRange,
    cache_name,
    check_fresh,
    read_cache,
    to_fit,
    write_cache,
)
from rtpsp.calibration_set import CalibrationSet, calibration_folder
from rtpsp.errors import DataError, ModelError, UsageError
from rtpsp.fit import FitPlan, plan_fit
from rtpsp.spec import ModelSpec

if TYPE_CHECKING:
    import onnx_ir as ir

_log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""

DEFAULT_METHOD = "mse"
"""The method that agreed best with FP32 on the shipped model (``bench/README.md``)."""

_ANY = TensorRange(None, None, 0.0)


def calibrate(
    model: ir.Model,
    spec: ModelSpec,
    frames: CalibrationSet,
    method: str = DEFAULT_METHOD,
    *,
    folder: Path | None = None,
    threads: int = 0,
    progress: Progress | None = None,
) -> tuple[CalibrationCache, Path]:
    """The ranges of a model's tensors over a calibration set, measured unless a cache in the folder has them.

    Args:
        model: The graph of a model file; not modified.
        spec: Of the same file.
        frames: What to measure on; every one of them is used.
        method: One of `rtpsp.calibration_cache.METHODS`.
        folder: Where caches lie; `calibration_folder` by default.
        threads: For ONNX Runtime; 0 leaves it the choice.
        progress: Called after each frame.

    Returns:
        The cache, and the file that holds it.

    Raises:
        ModelError: The model is quantised already.
        DataError: A frame cannot be read or is not what it was; or the model gives no numbers.
        OutputError: The cache cannot be written.
    """
    from rtpsp.graph.ranges import canonical, collect, graph_digest, tensors_of, to_ranges

    plain, graph = canonical(model), graph_digest(model)
    nothing = dict.fromkeys(tensors_of(plain), _ANY)
    key = CalibrationCache(spec.name, graph, frames.digest, len(frames), method, to_fit(spec), nothing)
    path = (folder or calibration_folder()) / cache_name(key)
    found = _found(path, key)
    if found is not None:
        _log.info("ranges were measured before: %s", path)
        return found, path
    tell = progress or (lambda step, done, total: None)
    step = f"calibrate ({method})"
    tell(step, 0, len(frames))
    histograms = collect(plain, spec, fitted(frames, spec), threads, lambda done: tell(step, done, len(frames)))
    cache = CalibrationCache(
        spec.name, graph, frames.digest, len(frames), method, to_fit(spec), to_ranges(histograms, method)
    )
    write_cache(path, cache)
    return cache, path


def fitted(frames: CalibrationSet, spec: ModelSpec) -> Iterator[Image]:
    """Each frame as the model takes it: uint8 [1, H, W, planes]."""

    @lru_cache(maxsize=64)
    def plan(size: tuple[int, int]) -> FitPlan:
        return plan_fit(size, spec)

    for image in frames.images(spec.planes):
        yield plan((image.shape[0], image.shape[1])).to_model(image)[None]


def cached(model: ir.Model, spec: ModelSpec, path: Path | None = None) -> tuple[CalibrationCache, Path]:
    """Ranges that need no data: of a cache file, or the one that came with the model.

    Args:
        model: The graph of a model file.
        spec: Of the same file.
        path: A cache; one without a folder may lie in `calibration_folder`, too. By default the shipped model's own, if
            this is it, be it at another input size (`rtpsp.graph.resized`).

    Raises:
        UsageError: None was given, and none comes with this model.
        DataError: The file is no cache, or not of this model.
    """
    from rtpsp.graph.ranges import graph_digest

    graph = graph_digest(model)
    if path is None:
        shipped = next((zoo.cache_path(name) for name in zoo.NAMES if name == spec.name), None)
        brought = None if shipped is None else _brought(read_cache(shipped), model, spec, graph)
        if shipped is None or brought is None:
            raise UsageError(
                f"INT8 needs to know how large the values inside {spec.name} get, and no ranges come with it: give "
                f"images or a video like those it will see with --calib, or a cache with --calib-cache"
            )
        cache, path = brought, shipped
    else:
        if path.parent == Path() and not os.path.exists(path) and os.path.exists(calibration_folder() / path):
            path = calibration_folder() / path  # engines name their cache so, wherever it lies
        cache = read_cache(path)
    try:
        check_fresh(cache, graph=graph, fit=to_fit(spec))
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return cache, path


def _brought(cache: CalibrationCache, model: ir.Model, spec: ModelSpec, graph: str) -> CalibrationCache | None:
    """The shipped model's ranges for this graph; None if it is another network.

    At another input size they serve as they are: the same weights see the same scenes, only coarser. The accuracy that
    was measured with them is not that of the other size, and is left out.
    """
    from rtpsp.graph.ranges import graph_digest
    from rtpsp.graph.resized import resized

    if cache.graph == graph:
        return cache
    height, _, width = cache.fit.split()[1].partition("x")
    own = int(height), int(width)
    try:
        if own == spec.size or graph_digest(resized(model, spec, own)[0]) != cache.graph:
            return None
    except ModelError:
        return None
    measured = {
        name: {key: value for key, value in entry.items() if key not in ("bound", "data", "tries")}
        for name, entry in cache.measured.items()
        if isinstance(entry, Mapping)
    }
    return replace(cache, graph=graph, fit=to_fit(spec), measured=measured)


def _found(path: Path, key: CalibrationCache) -> CalibrationCache | None:
    """A cache of the same keys, if there is one that can be read."""
    if not path.is_file():
        return None
    try:
        cache = read_cache(path)
        check_fresh(cache, graph=key.graph, fit=key.fit, frames=key.frames, method=key.method)
    except DataError as error:
        _log.warning("measured again, since %s", error)
        return None
    return cache if set(key.ranges) <= set(cache.ranges) else None
