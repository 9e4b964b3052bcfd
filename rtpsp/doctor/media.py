"""Checks of what comes in and goes out: video, OpenCV, the window, cameras."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from typing import Any

from rtpsp.doctor.check import Context
from rtpsp.doctor.finding import Finding
from rtpsp.doctor.software import fix_package
from rtpsp.errors import MissingError

OPENCVS = (
    "opencv-python",
    "opencv-contrib-python",
    "opencv-python-headless",
    "opencv-contrib-python-headless",
)
"""Packages that each bring a whole cv2, into the same folder."""
CAMERA, WINDOW = "camera", "window"
CAMERA_SECONDS = 20.0
WHOLE_PYAV = "pip install --force-reinstall --only-binary :all: av"
"""The wheel brings an FFmpeg with everything; a PyAV that was built here has what the system's FFmpeg has."""


def video(context: Context) -> Iterator[Finding]:
    """Recording and reading back, formats, streams, hardware encoders."""
    try:
        answer: dict[str, Any] = context.ask("video")
    except MissingError as error:
        told = f"a recording of a few frames failed: {error}"
        yield Finding("video", "recording", "error", told, fix_package("av", str(error)))
        return
    versions = f"PyAV {answer['pyav']}, FFmpeg {answer['ffmpeg'] or '?'}"
    libraries = {"pyav": answer["pyav"], "ffmpeg": answer["ffmpeg"]} | answer["libraries"]
    yield Finding("video", "recording", "ok", f"H.264 written and read back ({versions})", details=libraries)
    yield _formats(answer["decoders"])
    yield _streams(answer["protocols"], answer["demuxers"])
    yield _decoders(answer["hardware_decoders"])
    works = [name for name, why_not in answer["hardware_encoders"].items() if why_not is None]
    told = f"{', '.join(works)} works" if works else "none"
    yield Finding(
        "video",
        "GPU encoders",
        "ok" if works else "missing",
        f"{told}; rtpsp encodes on the CPU",
        details=answer["hardware_encoders"],
    )


def _formats(decoders: dict[str, bool]) -> Finding:
    reads = ", ".join(title for title, there in decoders.items() if there)
    absent = [title for title, there in decoders.items() if not there]
    if not absent:
        return Finding("video", "reads", "ok", reads, details=decoders)
    told = f"{reads or 'none'}; not {', '.join(absent)}: this PyAV was built against an FFmpeg without"
    return Finding("video", "reads", "warning", told, WHOLE_PYAV, decoders)


def _streams(protocols: list[str], demuxers: list[str]) -> Finding:
    secure = "tls" in protocols
    kinds = {
        "RTSP": "rtsp" in demuxers,
        "RTSPS": "rtsp" in demuxers and secure,
        "HTTP": "http" in protocols,
        "HTTPS": "https" in protocols and secure,
        "MJPEG": "mpjpeg" in demuxers and "http" in protocols,
        "HLS": "hls" in demuxers and "http" in protocols,
        "RTMP": "rtmp" in protocols,
        "SRT": "srt" in protocols,
        "RTP": "rtp" in protocols,
        "UDP": "udp" in protocols,
        "TCP": "tcp" in protocols,
    }
    told = ", ".join(kind for kind, there in kinds.items() if there) or "none"
    absent = ", ".join(kind for kind, there in kinds.items() if not there)
    details = {"protocols": protocols, "demuxers": demuxers}
    told += f"; not {absent}" if absent else ""
    told = f"FFmpeg has {told}"
    if kinds["RTSP"] and kinds["HTTPS"]:
        return Finding("video", "streams", "ok", told, details=details)
    return Finding("video", "streams", "missing", told, WHOLE_PYAV, details)


def _decoders(devices: dict[str, str | None]) -> Finding:
    works = [name for name, why_not in devices.items() if why_not is None]
    told = f"{', '.join(works)} decodes H.264: --hwaccel auto takes it" if works else "none; the CPU decodes"
    return Finding("video", "GPU decoders", "ok" if works else "missing", told, details=devices)


def opencv(context: Context) -> Iterator[Finding]:
    """Which OpenCV is installed: two at once overwrite each other's files."""
    versions = {}
    for package in OPENCVS:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    try:
        answer: dict[str, Any] = context.ask("opencv")
    except MissingError as error:
        fix = fix_package("opencv-python", str(error))
        yield Finding("window and cameras", "OpenCV", "error", f"does not load: {error}", fix, {"packages": versions})
        return
    details = answer | {"packages": versions}
    there = ", ".join(f"{package} {version}" for package, version in versions.items())
    told = there or f"{answer['version']}, not from a package"
    clean = f"pip uninstall -y {' '.join(versions)} && pip install opencv-python"
    if len(versions) > 1:
        told = f"{there}: all write into one folder, and the one that was installed last wins"
        yield Finding("window and cameras", "OpenCV", "warning", told, clean, details)
    elif answer["windows"] is None:
        fix = clean if versions else "pip install opencv-python"
        yield Finding("window and cameras", "OpenCV", "missing", f"{told}: built without windows", fix, details)
    else:
        yield Finding("window and cameras", "OpenCV", "ok", f"{told}, windows by {answer['windows']}", details=details)


def window(context: Context) -> Iterator[Finding]:
    """Whether a window opens; it is tried."""
    reason = context.ask("display")
    if reason is None:
        yield Finding("window and cameras", WINDOW, "ok", "a window opens")
        return
    fix = "record instead, with --output FILE.mp4; for a window start it on a desktop, or by ssh -X"
    yield Finding("window and cameras", WINDOW, "missing", f"none opens: {reason}", fix, {"reason": reason})


def cameras(context: Context) -> Iterator[Finding]:
    """Every camera, and whether it delivers a frame."""
    answer: dict[str, Any] = context.ask("cameras")
    if answer["why_no_list"]:
        yield Finding("window and cameras", CAMERA, "missing", answer["why_no_list"], "rtpsp run --camera 0")
    elif not answer["cameras"]:
        fix = "plug one in, or try the simulator: rtpsp run --source 'sim://street?live=1'"
        yield Finding("window and cameras", CAMERA, "missing", "none found", fix)
    for camera in answer["cameras"]:
        yield _camera(context, camera)


def _camera(context: Context, camera: dict[str, Any]) -> Finding:
    name, uri = str(camera["name"]), str(camera["uri"])
    told = f"{name} ({uri}){_best(camera['formats'])}"
    reason = camera["problem"]
    tried = reason is None and not context.quick
    if tried:
        try:
            reason = context.ask("camera", uri, seconds=CAMERA_SECONDS)
        except MissingError as error:
            reason = str(error)
    details = {**camera, "tried": tried, "reason": reason}
    if reason is None:
        told += ": delivers" if tried else ": not tried (--quick)"
        return Finding("window and cameras", CAMERA, "ok", told, details=details)
    fix = f"end other programs that use it, plug it in again, and try: rtpsp run --camera {uri}"
    if "ermission" in reason:
        fix = "sudo usermod -aG video $USER, then log in again"
    return Finding("window and cameras", CAMERA, "warning", f"{told}: {reason}", fix, details)


def _best(formats: list[dict[str, Any]]) -> str:
    """The largest picture, at its best rate."""
    if not formats:
        return ""
    best = max(formats, key=lambda format: (format["height"] * format["width"], max(format["fps"], default=0)))
    rate = f" at {max(best['fps']):g} fps" if best["fps"] else ""
    return f", up to {best['width']}x{best['height']}{rate} {best['fourcc']}"
