"""Where engines, manifests and ranges lie when nobody names a place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest

from rtpsp.places import (
    CALIB_VARIABLE,
    ENGINES_VARIABLE,
    calibration_folder,
    engines_folder,
    make_private,
    models_folder,
    private_folder,
)

SHELVES = [(engines_folder, ENGINES_VARIABLE, "engines"), (calibration_folder, CALIB_VARIABLE, "calib")]
Folder = Callable[[], Path]


@pytest.mark.parametrize(("folder", "variable", "name"), SHELVES)
def test_a_shelf_has_its_place(
    folder: Folder, variable: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for other in (ENGINES_VARIABLE, CALIB_VARIABLE):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert folder() == tmp_path / "cache" / "rtpsp" / name
    (tmp_path / name).mkdir()
    (tmp_path / name / "README.md").touch()
    assert folder() == tmp_path / "cache" / "rtpsp" / name, "a folder of that name alone is no checkout"
    (tmp_path / "rtpsp" / "zoo").mkdir(parents=True)
    assert folder() == tmp_path / name
    assert models_folder() == tmp_path / "cache" / "rtpsp" / "models", "all checkouts and releases share it"
    monkeypatch.setenv(variable, "~nobody-of-that-name/shelf")
    assert folder() == Path("~nobody-of-that-name/shelf")
    monkeypatch.setenv(variable, "")
    assert folder() == tmp_path / name, "a variable that is empty names nothing"


@pytest.mark.parametrize("answer", [[Path("~/.cache/rtpsp")], RuntimeError("could not determine the home directory")])
def test_a_user_without_a_home(answer: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CALIB_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("platformdirs.user_cache_path", Mock(side_effect=answer))
    assert calibration_folder() == Path("/.cache/rtpsp/calib")


def test_a_private_folder_is_nobody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = private_folder("models")
    assert folder.name == "models" and folder.parent.parent == tmp_path
    make_private(folder.parent)
    make_private(folder.parent)
    assert folder.parent.stat().st_mode & 0o777 == 0o700
    folder.parent.chmod(0o777)
    with pytest.raises(PermissionError, match="somebody else"):
        make_private(folder.parent)
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(PermissionError, match="somebody else"):
        make_private(tmp_path / "link")
