"""What a shell is told: verbs, options, choices, label sets, files; and that it is told without heavy modules."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

from rtpsp.cli._verbs import VERBS, Verb, group
from rtpsp.cli.completion import COMPLETE, WORDS
from tests.cli.conftest import Call

HEAVY = ("numpy", "onnx", "onnx_ir", "onnxruntime", "openvino", "cv2", "av", "torch")


def told(*words: str) -> list[tuple[str, str]]:
    *before, last = words
    items = ShellComplete(group, {}, "rtpsp", COMPLETE).get_completions(list(before), last)
    return [(item.type, item.value) for item in items]


def plain(*words: str) -> list[str]:
    return [value for kind, value in told(*words) if kind == "plain"]


def test_verbs_complete() -> None:
    assert plain("") == list(VERBS)
    assert plain("b") == ["build-engine", "bench"]
    assert set(plain("--")) == {
        "--config",
        "--dump-config",
        "--verbose",
        "--debug",
        "--version",
        "--help",
        "--log-format",
    }
    assert plain("segment", "") == list(VERBS), "a verb that is none breaks nothing"


def test_options_and_choices_complete() -> None:
    assert {"--source", "--legend", "--no-legend", "--config", "--debug", "--help"} <= set(plain("run", "--"))
    assert plain("run", "--view", "s") == ["side-by-side"]
    assert plain("run", "--alpha", "0.7", "--view", "") == ["overlay", "mask", "side-by-side", "frame"]
    assert plain("completion", "") == ["bash", "zsh", "fish"]


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--engine", "x"),
        ("run", "--source", "x"),
        ("run", "--output", "x"),
        ("run", "--config", "x"),
        ("--config", "x"),
        ("bench", "x"),
        ("build-engine", "x"),
        ("eval", "x"),
        ("eval", "x.engine", "--data", "x"),
        ("export", "--labels", "x"),
    ],
)
def test_files_complete(words: tuple[str, ...]) -> None:
    assert told(*words) == [("file", "x")]


def test_words_complete_where_a_file_may_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"camvid", "cityscapes"} <= set(plain("export", "--labels", "c"))
    assert plain("run", "--source", "si") == ["sim://street"]
    monkeypatch.setitem(WORDS, "DEVICE", lambda: ["/dev/video0", "/dev/video2"])
    assert plain("run", "--camera", "/dev/") == ["/dev/video0", "/dev/video2"]


def test_a_text_that_completes_is_still_a_text() -> None:
    verb = group.get_command(click.Context(group), "export")
    assert isinstance(verb, Verb)
    labels = next(param for param in verb.params if param.name == "labels")
    assert labels.type("anything") == "anything" and labels.type.name == "text"


@pytest.mark.parametrize(("words", "first"), [("rtpsp ru", "plain,run"), ("rtpsp run --sou", "plain,--source")])
def test_nothing_heavy_is_loaded_to_complete(words: str, first: str) -> None:
    program = (
        "import sys; from rtpsp.cli import main\n"
        "try: main()\n"
        f"except SystemExit: print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    environment = {**os.environ, COMPLETE: "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == first and done.stdout.splitlines()[-1] == "[]"


def test_what_is_broken_is_not_told_in_the_middle_of_a_line(rtpsp: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VERBS, "gone", ("rtpsp.cli.gone", ""))
    for name, value in ((COMPLETE, "bash_complete"), ("COMP_WORDS", "rtpsp gone --"), ("COMP_CWORD", "2")):
        monkeypatch.setenv(name, value)
    done = rtpsp()
    assert (done.code, done.out, done.err) == (1, "", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_printed(rtpsp: Call, shell: str) -> None:
    done = rtpsp("completion", shell)
    assert done.code == 0 and f"{COMPLETE}={shell}_complete" in done.out
    assert rtpsp("completion", "tcsh").code == 2


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes(tmp_path: Path) -> None:
    (tmp_path / "my clip.mp4").touch()
    command = tmp_path / "rtpsp"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m rtpsp "$@"\n')
    command.chmod(0o755)
    program = """
        eval "$(rtpsp completion bash)" || exit
        complete -p rtpsp
        compopt() { echo "files"; }
        COMP_WORDS=(rtpsp compl); COMP_CWORD=1; _rtpsp_completion rtpsp compl rtpsp; echo "${COMPREPLY[@]}"
        COMPREPLY=(); COMP_WORDS=(rtpsp completion f); COMP_CWORD=2
        _rtpsp_completion rtpsp f completion; echo "${COMPREPLY[@]}"
        COMPREPLY=(); COMP_WORDS=(rtpsp --config ""); COMP_CWORD=2; _rtpsp_completion rtpsp "" --config
    """
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "--norc", "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert lines[0].endswith("-F _rtpsp_completion rtpsp") and lines[1:] == ["completion", "fish", "files"], done.stderr
