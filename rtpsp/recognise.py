"""What a person meant: the file that a misspelt name stands for, and what a file of the wrong kind is.

Only a file's first bytes are looked at; they are the signatures that their formats begin with.
"""

from __future__ import annotations

import difflib
import os
from itertools import islice
from pathlib import Path
from typing import NamedTuple

HEAD_BYTES = 16
_LOOKED_AT = 5000
"""Files of a folder that a misspelt name is compared with; each takes some microseconds."""


class Kind(NamedTuple):
    """A kind of file.

    Attributes:
        name: With its article: ``a video``.
        use: What to do with it, with ``{}`` for its path.
    """

    name: str
    use: str


_RUN = "segment it with rtpsp run --source {}"
_PICTURE, _VIDEO = Kind("a picture", _RUN), Kind("a video or sound", _RUN)
_CHECKPOINT = Kind("a PyTorch checkpoint or another archive", "make a model of it with rtpsp export {}")
_SIGNATURES = (
    (0, b"RTPSPENG", Kind("an rtpsp engine", "run it with rtpsp run --engine {}")),
    (0, b"PK\x03\x04", _CHECKPOINT),
    (0, b"\x80\x02", _CHECKPOINT),
    (0, b"\x89PNG", _PICTURE),
    (0, b"\xff\xd8\xff", _PICTURE),
    (4, b"ftyp", _VIDEO),
    (0, b"\x1aE\xdf\xa3", _VIDEO),
    (0, b"RIFF", _VIDEO),
)


def kind_of(head: bytes) -> Kind | None:
    """What a file is, from its first `HEAD_BYTES` bytes; None for a kind that is not known."""
    return next((kind for at, mark, kind in _SIGNATURES if head[at : at + len(mark)] == mark), None)


def near(path: Path) -> Path | None:
    """The file in the same folder whose name is nearest to one that is not there; None where none is near."""
    try:
        with os.scandir(path.parent) as entries:
            names = {entry.name.lower(): entry.name for entry in islice(entries, _LOOKED_AT)}
    except (OSError, ValueError):
        return None
    found = difflib.get_close_matches(path.name.lower(), names, n=1, cutoff=0.7)
    return path.parent / names[found[0]] if found else None
