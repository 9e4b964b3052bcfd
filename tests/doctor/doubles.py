"""Answers of the probes, as a whole and healthy machine gives them."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from typing import Any

import pytest

from rtpsp.doctor.check import Context
from rtpsp.doctor.finding import Finding
from rtpsp.errors import MissingError

CAMERA = {
    "uri": "/dev/video0",
    "name": "HD Webcam",
    "formats": [
        {"fourcc": "YUYV", "height": 480, "width": 640, "fps": [30.0, 15.0]},
        {"fourcc": "MJPG", "height": 1080, "width": 1920, "fps": [30.0]},
    ],
    "problem": None,
}
GPU = {"name": "NVIDIA H200", "compute_capability": "9.0", "driver": "580.65.06", "memory": 141 << 30, "cuda": "13.1"}
HEALTHY: dict[str, Any] = {
    "openvino": {
        "version": "2026.4.1",
        "half": "bf16",
        "capabilities": ["BF16"],
        "devices": ["CPU"],
        "int8": {"saturates": False, "why": None},
    },
    "onnxruntime": {
        "version": "1.32.0",
        "providers": ["CPUExecutionProvider"],
        "int8": {"saturates": False, "why": None},
    },
    "default_engine": {
        "model": "pspnet18-camvid",
        "engines": {"pspnet18-camvid-x.engine": None},
        "backend": "openvino",
    },
    "gpus": {"gpus": [GPU], "why_none": None},
    "load": {"version": "1.7.1"},
    "backend": None,
    "cuda": {"device": "NVIDIA H200", "cuda": "13.1", "free": 140 << 30, "total": 141 << 30},
    "kernels": "NVRTC 13.5",
    "opencv": {"version": "5.0.0", "windows": "QT5", "cameras": ["V4L2"]},
    "video": {
        "pyav": "18.1.0",
        "ffmpeg": "8.1.2",
        "libraries": {"libavcodec": "62.28.102"},
        "decoders": {"H.264": True, "AV1": True},
        "encoders": {"H.264": True},
        "hardware_encoders": {"h264_nvenc": None},
        "hardware_decoders": {"cuda": None, "qsv": "it is not there"},
        "protocols": ["rtsp", "http", "https", "tls", "rtp", "udp", "tcp"],
        "demuxers": ["rtsp", "hls", "mpjpeg"],
    },
    "display": None,
    "cameras": {"cameras": [CAMERA], "why_no_list": None},
    "camera": None,
}


class Probes:
    """A stand-in for `rtpsp.doctor.child.ask`: gives answers, raises those that are exceptions, and keeps the calls."""

    def __init__(self, **answers: Any) -> None:
        self.answers = HEALTHY | answers
        self.calls: list[tuple[str, ...]] = []

    def __call__(self, probe: str, *words: str, seconds: float = 0) -> Any:
        self.calls.append((probe, *words))
        answer = self.answers[probe]
        if isinstance(answer, BaseException):
            raise answer
        return answer


def look(check: Callable[[Context], Any], quick: bool = False, **answers: Any) -> dict[str, Finding]:
    """The findings of a check, by name."""
    return {finding.name: finding for finding in check(Context(Probes(**answers), quick))}


def install(monkeypatch: pytest.MonkeyPatch, **versions: str) -> None:
    """Let `importlib.metadata` know these packages and no others; underscores stand for hyphens."""
    there = {name.replace("_", "-"): version for name, version in versions.items()}

    def version(name: str) -> str:
        if name not in there:
            raise PackageNotFoundError(name)
        return there[name]

    monkeypatch.setattr("importlib.metadata.version", version)


def broken(reason: str = "ImportError: libopenvino.so.2640: cannot open shared object file") -> MissingError:
    """What a probe raises when its child failed."""
    return MissingError(reason)
