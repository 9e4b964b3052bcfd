"""Options of ``rtpsp run`` for what goes on for days: sources that come and go, segments, state for others."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import click

Tries: TypeAlias = int | Literal["forever", "off"]

_SECONDS = click.FloatRange(0, min_open=True)


class TryCount(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on only
    """How often to try again."""

    name = "forever|N|off"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """As it is written, not in capitals."""
        return f"[{self.name}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Tries:
        if value == "forever" or value == "off" or isinstance(value, int):
            tries: Tries = value
            return tries
        if re.fullmatch(r"0*[1-9][0-9]{0,8}", str(value), re.ASCII) is None:
            self.fail(f"{value!r} is neither forever nor off nor a number of tries, such as 10", param, ctx)
        return int(value)


OPTIONS = (
    click.option(
        "--reconnect",
        type=TryCount(),
        default="forever",
        show_default=True,
        help="How often to try to get a live source back that was lost, with waits that grow; what else there is goes "
        "on meanwhile.",
    ),
    click.option(
        "--reconnect-max-delay",
        type=_SECONDS,
        default=30.0,
        show_default=True,
        metavar="SECONDS",
        help="The longest of those waits.",
    ),
    click.option("--wait", is_flag=True, help="Also wait for a live source that is not there yet at the start."),
    click.option(
        "--rtsp-transport",
        type=click.Choice(["tcp", "udp", "auto"]),
        default="tcp",
        show_default=True,
        help="How RTSP brings its packets: tcp loses none, udp waits for none, auto tries udp first.",
    ),
    click.option(
        "--read-timeout",
        type=_SECONDS,
        metavar="SECONDS",
        help="So long without a frame, and a live source is lost.  [default: 2 for cameras, 5 for streams, 15 for HLS]",
    ),
    click.option(
        "--open-timeout",
        type=_SECONDS,
        default=10.0,
        show_default=True,
        metavar="SECONDS",
        help="How long a stream may take to be there.",
    ),
    click.option(
        "--hwaccel",
        type=click.Choice(["auto", "off"]),
        default="off",
        show_default=True,
        help="Decode streams on a GPU where one can, else on the CPU.",
    ),
    click.option(
        "--segment",
        metavar="LENGTH",
        help="Record in files of this length, such as 10m, 2h or 500MB, with their time in their name.",
    ),
    click.option(
        "--keep",
        metavar="SIZE",
        help="Remove the oldest segments so that those of each recording together take no more, such as 20GB.",
    ),
    click.option(
        "--metrics",
        metavar="[HOST:]PORT",
        help="Answer HTTP there: /metrics for Prometheus and /healthz. Without a host only this machine can ask.",
    ),
    click.option(
        "--stall-timeout",
        type=_SECONDS,
        default=30.0,
        show_default=True,
        metavar="SECONDS",
        help="After so long in one frame the engine, or an output, counts as hung, and the run ends.",
    ),
)


def live_options(function: Callable[..., None]) -> Callable[..., None]:
    """The options of `OPTIONS`."""
    for option in reversed(OPTIONS):
        function = option(function)
    return function
