"""What lies in deploy/: a unit that systemd takes, images without secrets, options that there are."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from configparser import RawConfigParser
from pathlib import Path

import pytest

from rtpsp.cli import main

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
DOCKERFILES = ("Dockerfile", "Dockerfile.cuda")


def service() -> RawConfigParser:
    unit = RawConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(DEPLOY / "rtpsp.service")
    return unit


def instructions(name: str) -> list[tuple[str, str]]:
    """As the check that runs them reads them."""
    found: list[tuple[str, str]] = runpy.run_path(str(ROOT / "bench/deploy_check.py"))["instructions"](
        (DEPLOY / name).read_text()
    )
    return found


@pytest.mark.skipif(
    "CI" not in os.environ and shutil.which("systemd-analyze") is None,  # CI has it, or fails
    reason="no systemd-analyze (apt-get install systemd)",
)
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    text = (DEPLOY / "rtpsp.service").read_text()
    unit = tmp_path / "rtpsp.service"
    unit.write_text(text.replace("/opt/rtpsp/bin/rtpsp", sys.executable))  # it has to be there
    told = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert (told.returncode, told.stderr) == (0, "")
    unit.write_text(text.replace("Type=notify", "Type=notifies"))  # it would have been seen
    told = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert "notifies" in told.stderr


def test_the_unit_and_the_images_use_options_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [shlex.split(service()["Service"]["ExecStart"])[1:]]
    lines += [json.loads(dict(instructions(name))["CMD"]) for name in DOCKERFILES]
    for line in lines:
        words = [str(DEPLOY / "rtpsp.toml") if word == "/etc/rtpsp/rtpsp.toml" else word for word in line]
        assert words != line
        with pytest.raises(SystemExit, match="0"):
            main([*words, "--dump-config"])
        told = capsys.readouterr().out
        assert 'sources = "/etc/rtpsp/sources.txt"' in told and 'metrics = ":9464"' in told


def test_a_new_start_is_tried_where_it_may_help() -> None:
    unit = service()["Service"]
    assert unit["Type"] == "notify" and unit["Restart"] == "on-failure" and "WatchdogSec" in unit
    assert "143" in unit["SuccessExitStatus"].split()
    assert set(unit["RestartPreventExitStatus"].split()) == {"2", "3"}


@pytest.mark.parametrize("name", DOCKERFILES)
def test_an_image_runs_as_nobody_in_particular_and_holds_no_secret(name: str) -> None:
    steps = instructions(name)
    words = dict(steps)
    assert words["USER"] not in ("root", "0") and "/healthz" in words["HEALTHCHECK"]
    assert words["ENTRYPOINT"] == '["rtpsp"]'
    for word, rest in steps:
        assert word not in ("ARG", "ADD") and not re.search(r"(?i)passw|secret|token|://\S+@", rest)
    allowed = (DEPLOY / f"{name}.dockerignore").read_text().splitlines()
    assert allowed[0] == "*"
    copied = {
        file for word, rest in steps if word == "COPY" and "--from" not in rest for file in shlex.split(rest)[:-1]
    }
    assert copied == {line[1:] for line in allowed if line.startswith("!")}


def test_the_image_that_nobody_ran_says_so_and_is_otherwise_the_same() -> None:
    text = (DEPLOY / "Dockerfile.cuda").read_text()
    assert "Nobody has run this one yet" in text
    cpu, cuda = (instructions(name) for name in DOCKERFILES)
    differ = [step for step in cuda if step not in cpu]
    assert [word for word, _ in differ] == ["RUN", "ENV", "HEALTHCHECK"]
