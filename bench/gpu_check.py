"""What a machine with an NVIDIA GPU is worth to rtpsp: one script that finds out, and one JSON with all that it found.

    python bench/gpu_check.py [--out FILE] [--budget 540] [--only PART ...] [--skip PART ...] [--quick] [--list]

Every part runs in a process of its own, so that one that raises, crashes, hangs or breaks the GPU's state is recorded
with the end of its output while the next goes on. The JSON is written anew after each part, and parts stand in the
order of their worth: what no longer fits into the budget is recorded as skipped. Whether the GPU is accepted, the
contracts, our kernels, the ceilings and torch come first, in some two minutes; then FP16 and INT8 engines of both
networks, some four minutes with TensorRT-RTX and six with TensorRT; all there is wants a larger ``--budget``. Without
a GPU every part that needs one is recorded as skipped, with the reason, and those that need none (kernels compile,
TensorRT-RTX builds ahead of time) run. ``--quick`` repeats little and builds few engines: its figures mean nothing, its
course is the same.

Durations are in milliseconds: the median, the 90th and, from 200 runs on, the 99th percentile, after warm-up; *device*
is by CUDA events, *wall* by the host's clock from handing the frame over to having the answer. Machines, accounts and
folders are not named in the JSON.

On a machine without a network, from the repository's root, where ``.kit`` holds the wheels that are missing there
(TensorRT-RTX, PyCUDA, PyAV) with an ``install.sh FOLDER`` for them, and ``$OUT`` is where files are collected from:

    bash .kit/install.sh "$HOME/site" && PYTHONPATH="$HOME/site" python3 bench/gpu_check.py --out "$OUT/gpu.json"

Nothing is installed beyond that, nothing of the GPU's settings is changed, and nothing is left but the JSON.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from gpu.children import be_child, run_part
from gpu.part import write_json
from gpu.table import PARTS, part_named

FORMAT = 1
RESERVE = 4.0
"""Seconds kept for the last part, which only computes."""
LEAST = 3.0
"""A part that has fewer seconds left does not begin."""


def check(out: Path | None, budget: float, only: Iterable[str], skip: Iterable[str], quick: bool) -> dict[str, Any]:
    """Runs the parts, writing `out` after each, and gives what it holds in the end."""
    begin = time.monotonic()
    wanted = _with_what_they_need(list(only)) if only else {part.name for part in PARTS}
    left_out = set(skip)
    found: dict[str, Any] = {"format": FORMAT, "quick": quick, "budget_seconds": budget, "parts": {}}
    results = found["parts"]
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        for part in PARTS:
            if part.name not in wanted:
                continue
            left = budget - (time.monotonic() - begin) - (0 if part is PARTS[-1] else RESERVE)
            seconds = min(part.limit, left)
            reason = "left out by --skip" if part.name in left_out else part.why_not(results)
            if not reason and seconds < LEAST:
                reason = f"no time: {max(0.0, seconds):.0f} s of {budget:.0f} are left"
            if reason:
                results[part.name] = {"status": "skipped", "reason": reason}
            else:
                results[part.name] = run_part(part, Path(folder), results, seconds, quick)
            found["seconds"] = round(time.monotonic() - begin, 1)
            if out is not None:
                write_json(out, found)
            click.echo(_line(part.name, results[part.name]))
    return found


def _with_what_they_need(names: list[str]) -> set[str]:
    wanted: set[str] = set()
    while names:
        name = names.pop()
        if name not in wanted:
            wanted.add(name)
            names += part_named(name).after
    return wanted


def _line(name: str, result: dict[str, Any]) -> str:
    told = result.get("reason") or result.get("error") or result.get("signal") or ""
    seconds = f"{result['seconds']:.1f} s" if "seconds" in result else ""
    return f"{name:47} {result['status']:8} {seconds:>8}  {' '.join(str(told).split())[:150]}".rstrip()


def _summary(found: dict[str, Any]) -> str:
    """A short table: how the parts ended, and the figures that matter most."""
    parts = found["parts"]
    states = [part["status"] for part in parts.values()]
    lines = ["", " ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))]
    device = parts.get("facts", {}).get("data", {}).get("device")
    lines.append(f"device: {device['name']}, CUDA {device['cuda']}" if device else "device: none")
    for ratio in parts.get("floors", {}).get("data", {}).get("ratios", ()):
        lines.append(
            f"{ratio['part']:47} {ratio['figure']:32} {ratio['median_ms']:9.3f} ms  {ratio['over_floor']:6.2f} x floor"
        )
    return "\n".join(lines)


@click.command(help="Find out what this machine's GPU is worth to rtpsp.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the JSON here, anew after each part."
)
@click.option("--budget", default=540.0, show_default=True, help="Seconds for everything.")
@click.option("--only", multiple=True, help="Run this part and what it needs; repeatable.")
@click.option("--skip", multiple=True, help="Leave this part out; repeatable.")
@click.option("--quick", is_flag=True, help="Few repetitions.")
@click.option("--list", "listing", is_flag=True, help="Name the parts.")
@click.option("--part", "child", hidden=True)
@click.option("--json", "report", type=click.Path(path_type=Path), hidden=True)
@click.option("--work", type=click.Path(path_type=Path), hidden=True)
def main(
    out: Path | None, budget: float, only: tuple[str, ...], skip: tuple[str, ...], quick: bool, listing: bool,
    child: str | None, report: Path | None, work: Path | None,
) -> None:  # fmt: skip
    if listing:
        click.echo("\n".join(f"{part.name:47} {part.limit:4.0f} s" for part in PARTS))
    elif child is not None:
        assert report is not None and work is not None
        sys.exit(be_child(part_named(child), report, work, quick))
    else:
        for name in (*only, *skip):
            if name not in {part.name for part in PARTS}:
                raise click.UsageError(f"no part {name!r}: --list names them")
        click.echo(_summary(check(out, budget, only, skip, quick)))


if __name__ == "__main__":
    main()
