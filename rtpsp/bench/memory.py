"""How much memory an engine takes at its peak: measured in a process that does nothing else."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

from rtpsp.errors import MissingError

SECONDS = 300.0
"""After which the child is ended: a large model on a slow machine takes a minute to be compiled."""
_INFERENCES = 3
# sys.path is handed over: a child's own would begin with the current folder, where anything may lie.
_PROGRAM = (
    "import sys; sys.path[:] = sys.argv[1].split('\\n'); from rtpsp.bench.memory import own_peak_with; "
    "print('peak', own_peak_with(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))"
)


def peak_memory(path: Path, threads: int = 0, inferences: int = _INFERENCES) -> int:
    """Most memory, in bytes, of a process that opens an engine file and infers a few frames of noise.

    It is what the process had in memory, all of it: Python, NumPy and the runtime's library are in it (`rtpsp run`
    needs them too), and so is what compiling the engine took. Memory of a GPU is not.

    Args:
        path: The engine file.
        threads: CPU threads; 0 leaves them to the backend.
        inferences: How many.

    Raises:
        MissingError: The process did not come to its end; the message is the reason in a line.
    """
    words = ["\n".join(sys.path), str(path), str(threads), str(inferences)]
    command = [sys.executable, "-c", _PROGRAM, *words]
    try:
        child = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise MissingError(f"{path}: its memory could not be measured: no answer within {SECONDS:.0f} s") from error
    except OSError as error:
        raise MissingError(f"{path}: no process could be started to measure its memory ({error.strerror})") from error
    told = [line.split() for line in child.stdout.decode(errors="replace").splitlines()]  # a runtime may print, too
    peaks = [int(words[1]) for words in told if len(words) == 2 and words[0] == "peak"]
    if not peaks:
        said = child.stderr.decode(errors="replace").strip().splitlines()
        raise MissingError(
            f"{path}: its memory could not be measured: the process ended with code {child.returncode}"
            + (f" ({said[-1]})" if said else "")
        )
    return peaks[-1]


def own_peak_with(path: str, threads: int, inferences: int) -> int:
    """What the child does: this process's peak in bytes, once an engine was open in it and inferred."""
    import numpy as np

    from rtpsp.engine import load_engine
    from rtpsp.engine.base import EngineOptions

    with load_engine(path, EngineOptions(threads=threads)) as engine:
        shape = (engine.batch, *engine.spec.frame_shape)
        frames = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        for _ in range(inferences):
            engine.infer(frames)
        return own_peak()


def own_peak() -> int:
    """Most memory that this process had so far, in bytes.

    Not by getrusage on Linux: what it tells of a process begins with the peak of the one that started it.
    """
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM:")))
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
