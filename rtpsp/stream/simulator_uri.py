"""What a simulator URI may say.

    sim://street?w=960&h=720&fps=30&frames=300&seed=1&live=1&stall=5s&drop=2%&jitter=40ms

Parameters of the picture:

    w, h        size in pixels; 640 and 480
    fps         frames a second; 30
    frames      how many there are; 300, or endless with live=1
    seed        which street, and which faults; 1
    timecode    1 draws into each picture when it was really exposed, in microseconds: of `time.monotonic` with live=1,
                of the file's own time without

With live=1 it is a camera. Its faults:

    jitter      a random delay of delivery up to this time, e.g. 40ms; the order is kept
    burst       frames are held back and delivered so many at a time, as some networks do
    drop        share of the frames that the device loses, e.g. 2%; they count in `missed`
    stall       once, nothing is delivered for this time, e.g. 5s; what the fifo then holds comes late
    stall_at    when the stall begins, e.g. 2s; a third of the run, or 5 s where it is endless
    fifo        how many delivered frames wait for a reader; 1. When full, the newest overwrites the oldest, which
                counts in `missed`: 1 is a camera's ring, a large number a network's backlog: all comes, but late
    slow        it delivers so many frames a second and promises fps of them, as cameras do in the dark
    die         when the device goes away, e.g. 5s: reads fail at once, and so does opening it
    die_for     how long it is away; 3s
    die_every   it goes away again so long after it did, e.g. 20s
    refuse      why opening it fails meanwhile, a `rtpsp.stream.health.FaultKind`; refused
    resize      size in pixels after it came back for the first time, e.g. 320x240
    hang        when a read does not come back, once, as in a driver that hangs, e.g. 5s
    hang_for    how long that lasts; 1 h. Nothing ends it, neither time-out nor interrupt
    dup         share of the frames with the time stamp of the one before
    back        share of the frames with a time stamp from before the one before
    unstamped   share of the frames without a time stamp
    jump        what the sender's clock leaps by, once: 1h, or -1h back
    jump_at     when it leaps, e.g. 2s; as stall_at if it is not said

A device goes on while it is not read, or away: who opens it again finds it where time says.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, get_args
from urllib.parse import parse_qsl, urlsplit

from rtpsp.errors import SourceError
from rtpsp.stream.health import FaultKind
from rtpsp.stream.names import shown

_N = TypeVar("_N", int, float)


@dataclass(frozen=True)
class Simulation:
    """The parameters of a simulator URI, as the module explains them; times in seconds, shares from 0 to 1.

    `resize` is (width, height), as `w` and `h` are.
    """

    w: int = 640
    h: int = 480
    fps: float = 30.0
    frames: int | None = None
    seed: int = 1
    live: bool = False
    timecode: bool = False
    jitter: float = 0.0
    burst: int = 1
    drop: float = 0.0
    stall: float = 0.0
    stall_at: float | None = None
    fifo: int = 1
    slow: float | None = None
    die: float | None = None
    die_for: float = 3.0
    die_every: float | None = None
    refuse: str = "refused"
    resize: tuple[int, int] | None = None
    hang: float | None = None
    hang_for: float = 3600.0
    dup: float = 0.0
    back: float = 0.0
    unstamped: float = 0.0
    jump: float = 0.0
    jump_at: float | None = None


def parse_simulation(uri: str) -> Simulation:
    """Read the parameters of a simulator URI.

    Raises:
        SourceError: An unknown scene, or a parameter that is unknown, given twice, malformed or without effect.
    """
    shown_uri = shown(uri)
    try:
        parts = urlsplit(uri)
        given = parse_qsl(parts.query, keep_blank_values=True)
    except ValueError as error:
        raise SourceError(f"{shown_uri} is not a URI: expected sim://street?w=640&h=480") from error
    if parts.netloc != "street":
        raise SourceError(f"{shown_uri}: no scene {shown(repr(parts.netloc))}: the simulator has one, sim://street")
    rest = parts.path.strip("/") or parts.fragment
    if rest:
        raise SourceError(f"{shown_uri}: {shown(repr(rest))} has no meaning: expected sim://street?w=640&h=480")
    values: dict[str, Any] = {}
    for name, text in given:
        told = f"{shown(name)}={shown(text)}"
        if name not in _PARAMETERS:
            near = difflib.get_close_matches(name, _PARAMETERS, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]}? " if near else ""
            raise SourceError(f"{shown_uri}: no parameter {told}: {hint}there are {', '.join(_PARAMETERS)}")
        if name in values:
            raise SourceError(f"{shown_uri}: {name} is given twice: leave one of them out")
        expected, read = _PARAMETERS[name]
        try:
            values[name] = read(text)
        except ValueError:
            raise SourceError(f"{shown_uri}: {told} is not {expected}") from None
    faults = [name for name in _FAULTS if name in values]
    if faults and not values.get("live"):
        raise SourceError(f"{shown_uri}: {faults[0]} is a camera's fault and needs live=1")
    for name, needed in _NEEDS.items():
        if name in values and needed not in values:
            raise SourceError(f"{shown_uri}: {name} has no effect without {needed}: give both")
    simulation = Simulation(**values)
    if simulation.die_every is not None and simulation.die_every <= simulation.die_for:
        raise SourceError(
            f"{shown_uri}: it is away for {simulation.die_for:g} s every {simulation.die_every:g} s: "
            "give a longer die_every or a shorter die_for"
        )
    return simulation


def _share(text: str) -> float:
    return _within(float(text[:-1]) / 100 if text.endswith("%") else float(text), 0.0, 0.99)


def _duration(text: str) -> float:
    return _within(_time(text), 0.0, 1e6)


def _time(text: str) -> float:
    for unit, scale in (("ms", 1e-3), ("s", 1.0), ("h", 3600.0)):
        if text.endswith(unit):
            return _within(float(text[: -len(unit)]) * scale, -1e6, 1e6)
    raise ValueError


def _size(text: str) -> tuple[int, int]:
    width, height = text.split("x")
    return _within(int(width), 1, 8192), _within(int(height), 1, 8192)


def _kind(text: str) -> str:
    if text not in get_args(FaultKind):
        raise ValueError
    return text


def _within(value: _N, lowest: float, highest: float) -> _N:
    if not lowest <= value <= highest:  # also for a NaN
        raise ValueError
    return value


_FLAG = ("0 or 1", lambda text: bool(("0", "1").index(text)))
_PIXELS = ("a number of pixels from 1 to 8192", lambda text: _within(int(text), 1, 8192))
_TIME = ("a time such as 5s or 40ms", _duration)
_COUNT = ("a number from 1 on", lambda text: _within(int(text), 1, 10**9))
_RATE = ("a rate from 0.1 to 1000", lambda text: _within(float(text), 0.1, 1000))
_SHARE = ("a share of 99% at most, such as 2% or 0.02", _share)
_PARAMETERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "w": _PIXELS,
    "h": _PIXELS,
    "fps": _RATE,
    "frames": _COUNT,
    "seed": ("a number from 0 on", lambda text: _within(int(text), 0, 2**32 - 1)),
    "live": _FLAG,
    "timecode": _FLAG,
    "jitter": _TIME,
    "burst": _COUNT,
    "drop": _SHARE,
    "stall": _TIME,
    "stall_at": _TIME,
    "fifo": _COUNT,
    "slow": _RATE,
    "die": _TIME,
    "die_for": _TIME,
    "die_every": _TIME,
    "refuse": (f"one of {', '.join(get_args(FaultKind))}", _kind),
    "resize": ("a size in pixels such as 320x240 (width x height)", _size),
    "hang": _TIME,
    "hang_for": _TIME,
    "dup": _SHARE,
    "back": _SHARE,
    "unstamped": _SHARE,
    "jump": ("a time such as 1h or -1h", _time),
    "jump_at": _TIME,
}
_PICTURE = ("w", "h", "fps", "frames", "seed", "live", "timecode")
_FAULTS = tuple(name for name in _PARAMETERS if name not in _PICTURE)
_NEEDS = {
    "die_for": "die", "die_every": "die", "refuse": "die", "resize": "die", "hang_for": "hang", "jump_at": "jump",
}  # fmt: skip
"""What has an effect only beside another."""
