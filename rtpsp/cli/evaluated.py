"""What ``rtpsp eval`` says of a measurement: a table, lines below it, and values for ``--json``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from rtpsp.cli.figures import percentages

if TYPE_CHECKING:
    from rtpsp.agreement import Pair
    from rtpsp.evaluate import Evaluation
    from rtpsp.temporal import VideoEvaluation


def against_values(pair: Pair) -> dict[str, Any]:
    """What ``--json`` says of the other engine; differences are the engine's figure minus the other's."""
    assert pair.first is not None and pair.miou_difference is not None
    told = pair.first.to_dict()
    differences = zip(pair.agreement.labels.names, pair.iou_differences, strict=True)
    return {
        **{name: told[name] for name in ("miou", "pixel_accuracy", "per_class_iou", "unanswered")},
        "miou_difference": round(pair.miou_difference, 3),
        "per_class_iou_difference": {name: None if by is None else round(by, 3) for name, by in differences},
        **pair.agreement.to_dict(),
    }


def frames_line(result: Evaluation) -> str:
    """What was looked at, as a picture's title says it."""
    height, width = result.size or (0, 0)
    labels = result.labels
    return (
        f"{result.images} frames of {height}x{width}, {len(labels)} classes of {labels.name}, ignored {labels.ignore}"
    )


def video_lines(over_time: VideoEvaluation, smooth: bool) -> str:
    """What a table of classes does not say of a video."""
    flicker, changes, followed = percentages([over_time.flicker, over_time.changes, over_time.changes_followed])
    lines = [
        f"flicker {flicker} % of the pixels whose labels stay from frame to frame; labels change at {changes} %, "
        f"where {followed} % are right at once"
    ]
    steps = sorted({run.step for run in over_time.runs if run.step})
    if steps != [1]:
        apart = f"{steps[0]} to {steps[-1]}" if len(steps) > 1 else str(steps[0])
        lines.append(f"each frame {apart} after the one before, by their numbers: flicker is over that time")
    if not over_time.fills_window:
        lines.append(f"{_frames(over_time)}, fewer than the window of {over_time.window}")
    means = {miou: name for miou, name in zip(over_time.window_miou, over_time.names, strict=True) if miou is not None}
    if means and over_time.fills_window:
        low, high = min(means), max(means)
        lines.append(
            f"mIoU over {over_time.window} frames: {low:.2f} at {means[low]} to {high:.2f} at {means[high]}; "
            f"runs of frames: {len(over_time.runs)}"
        )
    if smooth:
        lines.append("scores were smoothed over time")
    return "\n".join(lines)


def _frames(over_time: VideoEvaluation) -> str:
    frames = over_time.longest_run
    plural = "" if frames == 1 else "s"
    return f"{frames} frame{plural}" if len(over_time.runs) == 1 else f"{frames} frame{plural} in the longest run"


def accuracy_table(result: Evaluation, pair: Pair | None, over_time: VideoEvaluation | None) -> Table:
    """IoU of each class, beside it the other engine's, or the flicker of a video."""
    table = Table()
    table.add_column("class")
    table.add_column("IoU %", justify="right")
    columns: list[Sequence[float | None]] = [[*result.per_class_iou, result.miou, result.pixel_accuracy]]
    if over_time:
        table.add_column("flicker %", justify="right")
        columns.append([*over_time.per_class_flicker, None, None])
    if pair and pair.first:
        for heading in ("other's", "difference", "agreement %"):
            table.add_column(heading, justify="right")
        other = pair.first
        columns += [
            [*other.per_class_iou, other.miou, other.pixel_accuracy],
            [*pair.iou_differences, pair.miou_difference, result.pixel_accuracy - other.pixel_accuracy],
            [*pair.agreement.per_class, None, pair.agreement.overall],
        ]
    names = [*result.labels.names, "mIoU", "pixel accuracy"]
    for place, (name, *figures) in enumerate(zip(names, *columns, strict=True)):
        if place == len(result.labels):
            table.add_section()
        table.add_row(name, *percentages(figures, signed=2))
    return table
