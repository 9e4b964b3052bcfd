"""Environments of peers: made once, known by what they hold, and nothing left of one that failed."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from rtpsp.bench.peers_environment import environment_python
from rtpsp.errors import MissingError


class Pip:
    """Stands in for the commands: makes an empty environment, and fails as it is told."""

    def __init__(self) -> None:
        self.installs: list[str] = []
        self.says: str | None = None

    def __call__(self, command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        if "venv" in command:
            Path(command[-1], "bin").mkdir(parents=True)
            return subprocess.CompletedProcess(command, 0, "", "")
        self.installs.append(command[0])
        return subprocess.CompletedProcess(command, 0 if self.says is None else 1, "", self.says or "")


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> Pip:
    stand_in = Pip()
    monkeypatch.setattr("rtpsp.bench.peers_environment.subprocess.run", stand_in)
    return stand_in


def requirements(folder: Path, name: str, text: str) -> Path:
    path = folder / name / "requirements.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_the_same_requirements_are_installed_once(tmp_path: Path, pip: Pip) -> None:
    first = environment_python(requirements(tmp_path, "a", "# why\nlibrary==1\n"), tmp_path / "cache")
    second = environment_python(requirements(tmp_path, "b", "library==1\n\n# another reason\n"), tmp_path / "cache")
    assert first == second
    assert pip.installs == [str(first)]
    assert environment_python(requirements(tmp_path, "a", "library==2\n"), tmp_path / "cache") != first
    assert len(pip.installs) == 2


def test_one_that_fails_says_why_and_is_tried_again(tmp_path: Path, pip: Pip) -> None:
    pip.says = "WARNING: retrying\nERROR: No matching distribution found for library==1\nhint: look elsewhere\n"
    file = requirements(tmp_path, "library-x", "library==1\n")
    with pytest.raises(MissingError, match=r"^library-x could not be installed \(No matching .* library==1\)"):
        environment_python(file, tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    pip.says = None
    environment_python(file, tmp_path / "cache")
    assert len(pip.installs) == 2


def test_half_of_one_is_made_anew(tmp_path: Path, pip: Pip) -> None:
    file = requirements(tmp_path, "a", "library==1\n")
    python = environment_python(file, tmp_path / "cache")
    (python.parents[1] / ".ready").unlink()  # as if the process had been killed before
    (python.parents[1] / "half").touch()
    environment_python(file, tmp_path / "cache")
    assert not (python.parents[1] / "half").exists()
    assert len(pip.installs) == 2


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, pip: Pip) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MissingError, match="no environment can be made"):
        environment_python(requirements(tmp_path, "a", "library\n"), tmp_path / "file" / "cache")
