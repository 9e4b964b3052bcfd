"""TensorRT's timing cache on disk: a second build of a model takes seconds where the first took minutes.

What was measured holds for one release on one model of GPU, so each pair of them has a file of its own.
"""

from __future__ import annotations

import re
from pathlib import Path

from rtpsp.engine import tensorrt_types as types
from rtpsp.errors import OutputError
from rtpsp.files import write_atomically
from rtpsp.machine import Gpu


class TimingCache:
    """The file of one release and GPU; a build without it is only slower, so that nothing here fails.

    Args:
        folder: Where the files lie; None keeps nothing.
        version: TensorRT's.
        gpu: That it builds on.

    Attributes:
        path: The file, which may not be there yet; None keeps nothing.
        notes: What its user should know, each a clause.
    """

    def __init__(self, folder: Path | None, version: str, gpu: Gpu | None) -> None:
        self.notes: list[str] = []
        self.path: Path | None = None
        self._read = b""
        if folder is not None and gpu is not None:
            name = re.sub(r"[^a-z0-9]+", "-", gpu.name.lower()).strip("-")
            capability = gpu.compute_capability.replace(".", "")
            self.path = folder / f"tensorrt{version}-{name}-sm{capability}.timings"

    def load_into(self, config: types.IBuilderConfig) -> None:
        """Give the builder what is in the file, or an empty cache where it takes nothing of that."""
        if self.path is None:
            return
        try:
            self._read = self.path.read_bytes()
        except FileNotFoundError:
            pass
        except OSError as error:
            self._note(f"cannot be read ({error.strerror or error})")
        if self._read and not _set(config, self._read):
            self._note("is of another release, GPU or driver, or damaged, and is written anew")
            self._read = b""
        if not self._read and not _set(config, b""):
            self._note("could not be made")

    def save_from(self, config: types.IBuilderConfig) -> None:
        """Write what the builder has now, if that is something new; also after a build that failed or was cancelled."""
        cache = config.get_timing_cache() if self.path is not None else None
        memory = cache.serialize() if cache is not None else None
        data = bytes(memory) if memory is not None else b""
        if self.path is None or not data or data == self._read:
            return
        try:
            write_atomically(self.path, data, hint="leave the timing cache out", make_folder=True)
        except OutputError as error:
            self.notes.append(f"the timing cache is not kept: {error}")

    def _note(self, what: str) -> None:
        self.notes.append(f"timing cache {self.path} {what}")


def _set(config: types.IBuilderConfig, data: bytes) -> bool:
    cache = config.create_timing_cache(data)
    return cache is not None and config.set_timing_cache(cache, False)
