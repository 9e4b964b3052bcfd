"""How old is the picture that a loop shows? Four loops on one stream at once: ``python -m bench.live_peers``

A real RTSP server shows a video at 30 fps with a time code in each picture. At the same time it is read by a plain
OpenCV script, by supervision's frame generator, by the InferencePipeline of roboflow's inference, and by rtpsp, each a
process of its own (`live_loops.py`) with the same work to do: first a fake one of 8 fps, then the real engine. A
picture's age is the time at which it would be shown less its time code, whatever the loop itself believes.

The peers get an environment of their own, which is made when it is first needed (`rtpsp.bench.peers_environment`).
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from rtpsp.bench.noise import Noise
from rtpsp.bench.peers_environment import bare_environ, default_folder, environment_python
from rtpsp.bench.report import head
from rtpsp.timing import now, quantile
from tests.servers.running import serving, to_engine

FOLDER = Path(__file__).resolve().parent
LOOPS = ("opencv", "supervision", "inference", "rtpsp")
PEERS = ("supervision", "inference")
PARTS = 10
"""Into how many parts of its time a run is cut, to see whether ages grow."""
PATIENCE = 30.0


class Loop:
    """A loop in a process of its own.

    Args:
        name: One of `LOOPS`.
        python: What runs it.
        arguments: As `live_loops` takes them.
        folder: Where its stderr goes.
    """

    def __init__(self, name: str, python: Path, arguments: Sequence[str], folder: Path) -> None:
        self.name = name
        self.shown: list[tuple[float, float]] = []
        self._said = folder / f"{name}.txt"
        with self._said.open("w") as said:
            self._process = subprocess.Popen(
                [str(python), str(FOLDER / "live_loops.py"), name, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                env=bare_environ(),
            )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def end(self, patience: float) -> str:
        """Wait for its end; what it said last where it ended with an error or not at all."""
        try:
            code = self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            code = -9
        self._thread.join(PATIENCE)
        lines = self._said.read_text(errors="replace").strip().splitlines()
        return "" if not code else f"exit code {code}: {lines[-1] if lines else 'no word'}"

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            fields = line.split()
            if len(fields) == 2 and all(field.replace(".", "", 1).isdigit() for field in fields):
                self.shown.append((float(fields[0]), float(fields[1])))


def race(uri: str, work: str, seconds: float, pythons: dict[str, Path]) -> dict[str, Any]:
    """All loops at once on one stream; ages in milliseconds over the parts of the time."""
    behind = [str(FOLDER.parent), sysconfig.get_paths()["purelib"]]
    with tempfile.TemporaryDirectory() as folder:
        begin = now()
        loops = [
            Loop(name, python, [uri, work, str(seconds), *behind], Path(folder)) for name, python in pythons.items()
        ]
        ends = {loop.name: loop.end(max(begin + seconds + PATIENCE - now(), 1)) for loop in loops}
    return {loop.name: _row(loop.shown, ends[loop.name], begin, seconds) for loop in loops}


def _row(shown: list[tuple[float, float]], ended: str, begin: float, seconds: float) -> dict[str, Any]:
    parts: list[list[float]] = [[] for _ in range(PARTS)]
    for at, exposed in shown:
        parts[min(int((at - begin) / seconds * PARTS), PARTS - 1)].append(at - exposed)
    whole = sorted(at - exposed for at, exposed in shown)
    duration = shown[-1][0] - shown[0][0] if len(shown) > 1 else 0.0
    return {
        "pictures": len(shown),
        "fps": round((len(shown) - 1) / duration, 2) if duration else None,
        "age_p50_ms": _at(whole, 0.5),
        "age_p95_ms": _at(whole, 0.95),
        "age_max_ms": _at(whole, 1.0),
        "age_p50_ms_by_part": [_at(sorted(part), 0.5) for part in parts],
        "error": ended,
    }


def _at(ordered: list[float], share: float) -> float | None:
    return round(quantile(ordered, share) * 1e3, 1) if ordered else None


@click.command()
@click.option("--video", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="What the server shows.")
@click.option("--size", default="480x640", show_default=True, metavar="HxW")
@click.option("--fps", default=30, show_default=True)
@click.option("--seconds", default=120.0, show_default=True, help="Of each work.")
@click.option("--work", "works", multiple=True, default=("fake:8", "real"), show_default=True)
@click.option("--loop", "loops", multiple=True, type=click.Choice(LOOPS), default=LOOPS, show_default=True)
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path))
def main(
    video: Path | None,
    size: str,
    fps: int,
    seconds: float,
    works: Sequence[str],
    loops: Sequence[str],
    json_path: Path | None,
) -> None:
    """Let the loops run side by side, and read the age off their pictures."""
    height, width = (int(side) for side in size.split("x"))
    ours = Path(sys.executable)
    theirs = ours
    if set(loops) & set(PEERS):
        theirs = environment_python(FOLDER / "live_loops.txt", default_folder())
    pythons = {name: theirs if name in PEERS else ours for name in loops}
    rows: dict[str, dict[str, Any]] = {}
    with Noise() as noise, ExitStack() as stack:
        server = stack.enter_context(serving("rtsp", video, (height, width), fps))
        for work in works:
            engine = str(to_engine(work)) if work == "real" else work
            rows[work] = race(server.url(), engine, seconds, pythons)
    table = Table(title=f"{size} at {fps} fps, all loops at once, {seconds:.0f} s each work; ages in ms by time code")
    for column in ("work", "loop", "fps", "p50", "p95", "max", "p50 by tenth of the time"):
        table.add_column(column)
    for work, found in rows.items():
        for name, row in found.items():
            cells = [
                "-" if row[key] is None else f"{row[key]:.0f}" for key in ("age_p50_ms", "age_p95_ms", "age_max_ms")
            ]
            growth = " ".join("-" if age is None else f"{age:.0f}" for age in row["age_p50_ms_by_part"])
            table.add_row(work, name, f"{row['fps']}", *cells, row["error"] or growth)
    Console(width=160).print(table)
    if json_path:
        requirements = [line for line in (FOLDER / "live_loops.txt").read_text().splitlines() if line[:1] != "#"]
        result = head("python -m bench.live_peers", f"rtsp, {size}, {fps} fps, {seconds:.0f} s each work", noise)
        del result["machine"]["features"]
        result |= {"requirements": requirements, "works": rows}
        json_path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
