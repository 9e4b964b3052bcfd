"""CUDA kernels from their sources in `rtpsp/engine/kernels` to machine code for one GPU, kept on disk.

By NVRTC, which needs neither a GPU nor CUDA's headers, or by ``nvcc`` where that is missing. Multiplications and
additions are not contracted to fused ones: a kernel gives the bits that its source gives on a CPU, where the tests run
it, and it waits for memory in any case.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import subprocess
import tempfile
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from shutil import which
from typing import Any, Protocol

from rtpsp.errors import MissingError, OutputError
from rtpsp.files import write_atomically
from rtpsp.places import engines_folder

DEVICE_IO = ("resize", "class_map")
"""The sources of `rtpsp.engine.device_io`."""

_OPTIONS = ("-std=c++17", "-fmad=false")
"""NVRTC's and nvcc's alike."""
_TOOLKIT = "/usr/local/cuda/bin"
"""Where NVIDIA's installer puts it, and no PATH leads."""
_INSTALL = "pip install cuda-bindings nvidia-cuda-nvrtc"
_log = logging.getLogger(__name__)


class Compiler(Protocol):
    """What compiles kernels.

    Attributes:
        name: With its version: kernels are compiled again by another.
        architectures: Compute capabilities that it knows, 90 for 9.0, ascending.
    """

    name: str
    architectures: Sequence[int]

    def compile(self, source: str, kind: str, architecture: str) -> bytes:
        """Compile.

        Args:
            source: CUDA C++ without ``#include``.
            kind: ``cubin`` or ``ptx``.
            architecture: ``sm_90`` of a cubin, ``compute_90`` of PTX.

        Raises:
            MissingError: It is not compiled; with the compiler's first error.
        """


def compile_kernels(compute_capability: str, names: Sequence[str] = DEVICE_IO, folder: Path | None = None) -> bytes:
    """Kernels for a GPU; compiled in about a second the first time, read from disk after that.

    Args:
        compute_capability: Of the GPU, such as ``9.0``.
        names: Source files, without ``.cu``, which make one module.
        folder: Where compiled kernels are kept; None stands for ``kernels`` among the engines.

    Returns:
        A cubin, which on a machine without a compiler may have been compiled on another; PTX, which the driver
        compiles, for a GPU newer than the compiler.

    Raises:
        MissingError: No compiler is installed, or it does not know such a GPU.
    """
    source = kernel_source(names)
    folder = folder or engines_folder() / "kernels"
    stem = f"{'-'.join(names)}-{hashlib.sha256(source.encode()).hexdigest()[:16]}"
    try:
        compiler = find_compiler()
    except MissingError:
        if kept := _compiled_elsewhere(folder, stem, compute_capability):
            return kept
        raise
    kind, architecture = _target(compute_capability, compiler)
    path = folder / f"{stem}-{architecture}-{compiler.name.replace(' ', '-')}.{kind}"
    with contextlib.suppress(OSError):
        return path.read_bytes()
    _log.debug("compiling kernels %s for %s with %s", ", ".join(names), architecture, compiler.name)
    image = compiler.compile(source, kind, architecture)
    try:
        write_atomically(path, image, hint="they are compiled again next time", make_folder=True)
    except OutputError as error:
        _log.debug("compiled kernels are not kept: %s", error)
    return image


def kernel_source(names: Sequence[str] = DEVICE_IO) -> str:
    """The sources one behind the other, each with its name for the compiler's messages."""
    folder = resources.files(__package__) / "kernels"
    texts = ((folder / f"{name}.cu").read_text(encoding="utf-8") for name in names)
    return "".join(f'#line 1 "{name}.cu"\n{text}' for name, text in zip(names, texts, strict=True))


def find_compiler() -> Compiler:
    """NVRTC, or else ``nvcc``.

    Raises:
        MissingError: Neither is there.
    """
    try:
        return _NVRTC()
    except (ImportError, RuntimeError) as error:  # the latter where the binding finds no library
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    if nvcc := which("nvcc") or which("nvcc", path=_TOOLKIT):
        return _NVCC(nvcc)
    raise MissingError(f"kernels need NVIDIA's compiler NVRTC, which is not there ({reason:.200}): {_INSTALL}")


class _NVRTC:
    def __init__(self) -> None:
        from cuda.bindings import nvrtc

        self._nvrtc = nvrtc
        major, minor = self._call("nvrtcVersion")
        self.name = f"NVRTC {major}.{minor}"
        self.architectures: Sequence[int] = sorted(self._call("nvrtcGetSupportedArchs")[0])

    def compile(self, source: str, kind: str, architecture: str) -> bytes:
        (program,) = self._call("nvrtcCreateProgram", source.encode(), b"kernels.cu", 0, [], [])
        options = [option.encode() for option in (f"--gpu-architecture={architecture}", *_OPTIONS)]
        try:
            self._call("nvrtcCompileProgram", program, len(options), options)
            return self._read(program, "CUBIN" if kind == "cubin" else "PTX")
        except MissingError as error:
            log = self._read(program, "ProgramLog").decode(errors="replace").rstrip("\0")
            raise _refused(self.name, architecture, log.strip() or str(error)) from error
        finally:
            self._call("nvrtcDestroyProgram", program)

    def _read(self, program: Any, what: str) -> bytes:
        (size,) = self._call(f"nvrtcGet{what}Size", program)
        data = bytes(size)  # which the binding writes into
        self._call(f"nvrtcGet{what}", program, data)
        return data

    def _call(self, name: str, *arguments: Any) -> tuple[Any, ...]:
        error, *values = getattr(self._nvrtc, name)(*arguments)
        if error:
            raise MissingError(f"{name} failed: {self._nvrtc.nvrtcGetErrorString(error)[1].decode()}")
        return tuple(values)


class _NVCC:
    def __init__(self, program: str) -> None:
        self._program = program
        version = re.search(r"V(\d+\.\d+\.\d+)", self._run("--version"))
        self.name = f"nvcc {version[1] if version else ''}".strip()
        self.architectures: Sequence[int] = sorted(
            int(found) for found in re.findall(r"sm_(\d+)\b", self._run("--list-gpu-code"))
        )

    def compile(self, source: str, kind: str, architecture: str) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            made, given = Path(folder, "kernels.out"), Path(folder, "kernels.cu")
            given.write_text(source, encoding="utf-8")
            options = (f"-{kind}", f"-arch={architecture}", *_OPTIONS, "-o", str(made))
            try:
                self._run(*options, str(given))
            except MissingError as error:
                raise _refused(self.name, architecture, str(error)) from error
            return made.read_bytes()

    def _run(self, *arguments: str) -> str:
        try:
            done = subprocess.run([self._program, *arguments], capture_output=True, text=True, check=False)
        except OSError as error:
            raise MissingError(f"{self._program} cannot be run ({error.strerror}): {_INSTALL}") from error
        if done.returncode:
            raise MissingError(f"{self._program} failed: {done.stderr or done.stdout or f'exit {done.returncode}'}")
        return done.stdout


def _compiled_elsewhere(folder: Path, stem: str, compute_capability: str) -> bytes | None:
    for path in sorted(folder.glob(f"{stem}-sm_{compute_capability.replace('.', '')}-*.cubin")):
        with contextlib.suppress(OSError):
            return path.read_bytes()
    return None


def _target(compute_capability: str, compiler: Compiler) -> tuple[str, str]:
    """A GPU runs a cubin of its own major version and no higher minor one, and any older PTX by the driver's help."""
    major, _, minor = compute_capability.partition(".")
    wanted = 10 * int(major) + int(minor)
    older = [known for known in compiler.architectures if known <= wanted]
    if not older:
        lowest = min(compiler.architectures)
        raise MissingError(
            f"{compiler.name} compiles for compute capability {lowest // 10}.{lowest % 10} and later, this GPU has "
            f"{compute_capability}: install an older one, such as nvidia-cuda-nvrtc-cu12"
        )
    best = max(older)
    return ("cubin", f"sm_{best}") if best // 10 == wanted // 10 else ("ptx", f"compute_{best}")


def _refused(compiler: str, architecture: str, log: str) -> MissingError:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    first = next((line for line in lines if "error" in line), lines[0] if lines else "no reason given")
    return MissingError(f"{compiler} does not compile our kernels for {architecture} ({first:.300}): {_INSTALL}")
