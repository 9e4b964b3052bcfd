"""PyTorch with ``torch.compile``, its tutorial's one line; Inductor, its default, needs a C++ compiler."""

from __future__ import annotations

import shutil

import cv2
import numpy as np
import torch
from peer_job import ClassMap, Frame, Job, Loaded, NotHere

from rtpsp.model.pspnet import build


def load(job: Job) -> Loaded:
    """As the eager peer, with the network and the argmax behind it compiled."""
    if not any(map(shutil.which, ("g++", "clang++"))):
        raise NotHere("torch.compile needs a C++ compiler, and neither g++ nor clang++ is here: install one")
    model = build(job.arch, job.classes, job.output_stride)
    stored = np.load(job.weights)
    state = {name: torch.from_numpy(stored[name]) for name in stored.files}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and all(name.startswith("aux.") or "num_batches" in name for name in missing), missing
    model.eval()
    mean = torch.tensor(job.mean).view(1, 3, 1, 1)
    std = torch.tensor(job.std).view(1, 3, 1, 1)
    half = job.precision == "bf16 autocast"

    @torch.compile
    def classes(image: torch.Tensor) -> torch.Tensor:
        logits = model((image.permute(2, 0, 1).unsqueeze(0).float().div(255) - mean) / std)
        ids: torch.Tensor = logits.argmax(1)[0].to(torch.uint8)
        return ids

    def segment(frame: Frame) -> ClassMap:
        if frame.shape[:2] != (job.height, job.width):
            frame = cv2.resize(
                frame, (job.width, job.height), interpolation=cv2.INTER_AREA if job.average else cv2.INTER_LINEAR
            )
        if job.channels == "rgb":
            frame = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            return classes(torch.from_numpy(frame)).numpy()

    return Loaded(segment, "bf16" if half else "f32", torch.get_num_threads(), {"torch": torch.__version__})
