"""Our kernels: they compile, they give what their references give, and what they take."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from gpu.facts import busy_state
from gpu.part import Job, Skip, figures, rounded

if TYPE_CHECKING:
    from rtpsp.engine.cuda import CudaDevice
    from rtpsp.engine.device_io import DeviceIO, Lane
    from rtpsp.fit import FitPlan
    from rtpsp.spec import ModelSpec

CAPABILITIES = ("7.5", "8.0", "9.0", "8.6", "12.0", "8.9", "10.0")
FRAMES = ((37, 53), (120, 161), (240, 320), (481, 639), (720, 960))
MANY = 19
"""With more classes the references take longest: they are compared on the two smallest frames alone."""
MODELS = (("stretch", "area", (48, 64)), ("letterbox", "bilinear", (96, 96)), ("crop", "area", (360, 480)))
CLASSES = (2, 11, 19, 150, 300)
TIMED = (((720, 960), (360, 480), 11), ((720, 960), (720, 960), 11), ((1080, 1920), (720, 960), 19))
"""Frame, model's input and classes of what is timed."""
NEAR = 2.4e-6
"""Two classes may change places where their exact scores differ by less than this share of the largest."""


def compile_all(job: Job) -> dict[str, Any]:
    """Every source for every generation of GPUs, into an empty folder."""
    from rtpsp.engine.kernel_compiler import DEVICE_IO, compile_kernels, find_compiler
    from rtpsp.errors import MissingError

    try:
        job.keep(compiler=find_compiler().name)
    except MissingError as error:
        raise Skip(str(error)) from error
    for names in (DEVICE_IO, ("standin",)):
        for capability in CAPABILITIES[::2] if job.quick else CAPABILITIES:
            begin = time.monotonic()
            image = compile_kernels(capability, names, job.work / "kernels")
            told = {"seconds": round(time.monotonic() - begin, 3), "bytes": len(image)}
            job.keep(**{f"{'+'.join(names)} sm_{capability.replace('.', '')}": told})
    return {}


def spec_of(fit: str, resize: str, size: tuple[int, int], classes: int) -> ModelSpec:
    """A model's spec with so many classes."""
    from rtpsp.labels import CAMVID, LabelSet
    from rtpsp.spec import ModelSpec

    labels = CAMVID
    if classes != len(CAMVID):
        names = tuple(f"class {number}" for number in range(classes))
        random = np.random.default_rng(classes)
        labels = LabelSet("many", names, tuple(tuple(random.integers(0, 256, 3).tolist()) for _ in names))
    return ModelSpec("any", "any", *size, labels, fit=fit, resize=resize)  # type: ignore[arg-type]


def check(job: Job) -> dict[str, Any]:
    """Resize, class map and picture against NumPy, over geometries, on fresh random input and poisoned output."""
    from rtpsp.engine.cuda import open_device
    from rtpsp.fit import plan_fit

    (binding,) = job.arguments
    seed = time.time_ns() % 2**32
    job.keep(seed=seed, cases=0, compared_pixels=0, exchanged_pixels=0, largest_level_error=0)
    random = np.random.default_rng(seed)
    wrong: list[str] = []
    for fit, resize, size in MODELS[:2] if job.quick else MODELS:
        for classes in CLASSES[::2] if job.quick else CLASSES:
            spec = spec_of(fit, resize, size, classes)
            cells = (size[0] // 8, size[1] // 8)
            with open_device(binding=binding) as device:
                from rtpsp.engine.device_io import DeviceIO

                device_io = DeviceIO(device, spec, cells)
                for frame in FRAMES[: 2 if job.quick or classes > MANY else None]:
                    plan = plan_fit(frame, spec)
                    found = _case(job, device, device_io, plan, cells, random)
                    wrong += [f"{fit} {resize} {frame} to {size}, {classes} classes: {what}" for what in found]
                    job.keep(cases=job.data["cases"] + 1, wrong=wrong)
    if wrong:
        raise AssertionError(f"{len(wrong)} differences, the first: {wrong[0]}")
    return {}


def _case(
    job: Job,
    device: CudaDevice,
    device_io: DeviceIO,
    plan: FitPlan,
    cells: tuple[int, int],
    random: np.random.Generator,
) -> list[str]:
    """What is wrong in one geometry, for both views in turn with different input."""
    from rtpsp import device_reference as reference
    from rtpsp.drawing import Drawing

    spec, wrong = plan.spec, []
    lane, stream = device_io.lane(plan), device.stream()
    there = device.allocate(spec.height * spec.width * 3)
    resized = device.pinned((1, *spec.size, 3), np.uint8)
    scores = device.pinned((1, len(spec.labels), *cells), np.float32)
    scores_there = device.allocate(scores.nbytes)
    for drawing in (Drawing("overlay", 0.4), Drawing("mask"), None):
        image = random.integers(0, 256, (*plan.source_size, 3), np.uint8)
        coarse = random.normal(size=(len(spec.labels), 3, 4)).astype(np.float32)
        scores[0] = coarse.repeat(-(-cells[0] // 3), 1).repeat(-(-cells[1] // 4), 2)[:, : cells[0], : cells[1]]
        scores[0] += 0.3 * random.normal(size=scores.shape[1:]).astype(np.float32)
        resized[...] = 0xA5
        device.upload(there, resized, stream)
        device.upload(scores_there, scores, stream)
        lane.frame[...] = image
        lane.class_map[...] = 77
        if lane.picture is not None:
            lane.picture[...] = 0xA5
        lane.upload(stream)
        lane.resize(stream, there)
        lane.finish(stream, scores_there, drawing)
        lane.download(stream)
        device.download(resized, there, stream)
        stream.synchronize()
        expected = reference.resize(image, plan)
        if not np.array_equal(resized[0], expected):
            off = np.abs(resized[0].astype(int) - expected)
            wrong.append(f"resize differs in {np.count_nonzero(off)} bytes, by up to {off.max()}")
        wrong += _compare_map(job, lane, scores[0], plan)
        if drawing is not None and lane.picture is not None:
            drawn = reference.draw(image, lane.class_map, spec.labels, drawing)
            off = int(np.abs(lane.picture.astype(int) - drawn).max())
            job.keep(largest_level_error=max(job.data["largest_level_error"], off))
            if off > 1:
                wrong.append(f"{drawing.view} is off by up to {off} levels")
    lane.free()
    for thing in (scores_there, scores, resized, there, stream):
        device.free(thing)
    return wrong


def _compare_map(job: Job, lane: Lane, scores: np.ndarray[Any, Any], plan: FitPlan) -> list[str]:
    """Another class is right only where the two scores are equal but for rounding."""
    from rtpsp import device_reference as reference
    from rtpsp.pooling import bilinear_matrix

    expected = reference.class_map(scores, plan)
    rows, columns = np.nonzero(lane.class_map != expected)
    job.keep(
        compared_pixels=job.data["compared_pixels"] + expected.size,
        exchanged_pixels=job.data["exchanged_pixels"] + len(rows),
    )
    if len(rows) > max(2, expected.size // 1000):
        return [f"class map differs in {len(rows)} of {expected.size} pixels"]
    if not len(rows) or plan.spec.fit != "stretch":  # the few of other fits are counted; here they are asked why
        return []
    down, across = (bilinear_matrix(*ends) for ends in zip(scores.shape[1:], plan.source_size, strict=True))
    exact = np.einsum("ph,chw,pw->pc", down[rows], scores.astype(np.float64), across[columns])
    at = np.arange(len(rows))
    gap = np.abs(exact[at, lane.class_map[rows, columns]] - exact[at, expected[rows, columns]]).max()
    return [] if gap <= 4 * NEAR * np.abs(scores).max() else [f"class map differs where scores do, by {gap:.3g}"]


def times(job: Job) -> dict[str, Any]:
    """What the kernels and the copies of whole frames take, by events, and at which bandwidth."""
    from rtpsp.drawing import Drawing
    from rtpsp.engine.cuda import open_device
    from rtpsp.engine.cuda_timing import LaunchTimer
    from rtpsp.engine.device_io import DeviceIO
    from rtpsp.fit import plan_fit
    from rtpsp.sim import Street

    for frame, size, classes in TIMED[:1] if job.quick else TIMED:
        spec = spec_of("stretch", "area", size, classes)
        cells = (size[0] // 8, size[1] // 8)
        street = Street(*frame, seed=3)
        with open_device() as device:
            stream = device.stream()
            timer = LaunchTimer(device, stream)
            lane = DeviceIO(device, spec, cells).lane(plan_fit(frame, spec))
            lane.frame[...] = street.draw(5)
            there = device.allocate(size[0] * size[1] * 3)
            scores = _street_scores(street.truth(5), classes, cells)
            scores_there = device.allocate(scores.nbytes)
            device.upload(scores_there, scores, stream)
            stream.synchronize()
            steps: dict[str, Callable[[], None]] = {
                "upload": partial(lane.upload, stream),
                "resize": partial(lane.resize, stream, there),
                "finish_overlay": partial(lane.finish, stream, scores_there, Drawing("overlay")),
                "download": partial(lane.download, stream),  # with the picture
                "finish_class_map": partial(lane.finish, stream, scores_there, None),
            }
            told: dict[str, Any] = {}
            for name, work in steps.items():
                took = partial(timer.milliseconds, work)
                told[name] = figures(job.repeated(lambda turn, took=took: took()))  # type: ignore[misc]
            told["state"] = busy_state(partial(timer.milliseconds, steps["finish_overlay"]))
            moved = {
                "resize": frame[0] * frame[1] * 3 + size[0] * size[1] * 3,
                "finish_overlay": 7 * frame[0] * frame[1],
            }
            for name, nbytes in moved.items():
                told[name]["gb_s"] = rounded(nbytes / max(told[name]["median_ms"], 1e-6) / 1e6)
        job.keep(**{f"{frame[0]}x{frame[1]} to {size[0]}x{size[1]}, {classes} classes": told})
    return {}


def _street_scores(truth: np.ndarray[Any, Any], classes: int, cells: tuple[int, int]) -> np.ndarray[Any, Any]:
    """Scores whose winners are a street's classes: borders as few as in a picture, and some noise."""
    rows, columns = (
        np.linspace(0, side - 1, count).astype(int) for side, count in zip(truth.shape, cells, strict=True)
    )
    random = np.random.default_rng(6)
    scores = random.normal(0, 0.2, (1, classes, *cells)).astype(np.float32)
    np.put_along_axis(scores[0], truth[np.ix_(rows, columns)][None].astype(int), 5, axis=0)
    return scores
