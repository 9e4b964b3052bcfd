"""What a report comes to, in sentences; the first is the one to remember."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rtpsp.bench.numbers import interval, median_of, number, shares, times


def main_engine(report: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The row that the report is about: the fastest of one model and size, the first of several; None without any."""
    rows: list[Mapping[str, Any]] = [
        row for row in report.get("engines") or () if median_of(row.get("latency_ms")) is not None
    ]
    if not rows:
        return None
    alike = len({(row.get("model"), row.get("height"), row.get("width"), row.get("batch")) for row in rows}) == 1
    return min(rows, key=lambda row: median_of(row["latency_ms"]) or 0) if alike else rows[0]


def headline(report: Mapping[str, Any]) -> str:
    """The verdict in one sentence.

    Args:
        report: As `rtpsp bench --json` writes it; every section may be missing.
    """
    engine = main_engine(report)
    if engine is None:
        return next(iter(_sections(report)), "Nothing was timed.")
    what = f"{engine.get('model')} at {engine.get('height')}x{engine.get('width')}"
    how = f"in {engine.get('backend')} {engine.get('precision')}"
    took = f"{number(median_of(engine['latency_ms']))} ms a frame"
    if (engine.get("batch") or 1) > 1:
        took = f"{number(median_of(engine['latency_ms']))} ms a batch of {engine['batch']}"
    rate = f": {number(engine['fps'])} fps" if engine.get("fps") else ""
    return f"{what} takes {took} {how}{rate}"


def sentences(report: Mapping[str, Any]) -> list[str]:
    """What else the report comes to: a sentence a section at most, and warnings last."""
    told = _sections(report)
    if main_engine(report) is None:
        told = told[1:]
    if report.get("quick"):
        told.append("A quick run: it shows what is measured, and no figure to rely on.")
    if report.get("interrupted"):
        told.append("The run was ended early: these are the figures of what was done by then.")
    unsteady = [str(row.get("name")) for row in report.get("engines") or () if row.get("stable") is False]
    if unsteady:
        told.append(f"Not stable: {', '.join(unsteady)}; the last windows of the run differ by more than 5 %.")
    noise = report.get("noise") or {}
    if noise.get("words"):
        told.append(f"While this was measured, {noise['words']}.")
    return told


def _sections(report: Mapping[str, Any]) -> list[str]:
    told = []
    best = _card_row(report.get("card") or {})
    if best:
        told.append(sentence(best["verdict"]))
    told += [sentence(_loop(report["loop"]))] if (report.get("loop") or {}).get("cost_ms") is not None else []
    for row in (report.get("baseline") or {}).get("rows") or ():
        if row.get("ratio"):
            told.append(
                f"{row.get('title')}: {number(row.get('measured_ms'))} ms here, {number(row.get('published_ms'))} ms "
                f"as published ({times(row['ratio'])}); what differs stands below."
            )
    growth = (report.get("growth") or {}).get("linear") or {}
    if growth.get("words"):
        told.append(sentence(growth["words"]))
    told += [
        sentence(report[name]["words"])
        for name in ("peers", "cameras", "layers")
        if (report.get(name) or {}).get("words")
    ]
    return told


def _card_row(card: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The fastest row beside the reference that has a verdict."""
    rows = [row for row in card.get("rows") or () if row.get("verdict") and row.get("name") != card.get("reference")]
    return min(rows, key=lambda row: median_of(row.get("latency_ms")) or float("inf"), default=None)


def _loop(loop: Mapping[str, Any]) -> str:
    share = f", {number(loop['cost_percent'], 1)} % of a frame" if loop.get("cost_percent") is not None else ""
    ends = interval({"interval": loop.get("cost_interval_ms")})
    spread = f" ({number(ends[0])} to {number(ends[1])})" if ends else ""
    rate = f" at {number(loop['fps'])} fps" if loop.get("fps") else ""
    return f"The live loop{rate} adds {number(loop['cost_ms'])} ms{spread} to the engine{share}"


def sentence(text: str) -> str:
    """Words with a capital in front, unless they begin with our name, and a full stop behind."""
    text = text.strip()
    first = text[:1] if text.startswith("rtpsp") else text[:1].upper()
    return first + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def tiles(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The few figures that stand large on the page: figure, unit, what it is."""
    found = []
    engine = main_engine(report)
    if engine is not None:
        latency = engine["latency_ms"]
        found.append((number(latency["median"]), "ms", "median latency"))
        if latency.get("p95") is not None:
            found.append((number(latency["p95"]), "ms", "95th percentile"))
        if engine.get("fps"):
            found.append((number(engine["fps"]), "fps", "engine alone"))
    loop = report.get("loop") or {}
    if loop.get("fps"):
        found.append((number(loop["fps"]), "fps", "whole live loop"))
    if engine is not None and engine.get("agreement_percent") is not None:
        found.append((shares(engine["agreement_percent"]).removesuffix(" %"), "%", "agreement with FP32"))
    return found
