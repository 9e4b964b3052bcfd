"""``rtpsp run``: its options; what it does with them stands in `rtpsp.cli.working`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rtpsp.cli._signals import importing
from rtpsp.cli.console import Size
from rtpsp.cli.live_options import live_options

SECTIONS = {
    "What to segment": (
        "camera", "list_cameras", "source", "sources", "camera_size", "camera_fps", "loop", "start", "end",
    ),
    "Cameras and streams that come and go": (
        "reconnect", "reconnect_max_delay", "wait", "rtsp_transport", "read_timeout", "open_timeout", "hwaccel",
    ),
    "Which frames": ("every", "max_fps", "max_frames", "policy", "pace"),
    "Model and machine": (
        "engine", "target_fps", "min_confidence", "mask_size", "smooth", "device_io", "threads", "depth",
    ),
    "Outputs": ("show", "output", "segment", "keep", "save_masks", "rle", "stats", "report"),
    "The picture": ("view", "alpha", "legend", "hud"),
    "For services": ("metrics", "stall_timeout"),
}  # fmt: skip
EXCLUSIVE = (("camera", "source", "sources"),)
DEPENDENT = {"camera": ("camera_size", "camera_fps"), "source": ("loop", "start", "end")}


def _list_cameras(ctx: click.Context, param: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        from rtpsp.cli.cameras import print_cameras

        print_cameras()
        ctx.exit()


@click.command("run")
@click.option(
    "--camera",
    is_flag=False,
    flag_value="0",
    default=None,
    metavar="[N|DEVICE|NAME]",
    help="A webcam: 0 unless you give another number, /dev/video2, or a part of its name.",
)
@click.option(
    "--list-cameras",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_cameras,
    help="Print the cameras there are, by name, and end.",
)
@click.option(
    "--source",
    metavar="URI",
    multiple=True,
    help="A video, an image, a folder or 'frames/*.png', a stream such as rtsp://10.0.0.5/stream1, or "
    "'sim://street?w=640&h=480' (quotes keep the shell off it). Give it again for one more, side by side.",
)
@click.option(
    "--sources",
    metavar="FILE",
    help="Take the sources from this text, one a line: NAME = URI. ${VARIABLE} is the environment's, for passwords.",
)
@click.option("--engine", metavar="FILE", help="An engine file; without it the shipped model's, built once.")
@click.option(
    "--target-fps",
    type=click.FloatRange(0, min_open=True),
    metavar="FPS",
    help="Choose precision, size of the frames and threads so that this machine gives so many frames a second, by a "
    "probe of seconds that later starts remember. Of an engine of your own the threads alone.",
)
@click.option(
    "--min-confidence",
    type=click.FloatRange(0, 1),
    metavar="P",
    help="Pixels whose class is less probable than this, from 0 to 1, are unknown. An engine of your own must be "
    "built with --confidence.",
)
@click.option(
    "--mask-size",
    type=click.Choice(["model", "frame"]),
    help="Decide each pixel's class at the model's size, or at the frame's own: smoother borders where that is larger. "
    "An engine of your own must be built with --tail host.  [default: frame with device IO, else model]",
)
@click.option(
    "--smooth",
    is_flag=True,
    help="Filter the network's scores over time: less flicker, no frame of delay. An engine of your own must be built "
    "with --tail host. Leaves --device-io off.",
)
@click.option(
    "--device-io",
    type=click.Choice(["auto", "on", "off"]),
    default="auto",
    show_default=True,
    help="Let the GPU resize frames, map classes at the frame's own size and draw the picture: where it can, or always "
    "(an error where it cannot), or never.",
)
@click.option("--camera-size", type=Size(), help="Size to ask a webcam for, height first, e.g. 720x1280.")
@click.option(
    "--camera-fps", type=click.FloatRange(0, min_open=True), metavar="FPS", help="Frames a second to ask a webcam for."
)
@click.option("--loop", is_flag=True, help="Start again at the end.")
@click.option("--start", type=click.FloatRange(0), default=0.0, metavar="SECONDS", help="Where to begin in a file.")
@click.option("--end", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help="Where to stop in a file.")
@click.option("--every", type=click.IntRange(1), default=1, metavar="N", help="Take each Nth frame only.")
@click.option(
    "--max-fps",
    type=click.FloatRange(0, min_open=True),
    metavar="FPS",
    help="Take at most so many frames a second of the source's time.",
)
@click.option(
    "--max-frames",
    type=click.IntRange(1),
    metavar="N",
    help="End after so many frames were read, dropped ones included.",
)
@click.option(
    "--policy",
    type=click.Choice(["latest", "every"]),
    help="When the engine is slower than the source: take the latest frame and drop others, or wait and take every "
    "one.  [default: latest for cameras and streams, every for files]",
)
@click.option(
    "--pace",
    type=click.Choice(["source", "fast"]),
    default="fast",
    show_default=True,
    help="Play a file at its own rate like a camera, or read it as fast as possible.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Record the picture to this .mp4, .mkv or .mov (H.264). Files of these names are replaced. Of several sources "
    "{source} in the name of an output makes one for each.",
)
@click.option(
    "--save-masks",
    type=click.Path(file_okay=False, path_type=Path),
    help="Class-id PNGs at the source's size in this folder.",
)
@click.option(
    "--rle",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Masks as COCO run lengths in this .jsonl, a line a frame.",
)
@click.option(
    "--stats",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Each class's share of the picture in this .jsonl, a line a frame.",
)
@click.option(
    "--view",
    type=click.Choice(["overlay", "mask", "side-by-side", "frame"]),
    default="overlay",
    show_default=True,
    help="What to show and record.",
)
@click.option(
    "--alpha",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Share of colour in the overlay, from 0 to 1.",
)
@click.option(
    "--legend/--no-legend", default=False, help="Names and colours of the classes in a corner.  [default: off]"
)
@click.option(
    "--hud/--no-hud", default=False, help="Frames a second, age of the frame and drops in a corner.  [default: off]"
)
@click.option("--show/--no-show", default=None, help="A window.  [default: where there is a display]")
@click.option(
    "--report",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    help="What happened, as JSON in this file; - is standard output.",
)
@click.option(
    "--threads",
    type=click.IntRange(0),
    metavar="N",
    default=0,
    help="CPU threads for everything together.  [default: all]",
)
@click.option(
    "--depth",
    type=click.IntRange(1, 8),
    metavar="N",
    default=1,
    show_default=True,
    help="Frames that the engine works on at once: 1 for the freshest picture, 2 for more of them.",
)
@live_options
def command(**given: Any) -> None:
    """Segment a camera, a video, images or the simulator, live.

    \b
    rtpsp run --camera
    rtpsp run --source drive.mp4 --output out.mp4 --legend --hud
    rtpsp run --source 'sim://street?frames=60' --output try.mp4
    rtpsp run --sources cameras.txt --output '{source}.mp4' --segment 10m --keep 20GB --metrics :9464

    In the window: q or Esc quits, space freezes the view while recording goes on, m goes through overlay, mask, side by
    side and frame; of several sources 1 to 9 show one, 0 all. Ctrl-C, SIGTERM and SIGHUP end a run in order: recordings
    are closed and play.
    """
    with importing():
        from rtpsp.cli.working import segment
    segment(given)
