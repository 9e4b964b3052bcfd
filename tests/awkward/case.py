"""What a case of awkward input is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ENGINE = "ENGINE"
"""Stands in a case's arguments for the path of a small engine of 48x64 that names each pixel by its nearest colour of
CamVid's palette (`tests.conftest.save_colour_model`)."""


@dataclass(frozen=True)
class Ran:
    """How a case came out.

    Attributes:
        folder: The working directory that it ran in.
        code: Exit code.
        out: Standard output.
        err: Standard error, that of C libraries included.
    """

    folder: Path
    code: int
    out: str
    err: str

    @property
    def told(self) -> list[str]:
        """The warnings and errors: what a user reads beside the banner."""
        return [line for line in self.err.splitlines() if line.strip() and not line.startswith(_USUAL)]


_USUAL = ("no window: ", "source  ", "engine  ", "build-engine ", "Usage: ", "Try 'rtpsp")
"""How the lines begin that every run, every build or every usage error prints."""


@dataclass(frozen=True)
class Case:
    """One awkward input and what is to come of it.

    Attributes:
        name: The input, in words; unique.
        make: Writes what is needed into the folder that it is given, the working directory of the run.
        arguments: Those of `rtpsp`; `ENGINE` becomes an engine's path.
        code: The exit code.
        line: Matches, by `re.search`, the only line on stderr beside the banner: the error, or a warning where the code
            is 0. None where nothing is to be said.
        check: Looks at what was written; raises `AssertionError`.
        why_not: Why it cannot be tried on this machine, or None.
        undo: Called at the end in any case, after a `make` that came through.
    """

    name: str
    make: Callable[[Path], object]
    arguments: tuple[str, ...]
    code: int
    line: str | None = None
    check: Callable[[Ran], None] | None = None
    why_not: Callable[[], str | None] = lambda: None
    undo: Callable[[Path], object] = lambda folder: None


def run(*words: str, frames: int = 5) -> tuple[str, ...]:
    """The arguments of a short `rtpsp run` with the small engine."""
    return ("run", *words, "--engine", ENGINE, "--threads", "1", "--max-frames", str(frames))


def nothing(folder: Path) -> None:
    """Make no file."""
