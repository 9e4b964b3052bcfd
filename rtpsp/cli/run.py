"""``rtpsp run``: its options; what it does with them stands in `rtpsp.cli.working`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rtpsp.cli._signals import importing
from rtpsp.cli.console import Size

SECTIONS = {
    "What to segment": ("camera", "list_cameras", "source", "camera_size", "camera_fps", "loop", "start", "end"),
    "Which frames": ("every", "max_fps", "max_frames", "policy", "pace"),
    "With what": ("engine", "min_confidence", "threads", "depth"),
    "Where to": ("show", "output", "save_masks", "rle", "stats", "report"),
    "The picture": ("view", "alpha", "legend", "hud"),
}
EXCLUSIVE = (("camera", "source"),)
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
    "--source", metavar="URI", help="A video, a folder or 'pattern*.png' of images, or sim://street?w=640&h=480."
)
@click.option("--engine", metavar="FILE", help="An engine file; without it the shipped model's, built once.")
@click.option(
    "--min-confidence",
    type=click.FloatRange(0, 1),
    metavar="P",
    help="Pixels whose class is less probable than this are unknown. The engine must be built with --confidence.",
)
@click.option("--camera-size", type=Size(), help="What to ask a webcam for, e.g. 720x1280.")
@click.option("--camera-fps", type=click.FloatRange(0, min_open=True), help="What to ask a webcam for.")
@click.option("--loop", is_flag=True, help="Start again at the end.")
@click.option("--start", type=click.FloatRange(0), default=0.0, metavar="SECONDS", help="Begin there in a file.")
@click.option("--end", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help="Stop there in a file.")
@click.option("--every", type=click.IntRange(1), default=1, metavar="N", help="Take each Nth frame.")
@click.option(
    "--max-fps", type=click.FloatRange(0, min_open=True), help="Frames a second of the source's time, at most."
)
@click.option("--max-frames", type=click.IntRange(1), help="End after so many frames.")
@click.option(
    "--policy",
    type=click.Choice(["latest", "every"]),
    help="When the engine is slower than the source: show the latest frame, or every one. Default: latest if live.",
)
@click.option(
    "--pace",
    type=click.Choice(["source", "fast"]),
    default="fast",
    show_default=True,
    help="Play a file at its own rate like a camera, or read it as fast as possible.",
)
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="Record to this .mp4, .mkv or .mov (H.264)."
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
    type=click.Choice(["overlay", "mask", "side-by-side"]),
    default="overlay",
    show_default=True,
    help="What to show and record.",
)
@click.option(
    "--alpha", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Share of colour in the overlay."
)
@click.option("--legend/--no-legend", default=False, help="Names and colours of the classes in the picture.")
@click.option("--hud/--no-hud", default=False, help="Rate, age and drops in the picture.")
@click.option("--show/--no-show", default=None, help="A window; by default where there is a display.")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write the run report as JSON.")
@click.option("--threads", type=click.IntRange(0), default=0, help="CPU threads for everything together; 0 takes all.")
@click.option(
    "--depth", type=click.IntRange(1, 8), default=1, show_default=True, help="Batches in flight; 2 for throughput."
)
def command(**given: Any) -> None:
    """Segment a camera, a video, images or the simulator, live.

    In the window: q or Esc quits, space freezes the view while recording goes on, m goes through overlay, mask, side by
    side and frame. Ctrl-C ends a run in order: recordings are closed and play.
    """
    with importing():
        from rtpsp.cli.working import segment
    segment(given)
