"""``rtpsp train`` through the real entry point: kills, Ctrl-C, what is refused, and what is said."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Call
from tests.shapes import narrowed, save_shapes

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

SHORT = (
    "--size", "64x96", "--epochs", "2", "--batch", "2", "--warmup", "0.2", "--ema", "0.9", "--validate-every", "1",
    "--precision", "fp32",
)  # fmt: skip
MACHINE = ("--device", "cpu", "--threads", "1")

CHILD = """
import sys
from rtpsp.model import train
from rtpsp.model.pspnet import ARCHS
ARCHS["pspnet18"] = ARCHS["pspnet18"].narrowed(8)
learn = train.Trainer.learn

def pausing(self, batch):
    if self.step == int(sys.argv[1]):
        print("HERE", flush=True)
        sys.stdin.readline()
    return learn(self, batch)

train.Trainer.learn = pausing
from rtpsp.cli import main
main(sys.argv[2:])
"""


@pytest.fixture(scope="module", autouse=True)
def narrow() -> Iterator[None]:
    from rtpsp.model.pspnet import ARCHS

    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHS, "pspnet18", narrowed())
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five images to learn from, three steps an epoch, and one to validate on."""
    return save_shapes(tmp_path_factory.mktemp("data"), {"train": 5, "val": 1})


def asked(data: Path, *more: str) -> tuple[str, ...]:
    return ("train", "--data", str(data), "--labels", str(data / "shapes.txt"), *SHORT, *MACHINE, *more)


def child(step: int, *words: str) -> subprocess.Popen[str]:
    """A training that waits before the step of that number, from 0, once it is there."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(step), *words],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "HERE\n", process.communicate()
    return process


def weights(folder: Path) -> dict[str, Any]:
    state = torch.load(folder / "state.pth", weights_only=True)
    return {**state["model"], **{f"average {name}": value for name, value in state["average"].items()}}


def interrupted(trainer: Any, batch: Any, learn: Any) -> Any:
    """A step, in the second of which Ctrl-C is pressed twice."""
    if trainer.step == 4:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    return learn(trainer, batch)


def test_after_ctrl_c_and_a_kill_the_weights_are_those_of_an_undisturbed_run(
    rtpsp: Call, data: Path, tmp_path: Path
) -> None:
    from rtpsp.model.train import Trainer

    folder, learn = str(tmp_path / "disturbed"), Trainer.learn
    process = child(1, *asked(data, "-o", folder))
    process.send_signal(signal.SIGINT)
    _, told = process.communicate("\n", timeout=120)
    assert process.returncode == 130 and "Traceback" not in told, told
    assert told.endswith(f"stopped and saved; go on with: rtpsp train --resume {folder}\n")
    assert "finishing this step, then saving; Ctrl-C again stops now\n" in told
    assert torch.load(f"{folder}/state.pth", weights_only=True)["step"] == 2

    process = child(4, "train", "--resume", folder, *MACHINE)
    busy = rtpsp("train", "--resume", folder, *MACHINE)
    assert busy.code == 2 and "is being written by another training" in busy.err
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert torch.load(f"{folder}/state.pth", weights_only=True)["step"] == 3, "of the end of the first epoch"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "learn", lambda trainer, batch: interrupted(trainer, batch, learn))
        twice = rtpsp("train", "--resume", folder, *MACHINE)
    assert twice.code == 130
    assert f"saved last at step 3 of 6; go on with: rtpsp train --resume {folder}\n" in twice.err

    done = rtpsp("train", "--resume", folder, *MACHINE)
    assert done.code == 0 and "going on at step 3 of 6" in done.err, done.err
    undisturbed = rtpsp(*asked(data, "-o", str(tmp_path / "whole")))
    assert undisturbed.code == 0, undisturbed.err
    one, other = weights(Path(folder)), weights(tmp_path / "whole")
    assert one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())
    assert undisturbed.out.startswith(f"{tmp_path / 'whole' / 'model.pth'}\n  whole: pspnet18, 2 epochs")
    random, *lines = undisturbed.err.splitlines()
    assert random.startswith("weights: random")
    assert lines[0].startswith(f"images to learn from: 5 of {data}; to validate on: 1 of val")
    assert [bool(re.match(rf"epoch {n}: loss [\d.]+, val [\d.]+ mIoU, \d+ s$", lines[n + 1])) for n in (1, 2)] == [
        True, True,
    ], lines  # fmt: skip


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--batch", "1"), 2, "batch is 1, expected at least 2"),
        (("--lr", "nan"), 2, "lr is nan, expected 0 to 100"),
        (("--lr", "much"), 2, "'much' is not a valid float"),
        (("--scale", "2", "0.5"), 2, "scale is 2 to 0.5, expected two factors in order"),
        (("--mix", "sim://street", "0.7"), 2, "share of sim://street is 0.7, expected 0 to 0.5"),
        (("--distil", "0.7"), 2, "--distil has no meaning without --teacher"),
        (("--teacher", "t.pth", "--distil", "0"), 2, "its share of the loss is 0"),
        (("--mean", "1,x,2"), 2, "'1,x,2' is no list of numbers"),
        (("--channels", "rgbx"), 2, "--channels rgbx without --mean: give four numbers"),
        (("--mean", "0.5,0.5"), 3, "must hold three values"),
        (("--device", "gpu"), 2, "no device 'gpu': use cpu, cuda or cuda:1"),
        (("--device", "cuda:99"), 4, "no device cuda:99: PyTorch sees"),
        (("--val-split", "test"), 3, "for split 'test' expected folders test/ and testannot/"),
        (("--val-split", "test"), 3, "--val-split none trains without validation"),
        (("--labels", "shaeps.txt"), 2, "no label set or file 'shaeps.txt'"),
        (("--labels", "camvid"), 3, "class ids 255 in"),
        (("--init", "none.pth"), 3, "none.pth"),
        (("--teacher", "none.pth"), 3, "none.pth"),
        (("--data", "nowhere"), 3, "no data set at nowhere"),
        (("-o", "/dev/null/x"), 7, "cannot be written"),
    ],
)
def test_what_is_refused_gets_one_line(
    rtpsp: Call, data: Path, tmp_path: Path, words: tuple[str, ...], code: int, says: str
) -> None:
    done = rtpsp(*asked(data, "-o", str(tmp_path / "run"), *words))
    assert (done.code, done.err.count("\n"), done.out) == (code, 1, ""), done.err
    assert done.err.startswith("rtpsp: ") and says in done.err


def test_resume_takes_nothing_else_and_needs_a_training(rtpsp: Call, tmp_path: Path) -> None:
    done = rtpsp("train", "--resume", tmp_path, "--lr", "0.1")
    assert done.code == 2 and "got --lr beside --resume" in done.err and done.err.count("\n") == 1
    done = rtpsp("train", "--resume", tmp_path, "--epochs", "9")
    assert done.code == 2 and f"; to train on: --init {tmp_path / 'model.pth'} -o another" in done.err
    done = rtpsp("train", "--resume", tmp_path, *MACHINE)
    assert done.code == 3 and "recipe.json cannot be read" in done.err and done.err.count("\n") == 1
    done = rtpsp("train")
    assert done.code == 2 and "got no --data and no --labels and no --size and no -o: e.g. rtpsp train" in done.err


def test_a_rate_that_is_too_large_is_said(rtpsp: Call, data: Path, tmp_path: Path) -> None:
    done = rtpsp(*asked(data, "--lr", "100", "--warmup", "0", "--epochs", "60", "-o", str(tmp_path / "run")))
    assert done.code == 3 and "training diverged; train again with a smaller --lr than 100" in done.err


def test_help_and_usage_errors_come_before_pytorch() -> None:
    program = (
        "import sys\nfrom rtpsp.cli import main\n"
        "for words in (['train', '--help'], ['train', '--data', 'x', '--labels', 'camvid', '--size', '8x8', '-o', 'y',"
        " '--batch', '1']):\n"
        "    try: main(words)\n    except SystemExit as exit: print(exit.code, 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert [line for line in done.stdout.splitlines() if line.endswith(("False", "True"))] == ["0 False", "2 False"]
    assert max(map(len, done.stdout.splitlines())) <= 110
