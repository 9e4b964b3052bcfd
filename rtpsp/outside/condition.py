"""Whether a run does what it is there for, and if not, why: one definition for the health check and for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rtpsp.redaction import scrub
from rtpsp.stream.snapshot import Snapshot, SourceSnapshot
from rtpsp.stream.told_apart import told_apart
from rtpsp.timing import now

SILENT_SECONDS = 10.0
"""How long a live source may be without a frame shown: a few tries to connect anew lie within it."""


def names_of(sources: Iterable[SourceSnapshot]) -> list[str]:
    """What each source is called outside: its URI without secrets, with a number where another is called so too."""
    return told_apart(scrub(source.info.uri) for source in sources)


def silent_for(source: SourceSnapshot) -> float:
    """Seconds since a frame of it was shown; before the first one, since it was opened or lost."""
    return max(0.0, now() - (source.health.since if source.last_shown is None else source.last_shown))


def reasons(snapshot: Snapshot, silent: float = SILENT_SECONDS) -> list[str]:
    """Why the run does not do all that was asked of it, a line each; empty where it does.

    A file that has ended has done so, but a live source has no end: that it gave its last frame is a reason, and so is
    that none was shown for longer than `silent` seconds. Of any source it is one that it ended with an error, or could
    not be opened at all.
    """
    found = [] if snapshot.ready else ["the engine is not ready yet"]
    found += [f"stalled: {stage}" for stage in snapshot.stalled]
    for name, source in zip(names_of(snapshot.sources), snapshot.sources, strict=True):
        if not source.info.live and not source.ended.startswith("error"):
            continue
        if source.ended:
            found.append(f"{name} has ended: {source.ended}")
        elif (seconds := silent_for(source)) > silent:
            fault = "" if source.health.present else f": {source.health.reason or 'waiting for it'}"
            found.append(f"{name}: no frame for {seconds:.0f} s{fault}")
    found += [f"output ended: {failure}" for failure in snapshot.failures]
    found += [f"stopping: {snapshot.stopping}"] if snapshot.stopping else []
    return [scrub(reason) for reason in found]


def to_report(snapshot: Snapshot) -> dict[str, Any]:
    """The answer of ``/healthz``, as plain JSON values: ``status``, ``reasons``, and what each source is like."""
    found = reasons(snapshot)
    sources = [
        {
            "source": name,
            "present": source.health.present,
            "fps": None if source.fps is None else round(source.fps, 2),
            "age_ms": None if source.last_age is None else round(source.last_age * 1e3, 1),
            "seconds_since_frame": None if source.last_shown is None else round(silent_for(source), 1),
            "reconnects": source.health.reconnects,
            "ended": scrub(source.ended),
        }
        for name, source in zip(names_of(snapshot.sources), snapshot.sources, strict=True)
    ]
    return {"status": "unhealthy" if found else "ok", "reasons": found, "sources": sources}
