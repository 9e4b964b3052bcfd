"""TensorRT's two flavours as values: which module each one is, the import, and its log as ours.

    flavour        module                                       releases
    tensorrt       tensorrt                                     10.12 or later, 11
    tensorrt-rtx   tensorrt_rtx, else tensorrt_rtx_bindings     1.7 or later

One code serves all of them: the module is handed on as a value. `rtpsp.engine.tensorrt_types` says what is used of it.
"""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

from packaging.version import Version

from rtpsp.engine import tensorrt_types as types
from rtpsp.errors import MissingError, UsageError

LOGGER = "rtpsp.tensorrt"
MAX_ERRORS = 100
"""Errors that a `Log` keeps: what goes wrong once may go wrong with every frame, and the first ones say why."""

_HARMLESS = (
    "Thread context has not been set",  # TensorRT-RTX's first line of all, as an internal error
    "Converting conv activation scales to fp32",  # both of them warnings, of INT8 with FP16 around it
    "Converting conv weight scales to fp32",
)


class RuntimeModule(Protocol):
    """What running an engine takes of a flavour's module."""

    __version__: str
    ILogger: Any  # a base class; a variable cannot be one for mypy
    Runtime: Callable[[types.ILogger], types.Runtime]
    TensorIOMode: types.TensorIOMode
    LayerInformationFormat: types.LayerInformationFormat
    CudaGraphStrategy: types.CudaGraphStrategy
    ProfilingVerbosity: types.ProfilingVerbosity


class TensorRT(RuntimeModule, Protocol):
    """A flavour's module."""

    IProgressMonitor: Any  # as ILogger
    Builder: Callable[[types.ILogger], types.Builder]
    OnnxParser: Callable[[types.INetworkDefinition, types.ILogger], types.OnnxParser]
    BuilderFlag: types.BuilderFlag
    MemoryPoolType: types.MemoryPoolType
    NetworkDefinitionCreationFlag: types.NetworkDefinitionCreationFlag
    HardwareCompatibilityLevel: types.HardwareCompatibilityLevel
    ComputeCapability: Any  # asked for its enumerators by name, of which releases add some


@dataclass(frozen=True)
class Flavour:
    """One of NVIDIA's TensorRTs.

    Attributes:
        name: As in the backend table.
        title: As NVIDIA writes it.
        modules: Python modules that may hold it, the first that is there being taken.
        oldest: Least release whose API we know.
        package: Distribution whose name stands for it in an engine's header.
        install: What to give to ``pip install``.
    """

    name: str
    title: str
    modules: tuple[str, ...]
    oldest: str
    package: str
    install: str

    @property
    def rtx(self) -> bool:
        """Whether it is TensorRT-RTX: builds without a GPU, for several; compiles its kernels when it loads."""
        return self.name == "tensorrt-rtx"


FLAVOURS = {
    flavour.name: flavour
    for flavour in (
        Flavour("tensorrt", "TensorRT", ("tensorrt",), "10.12", "tensorrt", "tensorrt"),
        Flavour(
            "tensorrt-rtx",
            "TensorRT-RTX",
            ("tensorrt_rtx", "tensorrt_rtx_bindings"),  # the first is a metapackage's, which only re-exports the second
            "1.7",
            "tensorrt-rtx",
            "tensorrt-rtx",
        ),
    )
}


def flavour_of(name: str) -> Flavour:
    """A flavour by its name.

    Raises:
        UsageError: There is none of that name.
    """
    if name not in FLAVOURS:
        raise UsageError(f"TensorRT flavour {name!r}: expected one of {', '.join(FLAVOURS)}")
    return FLAVOURS[name]


def load(name: str) -> TensorRT:
    """Import a flavour's module; no GPU is touched.

    Args:
        name: Of `FLAVOURS`.

    Raises:
        MissingError: It is not installed, its libraries are not, or it is too old.
        UsageError: No such flavour.
    """
    flavour = flavour_of(name)
    problems = []
    for module in flavour.modules:
        try:
            found = importlib.import_module(module)
            break
        except (ImportError, OSError) as error:  # OSError: a library that ctypes does not find
            if error.__cause__ is not None and not isinstance(error.__cause__, Exception):
                raise error.__cause__ from None  # an interrupt in the midst of an extension module's initialisation
            problems.append(error)
    else:
        cause = problems[-1]
        raise MissingError(
            f"{flavour.title} cannot be imported ({_one_line(str(cause))}): pip install {flavour.install}"
        ) from cause
    trt = cast(TensorRT, found)
    if Version(trt.__version__) < Version(flavour.oldest):
        raise MissingError(
            f"{flavour.title} {trt.__version__} is too old, expected {flavour.oldest} or later:"
            f" pip install --upgrade {flavour.install}"
        )
    return trt


class Log(types.ILogger, Protocol):
    """TensorRT's log, handed on to `LOGGER`."""

    @property
    def errors(self) -> list[str]:
        """What was said at the severity of an error, each on one line, oldest first; `MAX_ERRORS` at most.

        Said in the thread that asks, or in one of TensorRT's own.
        """
        ...

    def take(self) -> list[str]:
        """The `errors`; they are forgotten here."""
        ...

    def listen(self, verbose: bool) -> None:
        """Keep this thread's errors apart, and hand on the finest of what is said in it if `verbose`."""
        ...


def make_log(trt: RuntimeModule, verbose: bool = False) -> Log:
    """An ``ILogger`` of TensorRT's that writes to Python's logging, for what this thread does; any thread may call it.

    A process has one, for good: while anything lives that was made with one logger TensorRT ignores each other, so that
    an engine's errors would go to a builder. TensorRT tells nothing but its log why it refuses: its calls answer False
    or None. So errors are kept, by the thread that they are said in, for the exception that quotes them, and are logged
    as information only: at their own level each would be printed twice. Whoever makes a log takes the errors that ended
    in no exception, and reports them.

    Args:
        trt: A flavour's module.
        verbose: Hand on what it says at its finest severity too; thousands of lines a build.
    """
    with _LOCK:
        if id(trt) not in _LOGS:
            _LOGS[id(trt)] = trt, _adapter(trt)
        log = _LOGS[id(trt)][1]
    log.listen(verbose)
    return log


_LOGS: dict[int, tuple[RuntimeModule, Log]] = {}  # by the module, which stays alive with it
_LOCK = threading.Lock()


class _Here(threading.local):
    """What a thread was promised."""

    def __init__(self) -> None:
        self.listens = self.verbose = False
        self.errors: list[str] = []


def _adapter(trt: RuntimeModule) -> Log:
    logger = logging.getLogger(LOGGER)
    base: Any = trt.ILogger
    severities: Any = base.Severity
    grave = (severities.INTERNAL_ERROR, severities.ERROR)
    levels = dict.fromkeys(grave, logging.INFO)
    levels |= {severities.WARNING: logging.WARNING, severities.INFO: logging.DEBUG, severities.VERBOSE: logging.DEBUG}

    class Adapter(base):  # type: ignore[misc]  # its base is a value
        def __init__(self) -> None:
            super().__init__()  # TensorRT's classes insist on it
            self.here = _Here()
            self.strays: list[str] = []  # of threads in which nobody listens, which are TensorRT's own

        def log(self, severity: object, message: str) -> None:
            if severity == severities.VERBOSE and not self.here.verbose:
                return
            level, line = levels[severity], _one_line(message)
            if any(words in line for words in _HARMLESS):
                level = logging.DEBUG
            elif severity in grave and line:
                kept = self.here.errors if self.here.listens else self.strays
                if len(kept) < MAX_ERRORS:
                    kept.append(line)
            if line:
                logger.log(level, "%s", line)

        @property
        def errors(self) -> list[str]:
            return [*self.here.errors, *self.strays]

        def take(self) -> list[str]:
            taken = self.errors
            self.here.errors, self.strays = [], []
            return taken

        def listen(self, verbose: bool) -> None:
            self.here.listens, self.here.verbose = True, verbose

    return cast(Log, Adapter())


def _one_line(text: str) -> str:
    return " ".join(text.split())
