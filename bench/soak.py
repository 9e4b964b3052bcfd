"""Does it stay as fresh and as small as it was in the first minute? ``python -m bench.soak --hours 24``

A server of our own (gst-rtsp-server, or HTTP MJPEG) shows a video at 30 fps and draws into each picture when it was
exposed; the whole loop segments it, with a fake engine that manages 8 fps or the real one. Every minute has a line:
ages by that time code and as rtpsp reports them, frames by what became of them, reconnects, memory, threads, files.
With ``--source`` any stream is soaked; ages by time code are then there only if it carries one. With
``--restart-every`` the server is killed again and again, and comes back after ten seconds.

It ends with 1 where something grew: the p95 by time code of the last minute by more than one frame's time over the
first; memory by more than 20 MB since minute 2 (until then buffers fill); threads or files since minute 2; or where
frames are unaccounted for.
"""

from __future__ import annotations

import math
import sys
from contextlib import nullcontext
from pathlib import Path
from time import sleep
from typing import Any

import click

from rtpsp.bench.noise import Noise
from rtpsp.bench.report import head
from rtpsp.live import RunOptions
from rtpsp.stream.render import RenderOptions
from rtpsp.timing import now
from tests.servers.running import Running, counts, figures, holding, save, serving
from tests.servers.truth import held

MINUTE = 60.0
SETTLED = 2
"""The minute from which on memory, threads and files may not grow."""
MOST_MEMORY = 20.0
OUTAGE = 10.0


@click.command()
@click.option("--hours", type=click.FloatRange(0, min_open=True))
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Instead of hours.  [default: 20]")
@click.option("--source", help="Any URI; without it a server of our own is started.")
@click.option("--server", "kind", type=click.Choice(["rtsp", "mjpeg"]), default="rtsp", show_default=True)
@click.option("--video", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="What the server shows.")
@click.option("--size", default="480x640", show_default=True, metavar="HxW")
@click.option("--fps", default=30, show_default=True)
@click.option("--engine", default="fake:8", show_default=True, help="fake:FPS, real, or an engine file.")
@click.option("--restart-every", type=click.IntRange(1), metavar="MINUTES", help="Kill the server so often.")
@click.option("--minute", default=MINUTE, show_default=True, help="Seconds of a minute: shorter to try this out.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path))
def main(
    hours: float | None,
    minutes: float | None,
    source: str | None,
    kind: Any,
    video: Path | None,
    size: str,
    fps: int,
    engine: str,
    restart_every: int | None,
    minute: float,
    json_path: Path | None,
) -> None:
    """Run for hours and print a line a minute."""
    count = max(1, math.ceil(hours * 60 if hours else minutes or 20))
    height, width = (int(side) for side in size.split("x"))
    place = nullcontext(None) if source else serving(kind, video, (height, width), fps)
    rows: list[dict[str, Any]] = []
    with Noise() as noise, place as server:
        uri = source or server.url()  # type: ignore[union-attr]
        options = RunOptions(render=RenderOptions(legend=True, hud=True))
        with Running(uri, engine, options) as running:
            while not running.codes.count:
                running.check()
                sleep(0.1)
            running.codes.take()
            begin = now()
            for number in range(1, count + 1):
                if server and restart_every and number < count and number % restart_every == 0:
                    server.kill()
                    sleep(min(OUTAGE, minute / 2))
                    server.start()
                sleep(max(begin + number * minute - now(), 0))
                running.check()
                rows.append(_row(number, running))
                print(_line(rows[-1]), flush=True)
    end = counts(running.report)
    verdict = _verdict(rows, end, running.codes.count, 1000 / fps)
    seconds = round(count * minute)
    what = f"{'a stream of others' if source else f'{kind}, {size}, {fps} fps'}, engine {engine}, {seconds} s"
    result = head("python -m bench.soak", what, noise)
    del result["machine"]["features"]
    result |= {"frames_by_fate": end, "verdict": verdict, "minutes": rows, "run": _short(running)}
    for line in verdict:
        print(line)
    if json_path:
        save(json_path, result, "minutes")
    sys.exit(1 if verdict else 0)


def _row(number: int, running: Running) -> dict[str, Any]:
    """The minute that has just ended; counts of frames, reconnects and faults are since the beginning."""
    source = running.pipeline.snapshot().sources[0]
    health = source.health
    return {
        "minute": number,
        **figures(running.codes.take()),
        **holding(held()),
        "received": source.received,
        "shown": source.shown,
        "dropped": dict(source.dropped),
        "missed": source.missed,
        "reconnects": health.reconnects,
        "downtime_s": round(health.downtime, 1),
        "faults": dict(health.faults),
        "stamps": dict(health.stamps),
        "absences": running.codes.absences,
    }


def _line(row: dict[str, Any]) -> str:
    def told(name: str) -> str:
        found = row[name]
        return "-" if found is None else " ".join(f"{found[share]:.0f}" for share in ("p50", "p95", "p99"))

    return (
        f"minute {row['minute']:4d}: {row['pictures']} pictures, age p50 p95 p99 {told('true_ms')} ms by time code, "
        f"{told('reported_ms')} reported; {row['memory_mb']:.0f} MB, {row['threads']} threads, {row['files']} files, "
        f"{row['reconnects']} reconnects, dropped {sum(row['dropped'].values())} of {row['received']}"
    )


def _verdict(rows: list[dict[str, Any]], end: dict[str, Any], seen: int, frame: float) -> list[str]:
    """What is wrong, a line each."""
    wrong = []
    first, last, settled = rows[0], rows[-1], rows[min(SETTLED, len(rows)) - 1]
    if first["true_ms"] and last["true_ms"] and last["true_ms"]["p95"] > first["true_ms"]["p95"] + frame:
        wrong.append(f"the age grew: p95 {first['true_ms']['p95']} ms in minute 1, {last['true_ms']['p95']} at the end")
    if last["memory_mb"] > settled["memory_mb"] + MOST_MEMORY:
        wrong.append(f"memory grew: {settled['memory_mb']} MB in minute {SETTLED}, {last['memory_mb']} at the end")
    for name in ("threads", "files"):
        if last[name] > settled[name]:
            wrong.append(f"{name} grew: {settled[name]} in minute {SETTLED}, {last[name]} at the end")
    if end["unaccounted"] or end["shown"] != seen:
        wrong.append(f"frames are unaccounted for: {end}, and a sink had {seen}")
    return wrong


def _short(running: Running) -> dict[str, Any]:
    """Of the report, what no minute has."""
    report = running.report.to_dict()
    return {name: report[name] for name in ("source", "engine", "policy", "threads", "fps", "stages_ms", "ended")}


if __name__ == "__main__":
    main()
