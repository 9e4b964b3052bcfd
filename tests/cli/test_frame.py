"""What holds for every verb: common options, errors in one line, exit codes, signals from the first moment on."""

from __future__ import annotations

import errno
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from rtpsp.cli import _signals, console
from rtpsp.cli._verbs import VERBS
from rtpsp.errors import EXIT_BUG, UsageError
from tests.cli.conftest import Call


@pytest.fixture
def raised(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[BaseException]]:
    """A verb ``toy`` that raises what is put into the list."""
    errors: list[BaseException] = []

    @click.command("toy")
    @click.option("--share", type=click.FloatRange(0, 1), help="Of all.")
    @click.option("--loop", is_flag=True, help="Again.")
    @click.option("--size", type=console.Size(), help="How large.")
    @click.option("--report", help="Where to.")
    def toy(share: float | None, loop: bool, size: object, report: str | None) -> int | None:
        """A toy."""
        if errors:
            raise errors[0]
        return None

    module = type(sys)("rtpsp.cli.toy")
    module.command, module.SECTIONS = toy, {"Output": ("report", "size"), "Input": ("loop",)}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "rtpsp.cli.toy", module)
    monkeypatch.setitem(VERBS, "toy", ("rtpsp.cli.toy", "A toy."))
    yield errors


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (UsageError("got a, expected b"), 2, "got a, expected b"),
        (click.UsageError("no"), 2, "no"),
        (click.ClickException("no"), 2, "no"),
        (click.BadParameter("two\nlines."), 2, "Invalid value: two lines"),
        (click.FileError("x.txt", "gone"), 3, "x.txt"),
        (click.exceptions.Exit(6), 6, ""),
        (click.Abort(), 130, "stopped by Ctrl-C"),
        (KeyboardInterrupt(), 130, "stopped by Ctrl-C"),
        (ImportError("no x", name="x"), 4, "x cannot be loaded"),
        (OSError(errno.ENOSPC, "No space left on device"), 7, "standard output cannot be written (No space left"),
        (OSError(errno.ENOSPC, "No space left on device", "a.mp4"), 7, "a.mp4 cannot be written (No space left"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 7, "standard output was closed"),
    ],
)
@pytest.mark.parametrize("where", ["before", "after", "not"])
def test_an_error_is_one_line_and_its_traceback_on_request(
    rtpsp: Call, raised: list[BaseException], error: BaseException, code: int, says: str, where: str
) -> None:
    raised.append(error)
    done = rtpsp(*{"before": ["--debug", "toy"], "after": ["toy", "--loop", "--debug"], "not": ["toy"]}[where])
    assert done.code == code and not done.out
    *trace, line = done.err.splitlines() or [""]
    assert says in line and (line.startswith("rtpsp: ") or not says)
    stopped = not says or code == 130
    assert bool(trace) == (where != "not" and not stopped) and ("Traceback" in done.err) == bool(trace)


@pytest.mark.parametrize(
    "error", [EOFError("end"), PermissionError(errno.EACCES, "no", "x"), ZeroDivisionError("oops")]
)
def test_anything_else_is_a_bug(rtpsp: Call, raised: list[BaseException], error: Exception) -> None:
    """An EOFError too, which PyAV's end of file is and click takes for Ctrl-C."""
    raised.append(error)
    done = rtpsp("toy")
    assert done.code == EXIT_BUG and "Traceback" in done.err and "bug in rtpsp" in done.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["rnu"], "No such command 'rnu': did you mean 'run'?"),
        (["build"], "did you mean 'build-engine'?"),
        (["zzz"], "expected one of run, export"),
        (["--debgu", "toy"], "--debug"),
        (["toy", "--looop"], "--loop"),
        (["toy", "--share", "7"], "0<=x<=1 (try: rtpsp toy --help)"),
        (["toy", "extra"], "unexpected extra argument (extra)"),
        (["toy", "--config"], "'--config' requires an argument"),
        (["-v"], "Missing command"),
    ],
)
def test_a_slip_of_the_pen_is_one_line_and_two(
    rtpsp: Call, raised: list[BaseException], words: list[str], says: str
) -> None:
    done = rtpsp(*words)
    assert done.code == 2 and says in done.err and done.err.startswith("rtpsp: ") and done.err.count("\n") == 1


def test_verbose_counts_before_and_after(rtpsp: Call, raised: list[BaseException]) -> None:
    root = logging.getLogger()
    before = root.level
    try:
        for words, level in ((["-v", "toy"], logging.INFO), (["-v", "toy", "-v"], logging.DEBUG)):
            assert rtpsp(*words).code == 0 and root.level == level
    finally:
        root.setLevel(before)


def test_help_has_the_verbs_sections_first(rtpsp: Call, raised: list[BaseException]) -> None:
    lines = rtpsp("toy", "--help").out.splitlines()
    names = [
        line if line.endswith(":") else line.split()[0] for line in lines if line.endswith(":") or line[2:3] == "-"
    ]
    assert names == [
        "Options:", "--share", "Output:", "--report", "--size", "Input:", "--loop",
        "For every verb:", "--config", "--dump-config", "-v,", "--debug", "--log-format", "-h,",
    ]  # fmt: skip
    texts = ("Of all.", "Again.", "Where to.", "How large.")
    assert len({line.index(text) for line in lines for text in texts if text in line}) == 1
    assert any("--size HxW " in line for line in lines)


def test_the_callers_signal_handlers_come_back(rtpsp: Call, raised: list[BaseException]) -> None:
    before = [signal.getsignal(number) for number in _signals.NAMES]
    for error in ([], [UsageError("no")]):
        raised[:] = error
        rtpsp("toy")
        assert [signal.getsignal(number) for number in _signals.NAMES] == before


def command_line(*words: str) -> list[str]:
    return [sys.executable, "-m", "rtpsp", *words]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["run", "--help"], ["run", "--dump-config"], ["completion", "zsh"]]
)
def test_a_full_disk_under_standard_output_is_seven(words: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command_line(*words), stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 7 and done.stderr.count("\n") == 1 and "No space left" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_an_error_that_cannot_be_told_keeps_its_code() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command_line("rnu"), stdout=subprocess.PIPE, stderr=full, text=True, check=False)
    assert done.returncode == 2 and not done.stdout


@pytest.mark.skipif(os.name == "nt", reason="no SIGPIPE")
def test_a_reader_that_hangs_up_is_told_once() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command_line("--help"), stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 7 and done.stderr == (
        "rtpsp: standard output was closed before all was written: read it to its end\n"
    )
    done = subprocess.run(command_line("rnu"), stdout=subprocess.PIPE, stderr=write, text=True, check=False)
    os.close(write)
    assert done.returncode == 2


def test_nobody_who_listens_to_errors_does_not_silence_results() -> None:
    program = "from rtpsp.cli.console import stderr, stdout\nstderr.print('lost')\nstdout.print('kept')"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=write, check=False)
    os.close(write)
    assert done.stdout == b"kept\n" and done.returncode == 0


def caught(pid: int) -> bool:
    """SIGTERM has a handler in that process, says Linux."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    mask = int(next(line for line in status.splitlines() if line.startswith("SigCgt")).split()[1], 16)
    return bool(mask >> (signal.SIGTERM - 1) & 1)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_any_time_of_the_start_is_one_line(number: signal.Signals, tmp_path: Path) -> None:
    moments = random.Random(number)
    words = ["run", "--source", "none.mp4", "--engine", str(tmp_path / "none.engine"), "--no-show"]
    for _ in range(10):
        child = subprocess.Popen(command_line(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            while not caught(child.pid) and child.poll() is None:
                time.sleep(0.001)
            time.sleep(moments.uniform(0, 0.7))
            child.send_signal(number)
            out, err = child.communicate(timeout=30)
        finally:
            child.kill()
            child.communicate()
        lines = err.splitlines()  # two where the signal came when the error was just told
        assert out == "" and 1 <= len(lines) <= 2 and all(line.startswith("rtpsp: ") for line in lines), err
        if "stopped by" in err:
            assert child.returncode == 128 + number and _signals.NAMES[number] in err
        else:
            assert child.returncode in (3, -number), err  # done: told already, or the interpreter at its end


@pytest.mark.skipif(os.name == "nt", reason="no kill")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_an_error_is_told_is_no_traceback(number: signal.Signals) -> None:
    program = (
        "import os, time\nfrom rtpsp.cli import _main, main\n"
        f"def late(*words): os.kill(os.getpid(), {int(number)}); time.sleep(9)\n"
        "_main._show = late\nmain()"
    )
    words = ["run", "--source", "none.mp4", "--engine", "none.engine", "--no-show"]
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (128 + number, f"rtpsp: stopped by {_signals.NAMES[number]}\n")


@pytest.mark.skipif(os.name == "nt", reason="no kill")
def test_a_signal_after_the_end_changes_nothing() -> None:
    program = (
        "import atexit, os, signal, time\nfrom rtpsp.cli import main\n"
        "atexit.register(lambda: (os.kill(os.getpid(), signal.SIGINT), time.sleep(9)))\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", program, "rnu"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr


@pytest.mark.skipif(os.name == "nt", reason="no kill")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("turned", ["", "ImportError('no')", "SystemError('no')"])
def test_a_signal_inside_a_verb_is_told_whatever_it_was_turned_into(number: signal.Signals, turned: str) -> None:
    body = (
        f"try:\n        os.kill(os.getpid(), {int(number)}); time.sleep(9)\n    except BaseException:\n"
        f"        print('closed'); raise {turned}"
    )
    program = (
        "import click, os, sys, time\nfrom rtpsp.cli import main, _verbs\n"
        "@click.command('toy')\ndef command():\n    " + body + "\n"
        "sys.modules['toy'] = sys.modules['__main__']\n_verbs.VERBS['toy'] = ('toy', '')\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", program, "toy"], capture_output=True, text=True, check=False)
    assert done.returncode == 128 + number, done.stderr
    assert done.stderr == f"rtpsp: stopped by {_signals.NAMES[number]}\n" and done.stdout == "closed\n"


@pytest.mark.skipif(os.name == "nt", reason="no kill")
@pytest.mark.parametrize("number", _signals.NAMES)
def test_imports_inside_a_verb_end_at_once(number: signal.Signals) -> None:
    program = (
        "import os, time\nfrom rtpsp.cli import _signals\n"
        "_signals.install(_signals.Raise())\n"
        "with _signals.importing():\n"
        f"    try: os.kill(os.getpid(), {int(number)}); time.sleep(9)\n"
        "    except BaseException: pass"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 128 + number and "stopped by" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="no kill")
def test_a_signal_that_is_ignored_stays_ignored() -> None:
    """As under nohup, or behind a shell's ``&``."""
    program = (
        "import os, signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nfrom rtpsp.cli import main\n"
        "from rtpsp.cli import _main\nrun = _main.run\n"
        "_main.run = lambda words: os.kill(os.getpid(), signal.SIGINT) or run(words)\nmain(['--version'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.startswith("rtpsp "), done.stderr
