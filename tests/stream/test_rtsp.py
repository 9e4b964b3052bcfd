"""Network streams against real servers, which are killed, frozen and cut off while they are read.

Each picture carries the time at which it was exposed, so that its age is known whatever the stream says. The longer
forms of these, with a real engine, are ``bench/faults.py`` and ``bench/soak.py``.
"""

from __future__ import annotations

import itertools
import logging
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace

import pytest

from rtpsp.errors import SourceError
from rtpsp.sim.timecode import read_timecode
from rtpsp.stream.frame import Frame
from rtpsp.stream.source import Reconnect, Source, SourceOptions, open_source
from rtpsp.timing import now
from tests.servers.launch import Camera, Kind, Server, why_no_rtsp
from tests.servers.proxy import Proxy
from tests.servers.truth import held

CAMERA = Camera(width=320, height=240, gop=10, kilobits=500)
OPTIONS = SourceOptions(read_timeout=0.6, open_timeout=2.0, reconnect=Reconnect(first=0.05, longest=0.2))
PATIENCE = 20.0
FRAMES = 10
OUTAGE = 1.0
"""Seconds that a fault lasts at least. A reader that works off what piled up meanwhile is as much behind."""
SECRET = "Hunter2%40home"


@dataclass(frozen=True)
class Got:
    """One frame: as it came, the code in its picture, and when it was read."""

    frame: Frame
    exposed: float | None
    read: float


class Reader:
    """Reads a source in a thread of its own, as the loop does."""

    def __init__(self, source: Source) -> None:
        self.got: list[Got] = []
        self.source = source
        self.error: BaseException | None = None
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._read, name="reader", daemon=True)

    def _read(self) -> None:
        try:
            with self.source:
                while not self._enough.is_set() and (frame := self.source.read()) is not None:
                    read = now()
                    code = read_timecode(frame.to_bgr(None))
                    self.got.append(Got(frame, None if code is None else code / 1e6, read))
        except BaseException as error:
            self.error = error

    def until(self, condition: Callable[[], bool], what: str) -> None:
        limit = now() + PATIENCE
        while not condition():
            assert self._thread.is_alive(), f"the source ended while we waited for {what}: {self.error!r}"
            assert now() < limit, f"{what} did not happen: {len(self.got)} frames, {self.source.health}"
            time.sleep(0.01)

    def after(self, moment: float, count: int = FRAMES) -> list[Got]:
        """The frames that were exposed after a moment, as soon as there are so many."""

        def found() -> list[Got]:
            return [got for got in self.got if got.exposed is not None and got.exposed > moment]

        self.until(lambda: len(found()) >= count, f"{count} fresh frames")
        return found()

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self.source.interrupt()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the reader hangs"


@contextmanager
def serving(kind: Kind, camera: Camera = CAMERA) -> Iterator[Server]:
    if kind == "rtsp" and (reason := why_no_rtsp()):
        pytest.skip(reason)
    with Server(kind, camera) as server:
        yield server


def open_files() -> dict[str, str]:
    """By descriptor; one that was closed meanwhile, as the listing's own, is left out."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found[name] = os.readlink(f"/proc/self/fd/{name}")
    return found


@contextmanager
def nothing_left() -> Iterator[None]:
    """No thread and no file more than before; what asyncio and FFmpeg let go of takes a moment."""
    before = held()
    yield
    limit = now() + 5
    while (after := held()).threads > before.threads or after.files > before.files:
        assert now() < limit, f"{before} became {after}: {threading.enumerate()} {open_files()}"
        time.sleep(0.05)


@contextmanager
def killed(server: Server, proxy: Proxy) -> Iterator[None]:
    server.kill()
    proxy.refuse()
    yield
    server.start(width=352, height=288, **({"codec": "jpeg"} if server.kind == "rtsp" else {}))
    proxy.accept()


@contextmanager
def frozen(server: Server, proxy: Proxy) -> Iterator[None]:
    server.freeze()
    yield
    server.thaw()


@contextmanager
def silent(server: Server, proxy: Proxy) -> Iterator[None]:
    proxy.stall()
    yield
    proxy.resume()


@contextmanager
def broken(server: Server, proxy: Proxy) -> Iterator[None]:
    proxy.cut()
    yield


Fault = Callable[[Server, Proxy], AbstractContextManager[None]]


def ages(got: list[Got]) -> float:
    return statistics.median(item.read - item.exposed for item in got if item.exposed is not None)


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_frames_come_and_their_age_is_the_truth(transport: str) -> None:
    with serving("rtsp") as server:
        options = replace(OPTIONS, transport=transport)  # type: ignore[arg-type]
        with Reader(open_source(server.url(), options)) as reader:
            got = reader.after(0.0, 2 * FRAMES)
        source = reader.source
        assert (source.info.kind, source.info.live) == ("network", True)
        assert (source.info.height, source.info.width) == (240, 320)
        assert not any(item.exposed is None for item in reader.got), "a picture that is not whole was given"
        settled = [item.frame.captured - (item.exposed or 0) for item in got[FRAMES:]]
        assert -0.01 < statistics.median(settled) < 0.4, "captured is when the scene was seen, less what the way took"
        assert statistics.quantiles(settled, n=4)[2] - statistics.quantiles(settled, n=4)[0] < 0.05
        indices = [item.frame.index for item in reader.got]
        assert indices == sorted(set(indices))
        steps = [b.frame.pts - a.frame.pts for a, b in itertools.pairwise(got)]
        assert statistics.median(steps) == pytest.approx(1 / 30, abs=0.01)


@pytest.mark.parametrize(
    ("kind", "fault", "faults"),
    [
        ("rtsp", killed, {"refused"}),
        ("rtsp", frozen, {"time-out"}),
        ("rtsp", silent, {"time-out"}),
        ("rtsp", broken, {"ended", "lost"}),
        ("mjpeg", killed, {"refused"}),
        ("mjpeg", frozen, {"time-out"}),
    ],
    ids=["rtsp killed", "rtsp frozen", "rtsp silent", "rtsp broken", "mjpeg killed", "mjpeg frozen"],
)
def test_a_stream_comes_back_as_fresh_as_it_was(kind: Kind, fault: Fault, faults: set[str]) -> None:
    with serving(kind) as server, Proxy(server.port) as proxy:
        open_source(server.url(), OPTIONS).close()  # what is loaded once stays
        with nothing_left():
            reader = Reader(open_source(server.url(port=proxy.port), OPTIONS))
            with reader:
                before = ages(reader.after(0.0, 2 * FRAMES)[FRAMES:])
                health = reader.source.health
                with fault(server, proxy):
                    begin = now()
                    reader.until(lambda: bool(health.faults), "a fault")
                    if fault is not broken:
                        assert not health.present and health.reason
                        reader.until(lambda: now() > begin + OUTAGE, "the end of the outage")
                end = now()
                after = reader.after(end, 2 * FRAMES)[FRAMES:]
        assert health.present and health.reconnects >= 1 and set(health.faults) & faults, health
        assert fault is broken or health.downtime > OUTAGE / 4
        assert ages(after) < before + OUTAGE / 2
        assert not any(item.exposed is None for item in reader.got), "a picture that is not whole was given"
        stale = [item.frame.captured - item.exposed for item in reader.got if item.exposed is not None]
        # A server frozen between exposing and sending has one old picture under way, which looks like a fresh one.
        young = [age for age in stale[FRAMES:] if age > max(stale[:FRAMES]) + OUTAGE / 2]
        assert len(young) <= (fault is frozen), f"old pictures were told to be young: {stale}"
        frames = [item.frame for item in reader.got]
        assert all(b.index > a.index and b.pts > a.pts for a, b in itertools.pairwise(frames))
        if fault is not broken:
            assert max(b.pts - a.pts for a, b in itertools.pairwise(frames)) > OUTAGE / 2, "a gap is a gap"
        size = (288, 352) if fault is killed else (240, 320)
        assert (frames[-1].height, frames[-1].width) == (reader.source.info.height, reader.source.info.width) == size


@pytest.mark.parametrize("kind", ["rtsp", "mjpeg"])
def test_a_refusal_is_told_at_once_and_without_the_secret(
    kind: Kind, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    with serving(kind, replace(CAMERA, account=f"viewer:{SECRET.replace('%40', '@')}")) as server:
        cases = {
            server.url("viewer:Wrong2%40home"): "authentication",
            server.url(""): "authentication",
            server.url(f"viewer:{SECRET}", path="nowhere"): "not-found",
        }
        messages = []
        for uri, expected in cases.items():
            with pytest.raises(SourceError) as caught:
                open_source(uri, OPTIONS)
            assert (caught.value.kind, caught.value.exit_code) == (expected, 3)
            messages += [str(caught.value), repr(caught.value.__cause__)]
        with open_source(server.url(f"viewer:{SECRET}"), OPTIONS) as source:
            assert source.read() is not None
            messages.append(repr(source.info))
    for text in (*messages, caplog.text, *capfd.readouterr()):
        for secret in ("Hunter2", "Wrong2", "%40home", "@home"):
            assert secret not in text
