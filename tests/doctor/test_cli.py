"""The verb: what it prints, what it writes, how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from rtpsp.cli import doctor as verb
from rtpsp.cli import main
from rtpsp.doctor import Diagnosis, Finding
from rtpsp.runtimes import installed_version

FINE = Finding("rtpsp", "OpenVINO", "ok", "2026.4.1 runs", details={"half": "bf16"})
CAMERA = Finding(
    "window and cameras", "camera", "missing", "none found [red]at all[/red]", "plug one in: " + "now " * 20
)
BROKEN = Finding("video", "recording", "error", "does not run", "pip install av")


def call(monkeypatch: pytest.MonkeyPatch, *words: str, findings: tuple[Finding, ...] = (FINE, CAMERA)) -> Result:
    def diagnose(quick: bool, progress: Any) -> Diagnosis:
        progress("OpenVINO", 0, 1)
        return Diagnosis(findings, f"a verdict{' in a hurry' if quick else ''}")

    monkeypatch.setattr(verb, "diagnose", diagnose)
    monkeypatch.setenv("COLUMNS", "80")
    return CliRunner().invoke(verb.command, list(words))


def test_the_table_reads_well_at_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    done = call(monkeypatch)
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].strip() == "rtpsp" and lines[1].split() == ["ok", "OpenVINO", "2026.4.1", "runs"]
    assert "[red]at all[/red]" in done.stdout, "what was found is no markup"
    assert "fix: plug one in" in done.stdout
    assert lines[-2].strip() == "a verdict" and lines[-1].startswith("Try it: rtpsp run --source 'sim://")
    assert done.stderr == ""


def test_what_is_missing_for_the_main_job_ends_with_4(monkeypatch: pytest.MonkeyPatch) -> None:
    done = call(monkeypatch, findings=(FINE, BROKEN))
    assert done.exit_code == 4
    assert "Try it" not in done.stdout and "pip install av" in done.stdout


def test_json_goes_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "new" / "doctor.json"
    done = call(monkeypatch, "--json", str(path), "--quick")
    told = json.loads(path.read_text())
    assert told["verdict"] == "a verdict in a hurry" and told["ready"] is True
    assert [Finding(**values) for values in told["findings"]] == [FINE, CAMERA]
    assert "OpenVINO" in done.stdout, "the table is printed too"


@pytest.mark.parametrize(("findings", "code"), [((FINE,), 0), ((BROKEN,), 4)])
def test_json_to_stdout_is_all_there_is(
    monkeypatch: pytest.MonkeyPatch, findings: tuple[Finding, ...], code: int
) -> None:
    done = call(monkeypatch, "--json", "-", findings=findings)
    assert json.loads(done.stdout)["ready"] is (code == 0)
    assert done.exit_code == code


def test_this_installation_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    path = tmp_path / "doctor.json"
    with pytest.raises(SystemExit) as exit_:
        main(["doctor", "--quick", "--json", str(path)])
    told = json.loads(path.read_text())
    assert exit_.value.code == 0 and told["ready"], told["verdict"]
    assert told["verdict"].startswith("This machine can run the shipped model on its CPU in ")
    found = {finding["name"]: finding for finding in told["findings"]}
    if installed_version("openvino"):
        assert found["OpenVINO"]["details"]["version"][0].isdigit()
        assert found["INT8"]["state"] == "ok" and found["INT8"]["details"]["saturates"] in (True, False)
    assert "CPUExecutionProvider" in found["ONNX Runtime"]["details"]["providers"]
    assert found["reads"]["details"]["H.264"] is True
    assert "rtsp" in found["streams"]["details"]["protocols"]
    assert found["shipped model"]["details"]["model"] == "pspnet18-camvid"
    assert found["window"]["state"] == "missing"
    assert not [finding for finding in told["findings"] if "cannot be looked at" in finding["found"]]
