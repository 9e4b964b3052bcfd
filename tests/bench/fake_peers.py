"""A folder like ``bench/peers``, with peers that need nothing but NumPy and behave as a test wants."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.conftest import COLOUR_HEIGHT, COLOUR_WIDTH

PEERS = Path(__file__).parents[2] / "bench" / "peers"

GOOD = """
import time
import cv2
import numpy as np
from peer_job import Loaded, NotHere


def load(job):
    palette = np.array(job.palette, np.float32)[:, ::-1] / 255
    offsets = 0.0003 * np.arange(0.37, job.classes) - (palette**2).sum(axis=1)

    def segment(frame):
        return (frame[..., ::-1] / 255 @ (2 * palette.T) + offsets).argmax(axis=2).astype(np.uint8)

    def loop(frames):
        video, stamps = cv2.VideoCapture(job.video), []
        while len(stamps) < frames:
            found, frame = video.read()
            if not found:
                break
            segment(frame)
            stamps.append(time.monotonic())
        return stamps

    return Loaded(segment, "f32", 1, {"fake": "1.0"}, loop)
"""
"""Answers exactly as the tests' colour model does."""


def fake_folder(folder: Path) -> Path:
    """``bench/peers`` with the real protocol and our own peer, and no other."""
    peers = folder / "bench" / "peers"
    for name in ("protocol", "rtpsp"):
        shutil.copytree(PEERS / name, peers / name, ignore=shutil.ignore_patterns("__pycache__"))
    return peers


def add_peer(
    peers: Path, name: str, code: str = GOOD, race: str = "frames", precisions: tuple[str, ...] = ("fp32",)
) -> Path:
    """One more peer; its file."""
    folder = peers / name
    folder.mkdir(parents=True)
    (folder / "requirements.txt").write_text("numpy\n", encoding="utf-8")
    told = {"title": name.title(), "guide": "a test", "precisions": precisions, "race": race}
    (folder / "peer.json").write_text(json.dumps(told), encoding="utf-8")
    file = folder / f"{name.replace('-', '_')}_peer.py"
    file.write_text(code, encoding="utf-8")
    return file


def job_of(frames: Path) -> dict[str, object]:
    """A job in which a peer finds frames and nothing else."""
    texts = dict.fromkeys(("precision", "model", "weights", "arch", "calibration", "video", "engine", "folder"), "")
    return {
        **texts, "frames": str(frames), "folder": str(frames.parent), "channels": "rgb", "average": True,
        "classes": 2, "output_stride": 8, "height": COLOUR_HEIGHT, "width": COLOUR_WIDTH, "threads": 0,
        "mean": [0, 0, 0], "std": [1, 1, 1], "palette": [[0, 0, 0], [255, 255, 255]],
    }  # fmt: skip
