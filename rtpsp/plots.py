"""Figures as PNG files: a confusion matrix, and a frame on which two engines differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2  # isort: skip  (before av, as in rtpsp.stream.video)
import numpy as np
from numpy.typing import NDArray

from rtpsp.arrays import ClassMap, Image
from rtpsp.comparison import Comparison, Difference
from rtpsp.evaluate import Evaluation
from rtpsp.figure import DPI, Axes, Figure, Patch, PowerNorm, style, to_png
from rtpsp.files import write_atomically
from rtpsp.labels import LabelSet
from rtpsp.planes import to_planes
from rtpsp.stream.render import Renderer

SMALL_SET = 30
"""Up to so many classes a cell of the matrix has room for a decimal."""

PANEL_SIDES = 480, 960
"""Pixels that a panel of `difference_png` is brought to where its frame is smaller, about, or larger."""
NAME_LENGTH = 24
LEGEND_CLASSES = 14
LEGEND_COLUMN = 170
"""Pixels."""

ONLY_A, ONLY_B, NEITHER = (255, 140, 0), (30, 144, 255), (255, 0, 255)
"""RGB of pixels where, by ground truth, only A is right, only B, or neither: three that colour-blind eyes tell apart.
Without ground truth every pixel that differs is `NEITHER`'s colour."""


def confusion_png(evaluation: Evaluation, title: str = "") -> bytes:
    """A confusion matrix: a row for each class of ground truth, how its pixels were answered, in percent of the row.

    A class without ground truth has an empty row. The last column holds the answers that name no class. Every share of
    half a unit of the last digit shown and more is written into its cell; the colours follow its square root, so that
    rare confusions are seen.

    Args:
        evaluation: What to draw.
        title: A line above.

    Returns:
        A PNG file.
    """
    labels, counts = evaluation.labels, evaluation.confusion
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(100 * counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0)
    few = len(labels) <= SMALL_SET
    cell, font = (0.55, 8.0) if few else (0.22, 7.0)
    columns, rows = len(labels) + 1, len(labels)
    names = [_short(name) for name in labels.names]
    margin = max(map(len, names)) * font * 0.65 / 72 + 1.0  # inches that names, and the shares beside them, take
    width, height = max(5.5, columns * cell + margin + 0.5), max(3.5, rows * cell + margin + 0.5)
    headline = font + 2 if few else 20.0
    whole = max(int(totals.sum()), 1)
    sides = [f"{name} ({100 * total / whole:.1f} %)" for name, total in zip(names, totals[:, 0], strict=True)]
    figures = f"mIoU {evaluation.miou:.2f} %, pixel accuracy {evaluation.pixel_accuracy:.2f} %"
    with style():
        figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
        axes = figure.add_subplot()
        axes.imshow(
            np.ma.masked_invalid(shares), cmap="Blues", norm=PowerNorm(0.5, 0, 100), interpolation="nearest",
            interpolation_stage="rgba",
        )  # fmt: skip
        axes.set_facecolor("0.85")
        axes.set_xticks(range(columns), [*names, "no class"], rotation=90, fontsize=font)
        axes.set_yticks(range(rows), sides, fontsize=font)
        axes.set_xlabel("answer", fontsize=headline)
        axes.set_ylabel("ground truth (share of all pixels)", fontsize=headline)
        axes.tick_params(length=0)
        for edge in range(1, rows):  # to follow a row or a column through a large matrix
            if few or not edge % 5:
                axes.axhline(edge - 0.5, color="0.9", linewidth=0.5)
                axes.axvline(edge - 0.5, color="0.9", linewidth=0.5)
        axes.axvline(columns - 1.5, color="0.3", linewidth=1)
        figure.suptitle(
            f"{title}\n" * bool(title) + f"{figures}, {evaluation.images} images; rows in percent", fontsize=headline
        )
        _write_shares(axes, shares, 1 if few else 0, font - 0.5)
        return to_png(figure)


def _write_shares(axes: Axes, shares: NDArray[np.float64], digits: int, font: float) -> None:
    for row, column in zip(*np.nonzero(np.nan_to_num(shares) >= 0.5 * 10**-digits), strict=True):
        share = float(shares[row, column])
        axes.text(
            column, row, f"{share:.{digits}f}", ha="center", va="center", fontsize=font,
            color="white" if share > 35 else "black", in_layout=False,
        )  # fmt: skip


def difference_png(difference: Difference, labels: LabelSet, names: tuple[str, str], title: str = "") -> bytes:
    """A frame on which two engines differ: the frame and where they differ above, A's and B's classes below.

    Args:
        difference: What to draw.
        labels: Names and colours of the classes.
        names: What A and B are called.
        title: A line above.

    Returns:
        A PNG file.
    """
    paint = Renderer(labels).to_colours
    a, b = difference.first, difference.second
    marked, key = _marked(difference)
    panels = [[to_planes(difference.image, 3), marked], [paint(a), paint(b)]]
    captions = [["frame", "difference"], [f"A  {names[0]}", f"B  {names[1]}"]]
    panels = [[_sized(panel) for panel in row] for row in panels]
    height, width = panels[0][0].shape[0], max(panels[0][0].shape[1], PANEL_SIDES[0])
    gap, line, header = 8, 24, 30 if title else 6
    entries = [*key, *_legend(labels, a, b)]
    columns = (2 * width + gap) // LEGEND_COLUMN
    footer = 22 * -(-len(entries) // columns) + 12
    whole_width = 2 * width + 3 * gap
    whole_height = header + 2 * (height + line) + footer
    with style():
        figure = Figure(figsize=(whole_width / DPI, whole_height / DPI), dpi=DPI, facecolor="white")

        def write(x: float, y: float, text: str, size: float, **more: Any) -> None:
            figure.text(x / whole_width, y / whole_height, text, fontsize=size, va="center", **more)

        top = whole_height - header
        if title:
            write(gap, whole_height - header / 2, title, 11, weight="bold")
        for row in range(2):
            for column in range(2):
                left = gap + column * (width + gap)
                bottom = top - (row + 1) * (height + line)
                write(left, bottom + height + line / 2, captions[row][column], 9)
                picture = np.ascontiguousarray(panels[row][column][..., ::-1])
                figure.figimage(picture, left, bottom, origin="upper")
        patches = [Patch(facecolor=f"#{bytes(colour).hex()}", edgecolor="0.3", label=name) for name, colour in entries]
        figure.legend(
            handles=patches, loc="lower left", ncols=columns, fontsize=8, frameon=False, bbox_to_anchor=(0, 0),
            borderaxespad=0.3,
        )  # fmt: skip
        return to_png(figure)


def worst_path(folder: Path, rank: int) -> Path:
    """Where `write_worst` puts a frame; the one that differs most has rank 1."""
    return folder / f"worst-{rank}.png"


def write_worst(comparison: Comparison, folder: Path) -> tuple[Path, ...]:
    """A picture of each frame that a comparison kept, worst-1.png and so on; files of these names are replaced.

    Args:
        comparison: Of two engines.
        folder: Where; it is made if it is not there.

    Returns:
        What was written; nothing where the engines never differ.

    Raises:
        OutputError: The folder cannot be made or written.
    """
    a, b = (f"{side.engine['file']}, ran in {side.engine['ran']}" for side in (comparison.a, comparison.b))
    paths = []
    for rank, difference in enumerate(comparison.worst, 1):
        title = f"{difference.name}: A and B agree on {difference.agreement:.2f} % of pixels"
        picture = difference_png(difference, comparison.labels, (a, b), title)
        paths.append(worst_path(folder, rank))
        write_atomically(paths[-1], picture, hint="give another folder for the pictures", make_folder=True)
    return tuple(paths)


def _marked(difference: Difference) -> tuple[Image, list[tuple[str, tuple[int, int, int]]]]:
    """The frame in pale grey with what differs in strong colours, and what each colour says, RGB."""
    grey = to_planes(difference.image, 1)
    picture: Image = np.repeat((160 + grey.astype(np.float32) * 0.35).astype(np.uint8), 3, axis=2)
    a, b, truth = difference.first, difference.second, difference.truth
    differs = a != b
    if truth is None:
        key = {"differ": (NEITHER, differs)}
    else:
        right = a == truth, b == truth
        key = {
            "only A is right": (ONLY_A, differs & right[0]),
            "only B is right": (ONLY_B, differs & right[1]),
            "differ, neither is right": (NEITHER, differs & ~right[0] & ~right[1]),
        }
    for colour, where in key.values():
        picture[where] = colour[::-1]
    return picture, [(f"{name}: {100 * where.mean():.2f} %", colour) for name, (colour, where) in key.items()]


def _legend(labels: LabelSet, first: ClassMap, second: ClassMap) -> list[tuple[str, tuple[int, int, int]]]:
    """Classes that fill most of both maps."""
    ids = np.concatenate([first.ravel(), second.ravel()])
    areas = np.bincount(ids[(ids >= 0) & (ids < len(labels))], minlength=len(labels))
    largest = [int(label) for label in np.argsort(-areas, kind="stable")[:LEGEND_CLASSES] if areas[label]]
    return [(_short(labels.names[label]), labels.palette[label]) for label in largest]


def _sized(panel: Image) -> Image:
    """A small panel in whole steps larger, so that a pixel stays one; a large one averaged down."""
    small, large = PANEL_SIDES
    height, width = panel.shape[:2]
    if max(height, width) > large:
        scale = large / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        return np.asarray(cv2.resize(panel, size, interpolation=cv2.INTER_AREA), np.uint8)
    factor = max(1, round(small / max(height, width)))
    return panel.repeat(factor, axis=0).repeat(factor, axis=1)


def _short(name: str) -> str:
    return name if len(name) <= NAME_LENGTH else f"{name[: NAME_LENGTH - 1]}…"
