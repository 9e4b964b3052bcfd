"""Where ``rtpsp run`` writes and shows: from options to sinks, of one source or of several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

from rtpsp.cli.outputs import STDOUT
from rtpsp.cli.progress import ProgressLine
from rtpsp.errors import MissingError, UsageError
from rtpsp.stream.display import Window, why_no_display
from rtpsp.stream.frame import View
from rtpsp.stream.names import expanded, shown
from rtpsp.stream.outer import Only
from rtpsp.stream.records import RleFile, StatsFile
from rtpsp.stream.rooms import SCHEMES
from rtpsp.stream.segments import Segment, SegmentNames, parse_bytes
from rtpsp.stream.sink import MaskFolder, Sink
from rtpsp.stream.tiles import Tiled

OUTPUTS = ("output", "save_masks", "rle", "stats", "report")
SOURCE = "{source}"
"""Stands for a source's name in the name of an output, which then is one for each source."""


def paths_of(given: Mapping[str, Any], names: Sequence[str]) -> dict[str, tuple[Path, ...]]:
    """The places of each output by option: as many as sources where its name says so, else one; none if not asked for.

    Raises:
        UsageError: An output is an address; masks of several sources would go to one folder, or what has a place for
            each to one place; or more than the report to standard output.
    """
    paths: dict[str, tuple[Path, ...]] = {}
    for name in OUTPUTS:
        option, path = f"--{name.replace('_', '-')}", given[name]
        if path == STDOUT and name != "report":
            raise UsageError(f"{option} is -, and standard output is for --report alone: give the name of a file")
        if path is not None and str(path).partition(":/")[0].lower() in SCHEMES:
            raise UsageError(f"{option} is an address, and files alone are written: give the name of a file")
        if path is None:
            paths[option] = ()
        elif SOURCE in str(path) and name != "report":
            paths[option] = tuple(Path(str(path).replace(SOURCE, source)) for source in names)
            if len({Path(expanded(each)).resolve() for each in paths[option]}) < len(names):
                raise UsageError(f"{option} {path} is one place for several sources: let it name one for each")
        elif name == "save_masks" and len(names) > 1:
            raise UsageError(
                f"{option} is one folder for {len(names)} sources, whose masks have the same names: put {SOURCE} into "
                f"its name, such as masks-{SOURCE}"
            )
        else:
            paths[option] = (path,)
    return paths


def sinks_of(
    given: Mapping[str, Any], paths: Mapping[str, tuple[Path, ...]], names: Sequence[str]
) -> tuple[list[Sink], str]:
    """The run's outputs, and why there is no window among them; empty if there is, or none was wanted.

    Args:
        given: The options.
        paths: Of `paths_of`.
        names: Of the sources; several are tiled where they share an output of pictures.

    Raises:
        UsageError: A recording that cannot be.
        MissingError: A window was asked for, and there can be none.
    """
    sinks: list[Sink] = []
    no_window = ""
    view: View = given["view"]
    if given["show"] is not False:
        reason = why_no_display()
        if reason is None:
            window = Window(view=view)
            sinks.append(Tiled(window, names, lambda: window.chosen) if len(names) > 1 else window)
        elif given["show"]:
            raise MissingError(f"no window: {reason}; leave --show out to run without one")
        else:
            no_window = f"no window: {reason}"
    sinks += _recorders(given, paths["--output"], names, view)
    makers: tuple[tuple[str, Callable[[Path], Sink]], ...] = (
        ("--save-masks", MaskFolder), ("--rle", RleFile), ("--stats", StatsFile)
    )  # fmt: skip
    for option, make in makers:
        sinks += _each([make(path) for path in paths[option]], names)
    sinks.append(ProgressLine(names))
    return sinks, no_window


def check_recordings(given: Mapping[str, Any], paths: Sequence[Path], uris: Sequence[str]) -> None:
    """Whether what is asked of recordings makes sense, before an engine is built for it.

    Args:
        given: The options.
        paths: Of the recordings, from `paths_of`.
        uris: Of the sources.

    Raises:
        UsageError: Segments without a recording, of a length that cannot be read, or with names that are those of
            another recording's or of a source, which ``--keep`` would remove.
    """
    for option in ("segment", "keep"):
        if given[option] and not paths:
            raise UsageError(f"--{option} has no meaning without a recording: add --output FILE.mp4")
    if given["keep"] and not given["segment"]:
        raise UsageError("--keep removes the oldest segments, and there are none: add --segment 10m, for example")
    if not given["segment"]:
        return
    Segment.parse(given["segment"])
    parse_bytes(given["keep"] or "1GB")
    names = {path: SegmentNames(Path(expanded(path))) for path in paths}
    for one, other in permutations(paths, 2):
        if names[one].mixes_with(names[other]):
            raise UsageError(
                f"segments of {shown(other)} could be taken for those of {shown(one)}: give each source a folder, such "
                f"as --output '{SOURCE}/%Y%m%d-%H%M%S.mp4', or a name that none other begins with"
            )
    for uri in uris if given["keep"] and len(uris) > 1 else ():  # a single one is spared
        for path in paths:
            if "://" not in uri and names[path].takes(expanded(uri)):
                raise UsageError(
                    f"the source {shown(uri)} is called like a segment of {shown(path)}, and --keep would remove it: "
                    "give another place with --output"
                )


def _recorders(given: Mapping[str, Any], paths: Sequence[Path], names: Sequence[str], view: View) -> list[Sink]:
    if not paths:
        return []
    from rtpsp.stream import recording  # after the window: see there

    segment = Segment.parse(given["segment"]) if given["segment"] else None
    keep = parse_bytes(given["keep"]) if given["keep"] else None
    files = [recording.VideoFile(path, view, segment=segment, keep=keep) for path in paths]
    return [Tiled(files[0], names)] if len(files) < len(names) else _each(files, names)


def _each(sinks: Sequence[Sink], names: Sequence[str]) -> list[Sink]:
    """One sink for all sources as it is; of as many as sources each its own."""
    return [Only(index, sink) for index, sink in enumerate(sinks)] if len(sinks) == len(names) > 1 else list(sinks)
