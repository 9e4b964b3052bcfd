"""Which sources ``rtpsp run`` was given, and how they are to be opened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
from click.core import ParameterSource

from rtpsp.errors import SourceError, UsageError
from rtpsp.redaction import register
from rtpsp.stream.names import expanded
from rtpsp.stream.rooms import CAMERA, NETWORK, SIMULATOR, room_of
from rtpsp.stream.source import Reconnect, SourceOptions
from rtpsp.stream.source_list import NamedSource, name_sources, read_sources

_COMES_AND_GOES = (CAMERA, NETWORK, SIMULATOR)
_USED_BY = {
    "reconnect": _COMES_AND_GOES,
    "reconnect_max_delay": _COMES_AND_GOES,
    "wait": _COMES_AND_GOES,
    "read_timeout": _COMES_AND_GOES,
    "open_timeout": (NETWORK,),
    "hwaccel": (NETWORK,),
    "rtsp_transport": (NETWORK,),
}
"""Options that one source of a run at least has to have a use for."""


def sources_of(given: dict[str, Any]) -> tuple[NamedSource, ...]:
    """The sources of a command line, at least one; from here on their passwords are in no line that we write.

    Args:
        given: The options ``camera``, ``source`` and ``sources``.

    Raises:
        UsageError: None of the options was given, or more than one.
        SourceError: A list of sources is none, or names a variable that is not set.
        MissingError: There is no camera of that name.
    """
    asked = [f"--{name}" for name in ("camera", "source", "sources") if given[name] not in (None, ())]
    if len(asked) > 1:
        raise UsageError(f"got both {' and '.join(asked[:2])}, expected one: leave one of them out")
    if not asked:
        raise UsageError(
            "got neither --camera nor --source nor --sources, expected one; to try it: rtpsp run --source "
            "'sim://street?frames=60' --output try.mp4"
        )
    if given["camera"] is not None:
        from rtpsp.stream.cameras import to_camera_uri

        return name_sources([to_camera_uri(given["camera"])])
    found = read_sources(given["sources"]) if given["sources"] else name_sources(given["source"])
    for source in found:
        register(source.uri)
    return found


def check_use(given: dict[str, Any], sources: Sequence[NamedSource]) -> None:
    """Make sure that the command line asks for nothing that no source can do; a file of options is for many runs.

    Raises:
        UsageError: It does.
    """
    context = click.get_current_context(silent=True)
    if context is None:
        return
    try:
        rooms = [room_of(source.uri if "://" in source.uri else expanded(source.uri)) for source in sources]
    except SourceError:  # it is told when that one is opened
        return
    rtsp = any(source.uri.lower().startswith(("rtsp://", "rtsps://")) for source in sources)
    for name, users in _USED_BY.items():
        if given[name] == "off" or context.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        if not any(room in users for room in rooms) or (name == "rtsp_transport" and not rtsp):
            what = rooms[0].what if len(rooms) == 1 else "any of these sources"
            what = "a stream that is not rtsp://" if what == NETWORK.what else what
            raise UsageError(f"--{name.replace('_', '-')} has no meaning for {what}: leave it out")


def to_source_options(given: dict[str, Any]) -> SourceOptions:
    """How to open them all.

    Raises:
        UsageError: Options contradict each other.
    """
    tries = given["reconnect"]
    if tries == "off" and given["wait"]:
        raise UsageError("got --wait and --reconnect off, expected one: to wait for a source is to try again")
    longest = given["reconnect_max_delay"]
    reconnect = Reconnect(
        attempts=tries if isinstance(tries, int) else None,
        first=min(Reconnect.first, longest),
        longest=longest,
        at_start=given["wait"],
    )
    return SourceOptions(
        camera_size=given["camera_size"],
        camera_fps=given["camera_fps"],
        loop=given["loop"],
        start=given["start"],
        end=given["end"],
        read_timeout=given["read_timeout"],
        open_timeout=given["open_timeout"],
        reconnect=None if tries == "off" else reconnect,
        transport=given["rtsp_transport"],
        hwaccel=given["hwaccel"],
    )


def shown_names(sources: Sequence[NamedSource]) -> list[str]:
    """What each is called where there are several, or where somebody gave it a name; empty for a single one."""
    return [source.name for source in sources] if len(sources) > 1 or sources[0].name != "1" else [""]
