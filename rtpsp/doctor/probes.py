"""What is tried in a child process; each gives plain JSON values, and raises what stops it."""

from __future__ import annotations

import importlib
import os.path
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

SIZE = (48, 64)
FRAMES = 5
MAX_ERROR = 24
"""Grey levels that a flat colour may come back wrong by; x264 and 8-bit YUV cost three or four."""

DECODERS = {"H.264": "h264", "HEVC": "hevc", "AV1": "libdav1d", "VP9": "vp9", "MJPEG": "mjpeg"}
"""AV1 by libdav1d: FFmpeg's own decoder of it needs a GPU."""
ENCODERS = {"H.264": "libx264"}
HARDWARE_ENCODERS = ("h264_nvenc", "h264_vaapi", "h264_qsv", "h264_amf", "h264_videotoolbox")
PROTOCOLS = ("rtsp", "http", "https", "tls", "rtmp", "srt", "rtp", "udp", "tcp")
DEMUXERS = ("rtsp", "hls", "dash", "sdp", "mpjpeg")


def openvino() -> dict[str, Any]:
    """Compile and run a convolution on the CPU; tell the version, the half-precision format, and what INT8 is like."""
    from rtpsp.engine.openvino_backend import half_format
    from rtpsp.runtimes import import_openvino

    ov = import_openvino()
    core = ov.Core()
    compiled = core.compile_model(core.read_model(_model()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    _check(compiled(_ones())[0])
    return {
        "version": ov.__version__.split("-")[0],
        "half": half_format(core),
        "capabilities": [str(name) for name in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")],
        "devices": list(core.available_devices),
        "int8": _int8("openvino"),
    }


def onnxruntime() -> dict[str, Any]:
    """Run a convolution on the CPU; tell the version, and what INT8 is like."""
    from rtpsp.runtimes import import_onnxruntime

    ort = import_onnxruntime()
    session = ort.InferenceSession(_model(), providers=["CPUExecutionProvider"])
    _check(session.run(None, {"image": _ones()})[0])
    return {
        "version": ort.__version__,
        "providers": list(ort.get_available_providers()),
        "int8": _int8("onnxruntime"),
    }


def load(module: str) -> dict[str, Any]:
    """Import a module; tell its version."""
    return {"version": str(getattr(importlib.import_module(module), "__version__", "")) or None}


def gpus() -> dict[str, Any]:
    """Ask NVIDIA's driver."""
    from rtpsp import machine

    return {"gpus": [asdict(gpu) for gpu in machine.gpus()], "why_none": machine.why_no_gpu()}


def backend(name: str) -> str | None:
    """Load a backend's libraries; say why it does not run here, None if it does."""
    from rtpsp.engine import why_not_here

    return why_not_here(name)


def cuda(binding: str) -> dict[str, Any]:
    """Open the GPU through one of the bindings of CUDA, and copy something there and back."""
    from rtpsp.engine.cuda import open_device

    there, back = np.arange(1000, dtype=np.uint8), np.zeros(1000, np.uint8)
    with open_device(binding=binding) as device:
        stream, buffer = device.stream(), device.allocate(there.nbytes)
        device.upload(buffer, there, stream)
        device.download(back, buffer, stream)
        stream.synchronize()
        free, total = device.memory()
        if not np.array_equal(there, back):
            raise ArithmeticError("what was copied to the GPU came back as something else")
        return {"device": device.name, "cuda": device.cuda, "free": free, "total": total}


def kernels(capability: str) -> str:
    """Compile our kernels for a GPU, and tell by what; none of it is kept."""
    from rtpsp.engine.kernel_compiler import compile_kernels, find_compiler

    with tempfile.TemporaryDirectory() as folder:
        compile_kernels(capability, folder=Path(folder))
    return find_compiler().name


def default_engine() -> dict[str, Any]:
    """Look for the shipped model and for engines of it that serve a run; nothing is built."""
    from rtpsp import build, zoo
    from rtpsp.default import default_options, why_not

    engines: dict[str, str | None] = {}
    for confidence in (False, True):
        options = default_options(confidence=confidence)
        path = build.engines_folder() / build.engine_name(build.to_header(zoo.model_spec(), options))
        if os.path.exists(path):
            engines[path.name] = why_not(path, zoo.model_digest(), options)
    return {
        "model": zoo.DEFAULT if zoo.packed_path().is_file() else None,
        "engines": engines,
        "backend": options.backend,
    }


def opencv() -> dict[str, Any]:
    """Version, window system and camera interfaces of OpenCV."""
    import cv2

    lines = dict(
        (line.partition(":")[0].strip(), line.partition(":")[2].strip())
        for line in cv2.getBuildInformation().splitlines()
        if ":" in line
    )
    return {
        "version": cv2.__version__,
        "windows": None if lines.get("GUI", "NONE") == "NONE" else lines["GUI"],
        "cameras": [cv2.videoio_registry.getBackendName(found) for found in cv2.videoio_registry.getCameraBackends()],
    }


def video() -> dict[str, Any]:
    """Record and read back a few frames as a run does; tell what FFmpeg can do beside that."""
    import cv2  # noqa: F401, I001  # before av, as everywhere
    import av
    from av.codec.hwaccel import hwdevices_available

    with tempfile.TemporaryDirectory() as folder:
        _round_trip(Path(folder) / "probe.mp4")
    return {
        "pyav": av.__version__,
        "ffmpeg": getattr(av, "ffmpeg_version_info", None),
        "libraries": {name: ".".join(map(str, numbers)) for name, numbers in av.library_versions.items()},
        "decoders": {title: _has_codec(name, "r") for title, name in DECODERS.items()},
        "encoders": {title: _has_codec(name, "w") for title, name in ENCODERS.items()},
        "hardware_encoders": {name: _why_not_encode(name) for name in HARDWARE_ENCODERS if _has_codec(name, "w")},
        "hardware_decoders": {name: _why_not_decode(name) for name in hwdevices_available()},
        "protocols": [name for name in PROTOCOLS if _has_protocol(name)],
        "demuxers": [name for name in DEMUXERS if name in av.formats_available],
    }


def display() -> str | None:
    """Why no window can be opened, None if one can."""
    from rtpsp.stream.display import why_no_display

    return why_no_display()


def cameras() -> dict[str, Any]:
    """The cameras that are there, not started; or why they cannot be listed."""
    from rtpsp.stream.cameras import list_cameras, why_no_list

    return {"cameras": [asdict(found) for found in list_cameras()], "why_no_list": why_no_list()}


def camera(uri: str) -> str | None:
    """Why a camera delivers no frame, None if it does."""
    from rtpsp.stream.cameras import why_no_frame

    return why_no_frame(uri)


def _int8(backend: str) -> dict[str, Any]:
    """Whether INT8 products saturate, None where that cannot be tried: FP32 runs all the same; and why."""
    from rtpsp.engine.saturation import why_saturates

    try:
        why = why_saturates(backend)
    except Exception as error:
        return {"saturates": None, "why": f"{type(error).__name__}: {error}"}
    return {"saturates": why is not None, "why": why}


def _model() -> bytes:
    """A 1x1 convolution that adds up three channels."""
    import onnx_ir as ir

    from rtpsp.onnx_file import model_bytes

    kind = ir.TensorType(ir.DataType.FLOAT)
    image = ir.Value(name="image", shape=ir.Shape((1, 3, *SIZE)), type=kind)
    weights = ir.Value(name="w", const_value=ir.tensor(np.ones((1, 3, 1, 1), np.float32), name="w"))
    conv = ir.node("Conv", [image, weights])
    conv.outputs[0].name, conv.outputs[0].shape, conv.outputs[0].type = "sum", ir.Shape((1, 1, *SIZE)), kind
    graph = ir.Graph([image], conv.outputs, nodes=[conv], initializers=[weights], opset_imports={"": 19}, name="probe")
    return model_bytes(ir.Model(graph, ir_version=9))


def _ones() -> np.ndarray[Any, Any]:
    return np.ones((1, 3, *SIZE), np.float32)


def _check(answer: np.ndarray[Any, Any]) -> None:
    if answer.shape != (1, 1, *SIZE) or not np.allclose(answer, 3):
        raise ArithmeticError(f"1 + 1 + 1 came out as {float(answer.flat[0]):g}")


def _round_trip(path: Path) -> None:
    from rtpsp.labels import CAMVID
    from rtpsp.spec import ModelSpec
    from rtpsp.stream.frame import Frame, Rendered, Stamps
    from rtpsp.stream.recording import VideoFile
    from rtpsp.stream.source import SourceInfo, SourceOptions, open_source

    picture = np.empty((*SIZE, 3), np.uint8)
    picture[:, : SIZE[1] // 2], picture[:, SIZE[1] // 2 :] = (200, 60, 40), (30, 160, 220)
    with VideoFile(path) as sink:
        sink.open(SourceInfo("probe", "sim", *SIZE, fps=10.0), ModelSpec("probe", "probe", *SIZE, CAMVID))
        for index in range(FRAMES):
            frame = Frame(index, index / 10, 0.0, *SIZE, lambda out: picture)
            sink.write(Rendered(frame, {sink.view or "overlay": picture}, picture[..., 0], Stamps(0.0)))
    read = 0
    with open_source(str(path), SourceOptions()) as source:
        while (frame_back := source.read()) is not None:
            wrong = np.abs(frame_back.to_bgr(None).astype(int) - picture)[:, [8, -8]].max()
            if wrong > MAX_ERROR:
                raise ArithmeticError(f"a colour came back wrong by {wrong} of 255 levels")
            read += 1
    if read != FRAMES:
        raise EOFError(f"{FRAMES} frames were recorded, {read} came back")


def _has_codec(name: str, mode: Any) -> bool:
    from av.codec import Codec
    from av.codec.codec import UnknownCodecError

    try:
        Codec(name, mode)
    except UnknownCodecError:
        return False
    return True


def _why_not_encode(name: str) -> str | None:
    """Try a hardware encoder; most are compiled in and find no hardware."""
    from fractions import Fraction

    import av

    context: Any = av.CodecContext.create(name, "w")
    context.width, context.height, context.time_base = 256, 256, Fraction(1, 30)
    context.pix_fmt = context.codec.video_formats[0].name if context.codec.video_formats else "yuv420p"
    try:
        context.open()
    except (av.FFmpegError, OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    return None


def _why_not_decode(device: str) -> str | None:
    """Whether a kind of GPU decodes H.264 here, as `rtpsp.stream.network_dial` tries it."""
    from rtpsp.stream.network_dial import why_not_decode

    return why_not_decode(device)


def _has_protocol(name: str) -> bool:
    """FFmpeg looks a protocol up before it asks whether it is allowed; with none allowed nothing is sent."""
    import av

    try:
        av.open(f"{name}://127.0.0.1:9/", options={"protocol_whitelist": "none"}).close()
    except av.error.ProtocolNotFoundError:
        return False
    except (av.FFmpegError, OSError):
        return True
    return True
