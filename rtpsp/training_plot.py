"""A training's curve as PNG: the loss falls on the left, validation's mIoU rises on the right."""

from __future__ import annotations

from collections.abc import Sequence

from rtpsp.figure import Figure, style, to_png
from rtpsp.model.train_records import EpochRecord

MARKED = 40
"""Up to so many validations each one is marked."""
LEAST_SPAN = 10.0
"""Points of mIoU that the right axis shows at least: what two epochs differ by is mostly chance."""
_LOSS = "#888888"
_COLOURS = ("#1f77b4", "#d55e00", "#009e73", "#cc79a7")  # Okabe and Ito's, which colour-blind eyes tell apart


def curve_png(history: Sequence[EpochRecord], title: str) -> bytes:
    """Loss, and mIoU on each validation set, over epochs.

    Args:
        history: Epochs done, at least one.
        title: Stands above.
    """
    with style():
        figure = Figure(figsize=(9, 5), layout="constrained")
        left = figure.subplots()
        epochs = [record.epoch for record in history]
        alone = "o" if len(history) == 1 else None  # a line has two ends
        left.plot(
            epochs, [record.loss for record in history], color=_LOSS, linewidth=1.2, marker=alone, label="loss (left)"
        )
        left.set_xlim(0, max(2, 1.03 * epochs[-1]))  # the first epoch stands in the middle
        left.locator_params(axis="x", integer=True)
        left.set_xlabel("epoch")
        left.set_ylabel("loss, mean over the epoch")
        left.set_ylim(0, 1.05 * max(record.loss for record in history) or 1)
        left.set_title(title, fontsize=10)
        left.spines["top"].set_visible(False)
        right = left.twinx()
        right.spines["top"].set_visible(False)
        for place, name in enumerate(dict.fromkeys(name for record in history for name in record.scores)):
            rows = [record for record in history if name in record.scores]
            score = rows[-1].scores[name].miou
            right.plot(
                [record.epoch for record in rows],
                [record.scores[name].miou for record in rows],
                color=_COLOURS[place % len(_COLOURS)],
                marker="o" if len(rows) <= MARKED else None,
                markersize=3,
                label=f"mIoU on {name}: {score:.1f}",
            )
        if right.lines:
            right.set_ylabel("mIoU, %")
            low, high = right.get_ylim()
            spare = max(0.0, LEAST_SPAN - (high - low)) / 2
            right.set_ylim(max(0.0, low - spare), high + spare)
            right.grid(axis="y", alpha=0.3)
        else:
            right.set_axis_off()
        lines = [*left.get_lines(), *right.get_lines()]
        left.legend(lines, [str(line.get_label()) for line in lines], loc="upper center", ncols=2, fontsize=8,
                    bbox_to_anchor=(0.5, -0.12), frameon=False)  # fmt: skip
        return to_png(figure)
