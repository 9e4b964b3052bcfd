"""All cases: media, and engines and models where they are written down."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from tests.awkward.case import ENGINE, Case, Ran
from tests.awkward.media import CASES as MEDIA_CASES


def all_cases() -> list[Case]:
    """Those of `media.py`, and those of `models.py` and `int8.py` where they are there, in the order of the table."""
    cases = list(MEDIA_CASES)
    if importlib.util.find_spec("tests.awkward.models"):
        cases += import_module("tests.awkward.models").ENGINE_AND_MODEL_CASES
    if importlib.util.find_spec("tests.awkward.int8"):
        cases += import_module("tests.awkward.int8").INT8_CASES
    return cases


@contextmanager
def made(case: Case, folder: Path, engine: Path) -> Iterator[list[str]]:
    """Make the files in `folder`; gives the arguments, and cleans up."""
    case.make(folder)
    try:
        yield [str(engine) if word == ENGINE else word for word in case.arguments]
    finally:
        case.undo(folder)


def judge(case: Case, ran: Ran) -> None:
    """Hold what came against what the case expects.

    Raises:
        AssertionError: They differ.
    """
    import re

    assert ran.code == case.code, ran.err
    assert "Traceback" not in ran.err, ran.err
    if case.line is None:
        assert ran.told == []
    else:
        assert len(ran.told) == 1, ran.told
        assert re.search(case.line, ran.told[0]), ran.told[0]
    if case.check:
        case.check(ran)
