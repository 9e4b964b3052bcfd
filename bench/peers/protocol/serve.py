"""The process of one peer: ``PYTHON serve.py PEER.py JOB.json``, spoken to by `rtpsp.bench.peers_process`.

It runs in the peer's own environment, which has NumPy and the peer's library and nothing of ours. Requests come on
standard input, answers go to standard output, one JSON object a line.

    (start)                       {"ready": {"ran", "threads", "versions"}}, or {"not_here": reason}
    {"do": "run", "index": i}     {"begin", "end", "cpu"}: seconds
    {"do": "answer", "index": i}  {"saved": path of an .npy}
    {"do": "loop", "frames": n}   {"stamps": [seconds, ...]}
    {"do": "idle", "seconds": s}  {"cpu": seconds}: what the process burns while it waits

``begin``, ``end`` and ``stamps`` are of `time.monotonic`, which on Linux is CLOCK_MONOTONIC: one clock for all
processes of a machine. CPU seconds are of all threads of this process.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from peer_job import Job, Loaded, NotHere

PR_SET_PDEATHSIG = 1  # of Linux's prctl


def main(peer: Path, job_file: Path) -> int:
    """Serves until standard input ends; 0, or 1 when the peer could not be loaded."""
    os.setpgrp()  # so that it can be ended with all that it starts
    _end_with_the_runner()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer

    def say(**values: Any) -> None:
        print(json.dumps(values), file=answers, flush=True)

    job = Job(**json.loads(job_file.read_text(encoding="utf-8")))
    try:
        loaded: Loaded = _module(peer).load(job)
    except NotHere as reason:
        say(not_here=str(reason))
        return 1
    frames = np.load(job.frames)
    loaded.segment(frames[0])  # what is done late by a library is done here
    say(ready={"ran": loaded.ran, "threads": loaded.threads, "versions": dict(loaded.versions)})
    for line in sys.stdin:
        say(**_answer(json.loads(line), job, loaded, frames))
    loaded.close()
    return 0


def _end_with_the_runner() -> None:
    """Whatever becomes of the runner, nobody is left that loads for minutes, or stands still for ever."""
    if sys.platform == "linux":
        import ctypes
        import signal

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _answer(asked: dict[str, Any], job: Job, loaded: Loaded, frames: Any) -> dict[str, Any]:
    what = asked["do"]
    if what == "run":
        frame = frames[asked["index"] % len(frames)]
        burnt, begin = time.process_time(), time.monotonic()
        loaded.segment(frame)
        end = time.monotonic()
        return {"begin": begin, "end": end, "cpu": time.process_time() - burnt}
    if what == "answer":
        index = asked["index"] % len(frames)
        path = Path(job.folder) / f"answer-{index}.npy"
        np.save(path, np.ascontiguousarray(loaded.segment(frames[index])))
        return {"saved": str(path)}
    if what == "idle":
        before = time.process_time()
        time.sleep(asked["seconds"])
        return {"cpu": time.process_time() - before}
    assert what == "loop" and loaded.loop is not None, f"asked for {what}"
    return {"stamps": loaded.loop(asked["frames"])}


def _module(path: Path) -> ModuleType:
    found = importlib.util.spec_from_file_location(path.stem, path)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
