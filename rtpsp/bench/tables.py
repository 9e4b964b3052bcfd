"""The report's sections as tables of words: one choice of columns for the HTML page and for the README.

Each function takes a section of the report as it stands in the JSON. A cell with more than one line holds a list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rtpsp.bench.numbers import NONE, interval, median_of, number, shares, signed, size, times

Rows = Iterable[Mapping[str, Any]]


@dataclass(frozen=True)
class Table:
    """What a table says.

    Attributes:
        columns: Titles.
        rows: Cells in words, as many as columns each.
        left: Places of columns that hold words, beside the first; the others hold figures.
        strong: The row that the table is about, if there is one.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: tuple[int, ...] = ()
    strong: int | None = None

    def without_empty(self) -> Table:
        """The same without columns, beside the first, in which no row has anything."""
        kept = [
            place
            for place in range(len(self.columns))
            if not place or any(row[place] not in ("", NONE) for row in self.rows)
        ]
        return Table(
            tuple(self.columns[place] for place in kept),
            tuple(tuple(row[place] for place in kept) for row in self.rows),
            tuple(new for new, place in enumerate(kept) if place in self.left),
            self.strong,
        )


Column = tuple[str, Callable[[Mapping[str, Any]], str]]


def _table(rows: Rows, columns: Sequence[Column], left: Sequence[str] = (), strong: int | None = None) -> Table:
    titles = tuple(title for title, _ in columns)
    cells = tuple(tuple(cell(row) for _, cell in columns) for row in rows)
    return Table(titles, cells, tuple(titles.index(title) for title in left), strong).without_empty()


def _text(key: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda row: str(row.get(key) if row.get(key) is not None else NONE)


def _lines(key: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda row: "\n".join(map(str, row.get(key) or ()))


def _number(key: str, digits: int | None = None) -> Callable[[Mapping[str, Any]], str]:
    return lambda row: number(row.get(key), digits)


def _latency(key: str) -> Callable[[Mapping[str, Any]], str]:
    def cell(row: Mapping[str, Any]) -> str:
        latency = row.get("latency_ms")
        return (
            number(latency.get(key)) if isinstance(latency, Mapping) else number(latency) if key == "median" else NONE
        )

    return cell


def _size(key: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda row: size(row.get(key))


def _share(key: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda row: shares(row.get(key))


def ratio_words(ratio: Any) -> str:
    """A ratio with its 95 % interval, such as ``3.91x (3.87 to 3.95)``."""
    ends = interval(ratio)
    return times(median_of(ratio)) + (f" ({number(ends[0])} to {number(ends[1])})" if ends else "")


def _ratio(row: Mapping[str, Any]) -> str:
    return ratio_words(row.get("ratio"))


def _size_of(row: Mapping[str, Any]) -> str:
    return f"{row['height']}x{row['width']}" if row.get("height") and row.get("width") else NONE


def _steadiness(row: Mapping[str, Any]) -> str:
    return {True: "stable", False: "not stable"}.get(row.get("stable"), NONE)  # type: ignore[arg-type]


def engines_table(engines: Sequence[Mapping[str, Any]]) -> Table:
    """What each engine is, how fast it is, what it takes."""
    models = {row.get("model") for row in engines}
    first: list[Column] = [("engine", _text("name"))] + [("model", _text("model"))] * (len(models) > 1)
    columns: list[Column] = [
        *first, ("size", _size_of), ("ran in", _text("ran")), ("threads", _text("threads")), ("batch", _text("batch")),
        ("median ms", _latency("median")), ("p95", _latency("p95")), ("p99", _latency("p99")), ("max", _latency("max")),
        ("n", _latency("count")), ("fps", _number("fps")), ("run", _steadiness),
        ("agreement", _share("agreement_percent")),
        ("file", _size("file_bytes")), ("peak memory", _size("peak_memory_bytes")),
    ]  # fmt: skip
    return _table(engines, columns, ["ran in", "run", *(title for title, _ in first[1:])])


def ratios_table(ratios: Rows) -> Table:
    """How many times as long the first took as the second."""
    return _table(ratios, [
        ("time of / time of", lambda row: f"{row.get('first')} / {row.get('second')}"),
        ("median", lambda row: times(row.get("median"))),
        ("95 % interval", lambda row: ratio_words(row).partition(" ")[2].strip("()")), ("p10", _number("p10")),
        ("p90", _number("p90")), ("pairs", _text("count")),
    ])  # fmt: skip


def card_table(card: Mapping[str, Any]) -> Table:
    """What each precision costs and brings; the strong row is the fastest one."""
    rows = card.get("rows") or ()
    medians = [median_of(row.get("latency_ms")) or float("inf") for row in rows]
    return _table(rows, [
        ("engine", _text("name")), ("median ms", _latency("median")), ("fps", _number("fps")),
        ("as fast as the reference", _ratio),
        ("file", _size("file_bytes")), ("agreement", _share("agreement_percent")), ("mIoU", _number("miou", 2)),
        ("from FP32", lambda row: signed(row.get("miou_difference"))), ("verdict", _text("verdict")),
    ], ["verdict"] if any(row.get("verdict") for row in rows) else [],
    medians.index(min(medians)) if rows else None)  # fmt: skip


def classes_table(card: Mapping[str, Any]) -> Table:
    """By how many points each class's IoU differs from FP32's."""
    rows = [row for row in card.get("rows") or () if any((row.get("per_class_iou_difference") or {}).values())]
    names = dict.fromkeys(name for row in rows for name in row["per_class_iou_difference"])
    cells = tuple(
        (name, *(signed(row["per_class_iou_difference"].get(name)) for row in rows)) for name in names
    )  # fmt: skip
    return Table(("class", *(str(row["name"]) for row in rows)), cells)


def baseline_table(baseline: Mapping[str, Any]) -> Table:
    """Published figures beside this machine's, with what differs between them and what nobody could check."""
    return _table(baseline.get("rows") or (), [
        ("published row", _text("title")), ("published ms", _number("published_ms")), ("here, by", _text("engine")),
        ("here, ms", _number("measured_ms")), ("here / published", lambda row: times(row.get("ratio"))),
        ("what differs", _lines("differs")), ("published in", _text("source")),
    ], ["here, by", "what differs", "published in"])  # fmt: skip


def pixels_table(growth: Mapping[str, Any]) -> Table:
    """Latency and memory by the size of the input."""
    return _table(growth.get("pixels") or (), [
        ("size", _size_of), ("megapixels", lambda row: number(row["height"] * row["width"] / 1e6, 3)),
        ("median ms", _latency("median")), ("p90", _latency("p90")), ("ms a megapixel", _number("ms_per_megapixel", 0)),
        ("peak memory", _size("peak_memory_bytes")),
    ])  # fmt: skip


def _counted_table(section: Mapping[str, Any], name: str) -> Table:
    return _table(section.get(name) or (), [
        (name, _text(name)), ("median ms", _latency("median")), ("p90", _latency("p90")),
        ("ms a frame", _number("ms_per_frame")),
        ("fps", _number("fps")), ("peak memory", _size("peak_memory_bytes")),
    ])  # fmt: skip


def batch_table(growth: Mapping[str, Any]) -> Table:
    """Latency of a batch and of a frame in it."""
    return _counted_table(growth, "batch")


def threads_table(growth: Mapping[str, Any]) -> Table:
    """Latency by threads."""
    return _counted_table(growth, "threads")


def parts_table(layers: Mapping[str, Any]) -> Table:
    """Work and time of each part of the network, in its order."""
    return _table(layers.get("parts") or (), [
        ("part", _text("part")), ("layers", _text("layers")), ("GMAC", _number("gmac", 2)), ("ms", _number("ms")),
        ("share", lambda row: f"{number(row.get('share_percent'), 1)} %"), ("GMAC/s", _number("gmac_s", 0)),
        ("of peak", _of_peak),
    ])  # fmt: skip


def layers_table(layers: Mapping[str, Any]) -> Table:
    """The most expensive layers."""
    return _table(layers.get("rows") or (), [
        ("layer", lambda row: str(row.get("what") or row.get("name"))), ("part", _text("part")),
        ("format", _text("format")),
        ("GMAC", _number("gmac", 2)), ("ms", _number("ms")),
        ("share", lambda row: f"{number(row.get('share_percent'), 1)} %"),
        ("GMAC/s", _number("gmac_s", 0)), ("of peak", _of_peak), ("limited by", _text("bound")),
        ("name", _text("name")),
    ], ["part", "format", "limited by", "name"])  # fmt: skip


def losses_table(layers: Mapping[str, Any]) -> Table:
    """What keeps the engine from the peak, in milliseconds of its time."""
    return _table(layers.get("losses") or (), [
        ("what keeps it from the peak", _text("words")), ("ms", _number("ms")),
        ("share", lambda row: f"{number(row.get('share_percent'), 1)} %"),
    ])  # fmt: skip


def _of_peak(row: Mapping[str, Any]) -> str:
    text = number(row.get("of_peak_percent"), 0)
    return text if text == NONE else f"{text} %"


def peers_table(peers: Mapping[str, Any]) -> Table:
    """What a user would run instead, and how many times as long it takes."""
    return _table(peers.get("rows") or (), [
        ("peer", _text("name")), ("version", _text("version")), ("threads", _text("threads")),
        ("median ms", _latency("median")), ("agreement", _share("agreement_percent")),
        *_held_against(),
    ], ["version", "held against"])  # fmt: skip


def loops_table(peers: Mapping[str, Any]) -> Table:
    """The whole loop of others."""
    return _table(peers.get("loops") or (), [
        ("loop", _text("name")), ("version", _text("version")), ("threads", _text("threads")),
        ("ms a frame", _number("frame_ms")), ("fps", _number("fps")), *_held_against(),
    ], ["version", "held against"])  # fmt: skip


def _held_against() -> list[Column]:
    return [
        ("held against", _text("against")),
        ("its time / ours", _ratio),
        ("default / our default", lambda row: ratio_words(row.get("default_ratio"))),
    ]


def cameras_table(cameras: Mapping[str, Any]) -> Table:
    """What was tried, and whether it held."""
    return _table(cameras.get("tried") or (), [
        ("streams", _text("streams")), ("fps of each", _number("fps")), ("served fps, worst", _number("processed_fps")),
        ("served, worst", _share("processed_percent")), ("p95 age, ms", _number("p95_age_ms")),
        ("max age, ms", _number("max_age_ms")),
        ("held", lambda row: "yes" if row.get("held") else f"no: {row['why']}" if row.get("why") else "no"),
    ], ["held"])  # fmt: skip


def stages_table(loop: Mapping[str, Any]) -> Table:
    """Milliseconds of each stage, and the age of what was shown."""
    rows = [{"name": name, "latency_ms": told} for name, told in (loop.get("stages_ms") or {}).items()]
    if loop.get("age_ms"):
        rows.append({"name": "age", "latency_ms": loop["age_ms"]})
    return _table(rows, [
        ("stage, ms", _text("name")), ("n", _latency("count")), ("min", _latency("min")),
        ("median", _latency("median")),
        ("mean", _latency("mean")), ("p95", _latency("p95")), ("p99", _latency("p99")), ("max", _latency("max")),
    ])  # fmt: skip


def skipped_table(skipped: Rows) -> Table:
    """What was not measured."""
    return _table(skipped, [("not measured", _text("name")), ("because", _text("reason"))], ["because"])
