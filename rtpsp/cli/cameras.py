"""What ``rtpsp run --list-cameras`` prints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.markup import escape
from rich.table import Table

from rtpsp.cli.console import stderr, stdout
from rtpsp.stream.camera_info import NO_CAMERA, CameraFormat, CameraInfo
from rtpsp.stream.cameras import list_cameras, why_no_list


def print_cameras(cameras: Sequence[CameraInfo] | None = None) -> None:
    """The cameras as a table on stdout, or one line on stderr where there are none.

    None is an answer and no error: the command ends with code 0, and what reads stdout finds nothing there.

    Args:
        cameras: Asked for by default.
    """
    cameras = list_cameras() if cameras is None else cameras
    if not cameras:
        stderr.print(why_no_list() or f"no camera: {NO_CAMERA}", markup=False, soft_wrap=True)
        return
    table = Table(show_lines=True)
    table.add_column("name", overflow="fold")
    table.add_column("--camera", overflow="fold", no_wrap=True)
    table.add_column("largest sizes (HxW) and rates", overflow="fold")
    for camera in cameras:
        told = "\n".join(summarise(camera.formats)) or ("see below" if camera.problem else "not told by this system")
        table.add_row(escape(camera.name), camera.uri, escape(told))
    stdout.print(table)
    for camera in cameras:
        if camera.problem:  # in a cell the command in it could not be copied
            stdout.print(f"{camera.uri}: {camera.problem}", markup=False, soft_wrap=True)


def summarise(formats: Iterable[CameraFormat]) -> list[str]:
    """For each pixel format its largest size, and the largest of its fastest where that is faster; with rates."""
    by_fourcc: dict[str, list[CameraFormat]] = {}
    for item in formats:
        by_fourcc.setdefault(item.fourcc, []).append(item)
    lines = []
    for fourcc, items in by_fourcc.items():
        largest = max(items, key=lambda item: (_pixels(item), _rate(item)))
        fastest = max(items, key=lambda item: (_rate(item), _pixels(item)))
        shown = [largest] if _rate(fastest) <= _rate(largest) else [largest, fastest]
        lines += [f"{fourcc} {_line(item)}" for item in shown]
    return lines


def _line(item: CameraFormat) -> str:
    return f"{item.height}x{item.width}" + (f" at {_rate(item):g} fps" if item.fps else "")


def _pixels(item: CameraFormat) -> int:
    return item.height * item.width


def _rate(item: CameraFormat) -> float:
    return max(item.fps, default=0.0)
