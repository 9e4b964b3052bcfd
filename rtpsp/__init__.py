"""rtpsp: any PSPNet in, the fastest correct engine out, fresh frames on screen.

    import rtpsp

    with rtpsp.load_engine("engines/pspnet18-camvid-360x480-fp32-openvino2026.4.engine") as engine:
        class_maps = engine.infer(frames).class_map  # uint8 [N, H, W, 3] BGR in, uint8 [N, H, W] out

    report = rtpsp.run("drive.mp4", rtpsp.default_engine(), [rtpsp.VideoFile("out.mp4")])
    report = rtpsp.run(["rtsp://door", "rtsp://gate"], rtpsp.default_engine(), [sink])  # one engine for both

Importing this package imports none of its heavy dependencies: each name below brings its module when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rtpsp.build import BuildOptions as BuildOptions
    from rtpsp.build import build_engine as build_engine
    from rtpsp.compare import CompareOptions as CompareOptions
    from rtpsp.compare import compare_engines as compare_engines
    from rtpsp.comparison import Comparison as Comparison
    from rtpsp.default import default_engine as default_engine
    from rtpsp.engine import load_engine as load_engine
    from rtpsp.engine.base import Engine as Engine
    from rtpsp.engine.base import EngineOptions as EngineOptions
    from rtpsp.engine.base import Result as Result
    from rtpsp.engine.fake import FakeEngine as FakeEngine
    from rtpsp.errors import RtpspError as RtpspError
    from rtpsp.fit import plan_fit as plan_fit
    from rtpsp.labels import LabelSet as LabelSet
    from rtpsp.live import RunOptions as RunOptions
    from rtpsp.live import open_pipeline as open_pipeline
    from rtpsp.live import run as run
    from rtpsp.spec import ModelSpec as ModelSpec
    from rtpsp.stream.display import Window as Window
    from rtpsp.stream.frame import Absent as Absent
    from rtpsp.stream.frame import Rendered as Rendered
    from rtpsp.stream.recording import VideoFile as VideoFile
    from rtpsp.stream.render import RenderOptions as RenderOptions
    from rtpsp.stream.report import RunReport as RunReport
    from rtpsp.stream.sink import MaskFolder as MaskFolder
    from rtpsp.stream.sink import NullSink as NullSink
    from rtpsp.stream.sink import Sink as Sink
    from rtpsp.stream.source import Reconnect as Reconnect
    from rtpsp.stream.source import Source as Source
    from rtpsp.stream.source import SourceOptions as SourceOptions
    from rtpsp.stream.source import open_source as open_source

_HOMES = {
    "BuildOptions": "rtpsp.build",
    "build_engine": "rtpsp.build",
    "CompareOptions": "rtpsp.compare",
    "compare_engines": "rtpsp.compare",
    "Comparison": "rtpsp.comparison",
    "default_engine": "rtpsp.default",
    "load_engine": "rtpsp.engine",
    "Engine": "rtpsp.engine.base",
    "EngineOptions": "rtpsp.engine.base",
    "Result": "rtpsp.engine.base",
    "FakeEngine": "rtpsp.engine.fake",
    "RtpspError": "rtpsp.errors",
    "plan_fit": "rtpsp.fit",
    "LabelSet": "rtpsp.labels",
    "RunOptions": "rtpsp.live",
    "open_pipeline": "rtpsp.live",
    "run": "rtpsp.live",
    "ModelSpec": "rtpsp.spec",
    "Window": "rtpsp.stream.display",
    "Absent": "rtpsp.stream.frame",
    "Rendered": "rtpsp.stream.frame",
    "VideoFile": "rtpsp.stream.recording",
    "RenderOptions": "rtpsp.stream.render",
    "RunReport": "rtpsp.stream.report",
    "MaskFolder": "rtpsp.stream.sink",
    "NullSink": "rtpsp.stream.sink",
    "Sink": "rtpsp.stream.sink",
    "Reconnect": "rtpsp.stream.source",
    "Source": "rtpsp.stream.source",
    "SourceOptions": "rtpsp.stream.source",
    "open_source": "rtpsp.stream.source",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("rtpsp")
    if name not in _HOMES:
        raise AttributeError(f"module 'rtpsp' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
