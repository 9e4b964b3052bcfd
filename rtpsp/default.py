"""The engine that is there when nobody asked for another: the shipped model's, built once and then reused."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from rtpsp import zoo
from rtpsp.build import (
    ENGINES_VARIABLE,
    BuildOptions,
    Progress,
    build_engine,
    default_precision,
    engine_name,
    engines_folder,
    package_versions,
    to_header,
    told,
    usual_plan,
)
from rtpsp.calibration_cache import read_cache
from rtpsp.engine import BACKENDS, default_backend, judge_file, why_not_here
from rtpsp.engine.file import read_engine_file
from rtpsp.engine.tensorrt_options import FLAGS
from rtpsp.errors import BoundNotMet, EngineFileError, MissingError, ModelError, OutputError, UsageError
from rtpsp.failed_builds import remember, why_failed
from rtpsp.files import check_writable
from rtpsp.header import EngineHeader
from rtpsp.places import make_private, private_folder

if TYPE_CHECKING:
    from rtpsp.foreign import Adapted

_log = logging.getLogger(__name__)

CHECKPOINT_SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors")
_LOCK = ".lock"
_POLL_SECONDS = 0.2
_FAILURES = (BoundNotMet, EngineFileError, MissingError, ModelError)
_TO_DO = re.compile("[:;] (?:build|upgrade) ")  # where an error says what to do about it: here it is being done


def default_engine(progress: Progress | None = None, *, confidence: bool = False) -> Path:
    """The shipped model's engine for this machine's best backend, built if it is not there or does not fit.

    Processes that need it at the same time build it once: the others wait. Where the folder cannot be written, a
    private folder among the system's temporary files serves. Where the engine of a GPU's backend cannot be built or
    does not run, the next backend's is taken, and what failed is not tried again (`rtpsp.failed_builds`).

    Args:
        progress: Called at each step when it has to be built.
        confidence: The engine has to give a confidence.

    Raises:
        RtpspError: As `build_engine`.
    """
    for options in _choices(confidence):
        if not BACKENDS[options.backend].gpu:
            break
        try:
            return engine_of(options, progress)
        except _FAILURES as error:
            again = f"rtpsp build-engine --backend {options.backend}{' --confidence' if confidence else ''}"
            _log.warning("%s: another backend is taken, until '%s' succeeds", error, again)
    return engine_of(options, progress)


def _choices(confidence: bool) -> Iterator[BuildOptions]:
    """How the engine could be built, the best first: for each backend of a GPU that runs here, then for the CPU."""
    best = default_backend()
    yield _usual(best, confidence)
    if not BACKENDS[best].gpu:
        return
    names = list(BACKENDS)
    for name in names[names.index(best) + 1 :]:
        if BACKENDS[name].gpu and why_not_here(name) is None:
            yield _usual(name, confidence)
    yield _usual(default_backend(present=tuple), confidence)


def _usual(backend: str, confidence: bool) -> BuildOptions:
    return BuildOptions(default_precision(backend), backend, confidence, plan=usual_plan(backend))


def engine_of(options: BuildOptions, progress: Progress | None = None, size: tuple[int, int] | None = None) -> Path:
    """The shipped model's engine that these options give, built if it is not there or does not fit.

    Args:
        options: How it is built.
        progress: Called at each step when it has to be built.
        size: Another input (height, width) than the model's own (`rtpsp.graph.resized`).

    Raises:
        RtpspError: As `build_engine`.
    """
    digest, spec = zoo.model_digest(), zoo.model_spec()
    if size is not None:
        spec = replace(spec, height=size[0], width=size[1])
    path = engines_folder() / engine_name(to_header(spec, options))
    _check_not_failed(path, options.backend)
    if why_not(path, digest, options) is None:
        return path
    folder = _writable(path.parent)
    path = folder / path.name
    with _alone(folder):
        reason = why_not(path, digest, options)  # another process may have built it while we waited
        if reason is None:
            return path
        _check_not_failed(path, options.backend)
        # The first build is expected; that one which was there does not do any more is not.
        _log.log(logging.WARNING if path.exists() else logging.INFO, "building %s: %s", path, reason)
        model = zoo.model_path()
        try:
            built = build_engine(model if size is None else _at_size(model, size), path, options, progress)
            if built.why_not_run:  # built ahead of time, which serves nobody who wants to run it now
                path.unlink()
                raise MissingError(f"{options.backend} does not run its engine: {built.why_not_run}")
        except OutputError as error:
            raise OutputError(
                f"{path}: cannot be written ({_reason(error)}): let {ENGINES_VARIABLE} name another folder"
            ) from error
        except _FAILURES as error:
            if BACKENDS[options.backend].gpu:
                remember(path, options.backend, str(error))
            raise
    return path


def _at_size(model: Path, size: tuple[int, int]) -> Adapted:
    from rtpsp.foreign import Adapted
    from rtpsp.graph.resized import resized
    from rtpsp.onnx_file import load_model

    return Adapted(model, *resized(*load_model(model), size), told="")


def _check_not_failed(path: Path, backend: str) -> None:
    why = why_failed(path, backend)
    if why is not None:
        raise MissingError(why)


def default_options(*, confidence: bool = False) -> BuildOptions:
    """How the engine is built that a run takes when it is given none: for the backend that serves this machine best.

    Args:
        confidence: It has to give a confidence.
    """
    for options in _choices(confidence):
        if not BACKENDS[options.backend].gpu:
            break
        path = engines_folder() / engine_name(to_header(zoo.model_spec(), options))
        if why_failed(path, options.backend) is None:
            break
    return options


def why_not(path: Path, digest: str, options: BuildOptions) -> str | None:
    """Why an engine file cannot stand for a model built with these options; None when it can.

    Args:
        path: The engine file.
        digest: sha256 of the model file, in hex.
        options: How it should have been built.
    """
    if not os.path.exists(path):  # Path.exists raises where a folder above may not be searched
        return "it is not there yet"
    try:
        file = read_engine_file(path)
        file.payload()
    except EngineFileError as error:
        return _TO_DO.split(str(error).removeprefix(f"{path}: "))[0]
    header = file.header
    if header.model_digest != digest:
        return "it was built from another version of the model"
    if (header.backend, header.precision) != (options.backend, options.precision):
        return f"it is one for {header.backend} in {header.precision}"
    asked, plan = told(options.plan), header.options.get("plan", {})
    if plan != asked:
        flags = [
            flag for name, flag in FLAGS.items() if not isinstance(plan, dict) or plan.get(name) != asked.get(name)
        ]
        return f"it was built with another {' and '.join(flags) or 'plan'}"
    if header.options.get("batch", 1) != options.batch:
        return f"it takes {header.options['batch']} frames at a time"
    if header.options.get("confidence", False) != options.confidence:
        return f"it gives {'no' if options.confidence else 'a'} confidence"
    if options.precision == "int8" and not _has_shipped_ranges(header):
        return "its INT8 ranges are not those that come with the model"
    ours = package_versions(header.backend)["rtpsp"]
    if header.versions.get("rtpsp") != ours:
        return f"it was built by rtpsp {header.versions.get('rtpsp')}, this is {ours}"
    verdict = judge_file(file)  # what is a mere warning elsewhere is a reason here: building anew costs seconds
    return next(iter(verdict.refusals + verdict.warnings), None)


def _has_shipped_ranges(header: EngineHeader) -> bool:
    shipped, told = read_cache(zoo.cache_path()), header.options.get("int8")
    return (
        header.calibration_digest == shipped.frames and isinstance(told, dict) and told.get("method") == shipped.method
    )


def to_engine_path(given: str | None, progress: Progress | None = None, *, confidence: bool = False) -> Path:
    """What a person may give where an engine is wanted: nothing, or an engine file.

    Raises:
        UsageError: An ONNX file or a checkpoint was given.
        EngineFileError: No such file.
    """
    if given is None:
        return default_engine(progress, confidence=confidence)
    path = Path(os.path.expanduser(given))
    if path.suffix == ".onnx":
        raise UsageError(f"{given} is a model, an engine was expected: make one with 'rtpsp build-engine {given}'")
    if path.suffix in CHECKPOINT_SUFFIXES:
        model = path.with_suffix(".onnx").name
        raise UsageError(
            f"{given} is a checkpoint, an engine was expected: make one with 'rtpsp export {given} -o {model}' and "
            f"'rtpsp build-engine {model}'"
        )
    return path


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Holds the folder's lock, which the operating system lets go of when a process dies.

    Without a lock nothing breaks, for engines are renamed into place: they may be built more than once.
    """
    lock = FileLock(folder / _LOCK, mode=0o666)  # whoever may write into the folder may wait for others there
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            _log.warning("another rtpsp is building in %s: waiting for it", folder)
            lock.acquire(poll_interval=_POLL_SECONDS)
    except (OSError, NotImplementedError) as error:  # another user's, or a file system without locks
        reason = getattr(error, "strerror", None) or error
        _log.warning("%s cannot be locked (%s): another rtpsp may build there too", folder, reason)
    try:
        yield
    finally:
        lock.release()


def _writable(folder: Path) -> Path:
    """The folder, or a stand-in where nothing can be written into it.

    Raises:
        OutputError: The stand-in cannot be used either.
    """
    reason = _why_not_writable(folder)
    if reason is None:
        return folder
    if os.environ.get(ENGINES_VARIABLE):  # who names a folder wants it there
        raise OutputError(f"{folder}: cannot be written ({reason}): let {ENGINES_VARIABLE} name another folder")
    stand_in = private_folder("engines")
    try:
        make_private(stand_in.parent)
        stand_in.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written ({reason}), nor can {stand_in} ({error.strerror or error}): let "
            f"{ENGINES_VARIABLE} name a folder for engines"
        ) from error
    _log.warning(
        "%s cannot be written (%s): the engine is kept in %s; set %s to choose a folder",
        folder, reason, stand_in, ENGINES_VARIABLE,
    )  # fmt: skip
    return stand_in


def _why_not_writable(folder: Path) -> str | None:
    try:
        check_writable(folder / _LOCK, hint="")
    except OutputError as error:
        return _reason(error)
    return None


def _reason(error: OutputError) -> str:
    cause = error.__cause__
    return (cause.strerror if isinstance(cause, OSError) else None) or str(error)
