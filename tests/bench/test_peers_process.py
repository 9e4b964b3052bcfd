"""The process of a peer: its answers, that it stands still between its turns, and every way in which it can fail."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil  # type: ignore[import-untyped]
import pytest

from rtpsp.bench.peers_process import PeerLane, PeerProcess, StoppedByUser
from rtpsp.errors import MissingError
from rtpsp.timing import now
from tests.bench.fake_peers import GOOD, add_peer, fake_folder, job_of

Start = Callable[..., PeerProcess]

HEAD = "import os, sys, threading, time\nimport numpy as np\nfrom peer_job import Loaded, NotHere\n"
DIES = HEAD + (
    "def load(job):\n"
    "    def segment(frame):\n"
    "        if frame[0, 0, 0]:\n"
    "            print('out of memory', file=sys.stderr, flush=True)\n"
    "            os._exit(3)\n"
    "        return frame[..., 0]\n"
    "    return Loaded(segment, 'f32')\n"
)
HANGS = HEAD + (
    "def load(job):\n"
    "    def segment(frame):\n"
    "        if frame[0, 0, 0]:\n"
    "            time.sleep(600)\n"
    "        return frame[..., 0]\n"
    "    return Loaded(segment, 'f32')\n"
)
SPINS = HEAD + (
    "def spin():\n"
    "    while True:\n"
    "        pass\n"
    "def load(job):\n"
    "    threading.Thread(target=spin, daemon=True).start()\n"
    "    return Loaded(lambda frame: frame[..., 0], 'f32')\n"
)
LOUD = HEAD + (
    "def load(job):\n"
    "    print('{\"ready\": 0}')\n"
    "    os.write(1, b'and from C\\n')\n"
    "    return Loaded(lambda frame: frame[..., 0], 'f32', 5, {'library': '2.0'})\n"
)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a peer of some code on two frames, the first of zeros, and ends it after the test."""
    peers = fake_folder(tmp_path)
    frames = tmp_path / "frames.npy"
    np.save(frames, np.stack([np.zeros((4, 6, 3), np.uint8), np.full((4, 6, 3), 7, np.uint8)]))
    running: list[PeerProcess] = []

    def begin(code: str, **options: object) -> PeerProcess:
        file = add_peer(peers, f"fake{len(running)}", code)
        process = PeerProcess("Fake fp32", Path(sys.executable), file, job_of(frames), tmp_path, **options)  # type: ignore[arg-type]
        running.append(process)
        return process

    yield begin
    for process in running:
        process.close()


def test_turns_and_answers_come_from_its_process_on_our_clock(start: Start) -> None:
    process = start(LOUD)
    assert process.ready == {"ran": "f32", "threads": 5, "versions": {"library": "2.0"}}  # whatever it printed
    lane = PeerLane(process)
    before = now()
    begin, end = lane.run(1)
    assert before <= begin <= end <= now()
    assert lane.cores_busy is not None and lane.cores_busy >= 0
    assert lane.class_map(3).tolist() == [[7] * 6] * 4  # the frame of the number modulo how many there are
    assert lane.class_map(2).max() == 0


def test_between_its_turns_it_stands_still(start: Start) -> None:
    process = start(SPINS)
    child = psutil.Process(process._child.pid)
    assert child.status() == psutil.STATUS_STOPPED
    assert process.idle_percent() > 0  # it would burn a core
    assert child.status() == psutil.STATUS_STOPPED
    process.close()
    assert not child.is_running()


def test_none_is_left_when_the_runner_is_killed(tmp_path: Path) -> None:
    """Not even one that stands still."""
    file = add_peer(fake_folder(tmp_path), "fake", SPINS)
    np.save(tmp_path / "frames.npy", np.zeros((1, 4, 6, 3), np.uint8))
    (tmp_path / "given.json").write_text(json.dumps(job_of(tmp_path / "frames.npy")), encoding="utf-8")
    program = (
        "import json, os, signal, sys\n"
        "from pathlib import Path\n"
        "from rtpsp.bench.peers_process import PeerProcess\n"
        "folder = Path(sys.argv[1])\n"
        "job = json.loads((folder / 'given.json').read_text())\n"
        "process = PeerProcess('Fake', Path(sys.executable), Path(sys.argv[2]), job, folder)\n"
        "print(process._child.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(int(done.stdout)).wait(20)  # raises where it is still there


def test_one_that_dies_says_how(start: Start) -> None:
    lane = PeerLane(start(DIES))
    lane.run(0)
    with pytest.raises(MissingError, match=r"^Fake fp32: its process ended with exit code 3: out of memory$"):
        lane.run(1)
    with pytest.raises(MissingError, match="ended with exit code 3"):  # and asking again is no crash of ours
        lane.run(0)


def test_one_that_hangs_is_ended(start: Start) -> None:
    process = start(HANGS, turn_seconds=0.3)
    child = psutil.Process(process._child.pid)
    with pytest.raises(MissingError, match=r"no answer within 0 s: its process was ended"):
        process.ask(do="run", index=1)
    assert not child.is_running()


def test_one_that_is_not_ready_in_time_is_ended(start: Start) -> None:
    with pytest.raises(MissingError, match="no answer within"):
        start(HEAD + "time.sleep(600)\n", load_seconds=0.2)


def test_one_that_is_not_for_this_machine_says_why(start: Start) -> None:
    with pytest.raises(MissingError, match=r"^Fake fp32: no bf16 here$"):
        start(HEAD + "def load(job):\n    raise NotHere('no bf16 here')\n")


def test_one_that_cannot_be_imported_gives_its_last_line(start: Start) -> None:
    with pytest.raises(MissingError, match="exit code 1: ModuleNotFoundError: No module named 'no_such_library'"):
        start("import no_such_library\n")


def test_a_person_need_not_wait_for_it(start: Start) -> None:
    with pytest.raises(StoppedByUser):
        start(GOOD, stopped=lambda: True)


def test_what_is_no_answer_is_not_taken_for_one(start: Start, tmp_path: Path) -> None:
    (tmp_path / "bench/peers/protocol/serve.py").write_text("print('hello')\n", encoding="utf-8")
    with pytest.raises(MissingError, match=r"answered b'hello', expected one JSON object"):
        start(GOOD)


def test_threads_that_somebody_set_for_others_are_not_its_own(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    code = HEAD + "def load(job):\n    return Loaded(lambda frame: frame, str(os.environ.get('OMP_NUM_THREADS')))\n"
    assert start(code).ready["ran"] == "None"
    assert os.environ["OMP_NUM_THREADS"] == "1"
