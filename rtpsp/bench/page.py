"""What the HTML report says, section by section: words, figures and tables of what the report holds, in one order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rtpsp.bench import plots, plots_growth, plots_rows, tables
from rtpsp.bench.numbers import number, size
from rtpsp.bench.roofline import roofline_svg
from rtpsp.bench.tables import Table
from rtpsp.bench.verdict import sentence


@dataclass(frozen=True)
class Picture:
    """A figure: an SVG element, and what to see in it."""

    svg: str
    caption: str


@dataclass(frozen=True)
class Section:
    """One section of the page.

    Attributes:
        key: Its anchor, which is its name in the JSON.
        title: Its heading.
        words: What it comes to, in sentences.
        pictures: Side by side where there is room.
        tables: One below the other.
        folded: A table that is shown when asked for, and what it holds.
        note: How its figures are to be read.
    """

    key: str
    title: str
    words: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    folded: tuple[tuple[str, Table], ...] = ()
    note: str = ""


@dataclass
class _Draft:
    """A section under way: what is empty is left out of it."""

    pictures: list[Picture] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)

    def draw(self, svg: str, caption: str) -> None:
        if svg:
            self.pictures.append(Picture(svg, caption))

    def tabulate(self, *given: Table) -> None:
        self.tables += [table for table in given if table.rows]

    def section(self, key: str, title: str, note: str = "", *words: str | None) -> Section:
        return Section(
            key,
            title,
            tuple(sentence(word) for word in words if word),
            tuple(self.pictures),
            tuple(self.tables),
            note=note,
        )


def sections(report: Mapping[str, Any]) -> list[Section]:
    """The sections of a report.

    Args:
        report: As ``rtpsp bench --json`` writes it (schema 2); a section that it lacks is left out.
    """
    places: dict[str, int] = {}
    for row in (*(report.get("engines") or ()), *((report.get("card") or {}).get("rows") or ())):
        places.setdefault(str(row.get("name")), len(places))
    makers: dict[str, Callable[[Any], Section]] = {
        "engines": partial(_engines, places=places), "ratios": _ratios, "card": partial(_card, places=places),
        "loop": _loop, "baseline": _baseline, "peers": _peers, "growth": _growth, "layers": _layers,
        "cameras": _cameras,
    }  # fmt: skip
    found = [make(report[key]) for key, make in makers.items() if report.get(key)]
    skipped = tables.skipped_table(report.get("skipped") or ())
    if skipped.rows:
        found.append(Section("skipped", "Not measured", tables=(skipped,)))
    machine = _machine(report)
    return found + ([machine] if machine.tables else [])


def _engines(engines: list[Mapping[str, Any]], places: plots.Places) -> Section:
    draft = _Draft()
    draft.draw(
        plots.latency_svg(engines, places), "How many inferences took at most so long. A steep line is a steady engine."
    )
    draft.draw(
        plots.windows_svg(engines, places),
        "Medians of the windows of each run. A run is stable when its last three lie within 5 % (the band's height).",
    )
    draft.draw(plots.parts_svg(engines), "What an inference is made of, where the backend tells its parts apart.")
    draft.tabulate(tables.engines_table(engines))
    note = (
        "Latency: from handing over a batch to having its class maps, normalisation, upsampling and argmax inside; "
        "warm-up is left out. fps = (n - 1) / (t_last - t_first). A percentile is given where at least ten samples lie "
        "beyond it. Agreement: share of pixels with the class that FP32 gives them on real frames, checked before "
        "anything is timed."
    )
    return draft.section("engines", "Engines", note)


def _ratios(ratios: list[Mapping[str, Any]]) -> Section:
    draft = _Draft()
    rows = [{"name": f"{row.get('first')} / {row.get('second')}", "ratio": row} for row in ratios]
    draft.draw(
        plots_rows.forest_svg(rows, "ratios", "time of the first / time of the second"),
        "Dot: median. Thick: 95 % interval of the median. Thin: 10th to 90th percentile. Right of 1 the second is the "
        "faster one.",
    )
    draft.tabulate(tables.ratios_table(ratios))
    note = (
        "Both ran in turn (A B A B) on the same frames; each ratio is of one pair, so that noise of the machine hits "
        "both sides. The interval is a moving-block bootstrap's of the median (Künsch 1989)."
    )
    return draft.section("ratios", "Ratios", note)


def _card(card: Mapping[str, Any], places: plots.Places) -> Section:
    draft = _Draft()
    draft.draw(plots_rows.card_svg(card, places), "What each engine costs: time on the left, accuracy on the right.")
    draft.draw(
        plots_rows.classes_svg(card, places),
        "Where the accuracy goes: each class's IoU against FP32's, those that differ most first.",
    )
    draft.tabulate(tables.card_table(card), tables.skipped_table(card.get("skipped") or ()))
    note = (
        "mIoU: mean over classes of TP / (TP + FP + FN) from one confusion matrix, void left out; differences are in "
        "points (of 100)."
    )
    classes = tables.classes_table(card)
    made = draft.section(
        "card", "Precision card", note, _of("Accuracy on", card.get("data")), _of("Reference:", card.get("reference"))
    )
    folded = (("Every class, in points of IoU from FP32", classes),) if classes.rows else ()
    return Section(made.key, made.title, made.words, made.pictures, made.tables, folded, made.note)


def _of(head: str, value: Any) -> str | None:
    return f"{head} {value}." if value else None


def _loop(loop: Mapping[str, Any]) -> Section:
    draft = _Draft()
    draft.draw(
        plots.stages_svg(loop),
        "Where a frame spends its time. Stages run beside each other, so their sum is not its age.",
    )
    draft.draw(plots.age_svg(loop), "Age: from when the scene was seen to when every output had the frame.")
    draft.tabulate(tables.stages_table(loop))
    frames = loop.get("frames") or {}
    dropped = sum((frames.get("dropped") or {}).values())
    counts = (
        f"{frames['received']} frames in, {frames['shown']} out, {dropped} dropped." if "received" in frames else None
    )
    source = loop.get("source") or {}
    told = f"Source: {source['uri']}, policy {loop.get('policy')}." if source.get("uri") else None
    note = (
        "Loop cost = 1/fps of the loop - 1/fps of the engine, with a null sink, measured in turn with the engine. "
        "A file that is read as fast as it can be has frames waiting at each stage, and its age counts that wait."
    )
    return draft.section("loop", "The whole loop", note, told, counts)


def _baseline(baseline: Mapping[str, Any]) -> Section:
    draft = _Draft()
    draft.tabulate(tables.baseline_table(baseline))
    note = (
        "A ratio to a published figure means nothing without what differs: other devices, runtimes and number formats."
    )
    return draft.section("baseline", "Against published figures", note)


def _peers(peers: Mapping[str, Any]) -> Section:
    draft = _Draft()
    rows, loops, label = peers.get("rows") or (), peers.get("loops") or (), "its time / ours"
    draft.draw(
        plots_rows.forest_svg(rows, "peers", label), "Inference, like number formats. Right of 1 rtpsp is faster."
    )
    draft.draw(
        plots_rows.forest_svg([row | {"ratio": row.get("default_ratio")} for row in rows], "defaults", label),
        "Inference, each with what it does by default. Right of 1 rtpsp is faster.",
    )
    draft.draw(
        plots_rows.forest_svg(
            [row | {"ratio": row.get("default_ratio") or row.get("ratio")} for row in loops], "loops", label
        ),
        "The whole loop, by default where that was measured. Right of 1 rtpsp is faster.",
    )
    draft.tabulate(
        tables.peers_table(peers), tables.loops_table(peers), tables.skipped_table(peers.get("skipped") or ())
    )
    note = (
        "Each as its own guide writes it, on the same frames and weights, preprocessing and argmax inside, with its "
        "own defaults, in a process and environment of its own, in turn with rtpsp."
    )
    return draft.section("peers", "What a user would run instead", note, peers.get("words"))


def _growth(growth: Mapping[str, Any]) -> Section:
    draft = _Draft()
    draft.draw(plots_growth.pixels_svg(growth), "Latency over pixels; dashed: the straight line that fits best.")
    draft.draw(plots_growth.memory_svg(growth), "Peak memory of a process that opens the engine and runs it.")
    draft.draw(plots_growth.batch_svg(growth), "A frame's share of its batch's latency.")
    draft.draw(
        plots_growth.threads_svg(growth), "Speed over threads; dashed: as many times as fast as there are more threads."
    )
    draft.tabulate(tables.pixels_table(growth), tables.batch_table(growth), tables.threads_table(growth))
    draft.tabulate(tables.skipped_table(growth.get("skipped") or ()))
    return draft.section("growth", "Growth", "", growth.get("network"), (growth.get("linear") or {}).get("words"))


def _layers(layers: Mapping[str, Any]) -> Section:
    draft = _Draft()
    draft.draw(
        plots_rows.layers_svg(layers),
        "The most expensive layers: time, and the share of the measured peak that products reach.",
    )
    draft.draw(
        roofline_svg(layers), "Each dot a layer with products, under the roofs that this machine was measured to have."
    )
    draft.tabulate(tables.parts_table(layers), tables.losses_table(layers), tables.layers_table(layers))
    peaks = ", ".join(f"{name} {number(rate)}" for name, rate in (layers.get("peak") or {}).items() if rate)
    note = (
        "Peaks are those of products of the same number format, measured in turn with the engine. Bytes are estimated "
        "from shapes."
    )
    told = f"Measured peaks, GMAC/s: {peaks}." if peaks else None
    return draft.section("layers", "Layers", note, layers.get("words"), told)


def _cameras(cameras: Mapping[str, Any]) -> Section:
    draft = _Draft()
    draft.draw(
        plots_growth.cameras_svg(cameras), "Full: every stream was served. Hollow: frames were dropped, or too old."
    )
    draft.tabulate(tables.cameras_table(cameras))
    return draft.section("cameras", "How many cameras fit", str(cameras.get("measured") or ""), cameras.get("words"))


def _machine(report: Mapping[str, Any]) -> Section:
    machine, noise = report.get("machine") or {}, report.get("noise") or {}
    rows = {
        "processor": machine.get("cpu"), "cores, threads": _both(machine.get("cores"), machine.get("threads")),
        "features": ", ".join(map(str, machine.get("features") or ())),
        "memory": size(machine["memory_bytes"]) if machine.get("memory_bytes") else None,
        "GPUs": ", ".join(str(gpu["name"]) for gpu in machine.get("gpus") or ()),
        "noise": noise.get("words"), "frames": report.get("frames"), "when": report.get("when"),
        "versions": ", ".join(f"{name} {version}" for name, version in (report.get("versions") or {}).items()),
    }  # fmt: skip
    table = Table(("machine", ""), tuple((name, str(value)) for name, value in rows.items() if value), (1,))
    return Section("machine", "Machine and noise", tables=(table,) if table.rows else ())


def _both(first: Any, second: Any) -> str | None:
    return f"{first}, {second}" if first and second else None
