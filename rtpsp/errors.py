"""Every error that rtpsp raises on purpose, and the exit code that each one ends a command with.

    RtpspError                  anything below; never raised itself
    ├── UsageError          2   options that contradict each other or cannot be read
    ├── InputError          3   something the user gave us is wrong
    │   ├── SourceError         a video, folder, camera URI or simulator URI that cannot be opened
    │   ├── ModelError          an ONNX file or checkpoint that is not a model we can lower
    │   ├── DataError           images and labels that do not fit together, or ranges that are not of this model
    │   └── EngineFileError     an engine file that is damaged, foreign or built for something else
    ├── MissingError        4   a backend, device, display or package is missing
    ├── SourceLost          5   the source stalled or went away for good
    ├── BoundNotMet         6   an asked-for bound (agreement, accuracy, rate) was not met
    └── OutputError         7   an output could not be written

A message says what we got, what we expected and what to do, in that order. The command line prints it as one line;
only an error that is *not* in this tree is a bug of ours (exit code 70) and gets a traceback.
"""

from __future__ import annotations

EXIT_BUG = 70
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class RtpspError(Exception):
    """Base of every error that rtpsp raises on purpose."""

    exit_code = EXIT_BUG


class UsageError(RtpspError):
    """Options contradict each other or cannot be read."""

    exit_code = 2


class InputError(RtpspError):
    """Something that the user gave us is wrong."""

    exit_code = 3


class SourceError(InputError):
    """A source cannot be opened or understood.

    Attributes:
        kind: What sort of fault, a `rtpsp.stream.health.FaultKind`; empty for one that no second try can cure.
    """

    def __init__(self, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind


class ModelError(InputError):
    """A file is not a model that rtpsp can lower."""


class DataError(InputError):
    """Images and labels do not fit together, or a calibration is damaged or of something else."""


class EngineFileError(InputError):
    """An engine file is damaged, foreign, or built for something else."""


class MissingError(RtpspError):
    """A backend, device, display or package is missing on this machine."""

    exit_code = 4


class SourceLost(RtpspError):
    """The source stalled or went away for good.

    Attributes:
        kind: What sort of fault, a `rtpsp.stream.health.FaultKind`.
    """

    exit_code = 5

    def __init__(self, message: str, kind: str = "lost") -> None:
        super().__init__(message)
        self.kind = kind


class BoundNotMet(RtpspError):
    """A bound that was asked for was not met."""

    exit_code = 6


class OutputError(RtpspError):
    """An output could not be written."""

    exit_code = 7
