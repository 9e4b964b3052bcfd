"""Every awkward input gives the right picture or one clear line."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from rtpsp.cli import main
from tests.awkward.case import Case, Ran
from tests.awkward.cases import all_cases, judge, made

CASES = all_cases()


@pytest.fixture(autouse=True)
def _as_on_a_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("RTPSP_CALIB", str(tmp_path / "calib"))
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_it_gives_the_right_picture_or_one_clear_line(
    case: Case,
    tmp_path: Path,
    colour_engine: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    reason = case.why_not()
    if reason:
        pytest.skip(reason)
    monkeypatch.chdir(tmp_path)
    with made(case, tmp_path, colour_engine) as words:
        capfd.readouterr()  # what the makers' libraries had to say
        with pytest.raises(SystemExit) as exit_:
            main(words)
        printed = capfd.readouterr()
        code = exit_.value.code
        assert isinstance(code, int)
        judge(case, Ran(tmp_path, code, printed.out, printed.err))


def test_each_case_has_a_name_of_its_own() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)


def test_the_table_has_every_case() -> None:
    """``python -m tests.awkward`` writes it; a case that is added or renamed has to be run for it."""
    text = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")][1:]
    assert [row[0].removeprefix("| ") for row in rows] == [case.name for case in CASES]
    codes = [row[-1].removesuffix(" |") for row in rows]
    assert codes == [str(case.code) for case in CASES]
