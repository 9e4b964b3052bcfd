"""A live source that is lost and comes back, with time, chance and the source itself in the test's hand."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from rtpsp.errors import MissingError, RtpspError, SourceError, SourceLost, UsageError
from rtpsp.stream.frame import Frame, Image
from rtpsp.stream.reconnecting import MOST_TOLD, STEADY, Reconnecting
from rtpsp.stream.source import Reconnect, Source, SourceInfo, open_source
from tests.stream.test_simulated import Time, camera

INTERVAL = 0.1
URI = "rtsp://***@door/1"


def nothing(out: Image | None) -> Image:
    raise AssertionError("nobody asked for a picture")


class Connection(Source):
    """Frames each 0.1 s of the test's time; at the end of `count` the error, or None."""

    def __init__(self, time: Time, count: int, end: Exception | None, size: tuple[int, int] = (48, 64)) -> None:
        self.info = SourceInfo("rtsp://user:word@door/1", "network", *size, fps=10.0, live=True)
        self._time, self._count, self._end = time, count, end
        self.given = self.closed = self.interrupted = 0
        self.before: Callable[[], None] = lambda: None

    def read(self) -> Frame | None:
        self.before()
        if self.given == self._count:
            if self._end is not None:
                raise self._end
            return None
        index, self.given = self.given, self.given + 1
        self._time.now += INTERVAL
        return Frame(index, index * INTERVAL, self._time.now, self.info.height, self.info.width, nothing)

    def interrupt(self) -> None:
        self.interrupted += 1

    def close(self) -> None:
        self.closed += 1


class World:
    """Opens connections in order, or fails to; waiting moves its time."""

    def __init__(self, *script: Connection | Exception | tuple[int, Exception | None], **options: object) -> None:
        self.time = Time()
        self.script = [
            item if isinstance(item, (Connection, Exception)) else Connection(self.time, *item) for item in script
        ]
        self.opened: list[float] = []
        self.waits: list[float] = []
        self.options = Reconnect(**options)  # type: ignore[arg-type]
        self.interrupts: Callable[[float], bool] = lambda seconds: False

    def open(self) -> Source:
        self.opened.append(self.time.now)
        item = self.script[len(self.opened) - 1]
        if isinstance(item, Exception):
            raise item
        return item

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.time.now += seconds
        return self.interrupts(seconds)

    def source(self, *, first: bool = True) -> Reconnecting:
        return Reconnecting(
            self.open, self.options, self.open() if first else None,
            uri=URI, clock=self.time.clock, wait=self.wait, chance=lambda: 1.0,
        )  # fmt: skip

    def connection(self, number: int) -> Connection:
        item = self.script[number]
        assert isinstance(item, Connection)
        return item


def read(source: Source, count: int) -> list[Frame]:
    frames = [source.read() for _ in range(count)]
    assert None not in frames
    return [frame for frame in frames if frame is not None]


LOST = SourceLost("door/1: connection reset", "lost")
REFUSED = SourceError("door/1: refused", "refused")


def test_a_lost_source_comes_back_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    world = World((3, LOST), REFUSED, REFUSED, (3, None))
    source = world.source()
    frames = read(source, 3)
    assert source.health.present
    frames += read(source, 3)
    assert [frame.index for frame in frames] == list(range(6))
    absent = 0.5 + 1.0 + 2.0
    at = [0, 0.1, 0.2, 0.3 + absent, 0.4 + absent, 0.5 + absent]
    assert [frame.pts for frame in frames] == pytest.approx(at), "the time line goes on in true time"
    assert [frame.captured - frames[0].captured for frame in frames] == pytest.approx(at)
    assert world.waits == pytest.approx([0.5, 1.0, 2.0])
    health = source.health
    assert (health.present, health.reconnects, health.attempt, health.next_try) == (True, 1, 0, None)
    assert health.faults == {"lost": 1, "refused": 2}
    assert (health.kind, health.reason) == ("refused", "door/1: refused")
    assert world.connection(0).closed == 1
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert told[:2] == ["door/1: connection reset; it is opened anew", "door/1: refused; it is opened anew"]
    assert len(told) == 3 and told[2].startswith(f"{URI} is back after "), "the same failure is told once"


def test_reasons_that_alternate_are_told_once_in_an_absence(caplog: pytest.LogCaptureFixture) -> None:
    silent = SourceError("door/1: no answer", "time-out")
    others = [SourceError(f"door/1: fault {number}") for number in range(2 * MOST_TOLD)]
    world = World((1, LOST), *[REFUSED, silent] * 20, *others, (1, REFUSED), (1, LOST))
    read(world.source(), 3)
    told = [message for message in caplog.messages if "opened anew" in message]
    assert len(told) == MOST_TOLD + 1 and told[:3] == [
        f"{error}; it is opened anew" for error in (LOST, REFUSED, silent)
    ]
    assert told[-1] == f"{REFUSED}; it is opened anew", "another absence is told of again"


def test_the_source_is_closed_before_the_wait_and_absent_meanwhile() -> None:
    world = World((1, LOST), REFUSED, (1, LOST))
    source = world.source()
    seen: list[tuple[bool, int, int, float | None]] = []

    def look(seconds: float) -> bool:
        health = source.health
        seen.append((health.present, world.connection(0).closed, health.attempt, health.next_try))
        return False

    world.interrupts = look
    read(source, 2)
    assert [entry[:3] for entry in seen] == [(False, 1, 0), (False, 1, 1)]
    assert [entry[3] for entry in seen] == pytest.approx([1000.6, 1001.6])


def test_an_end_that_nobody_announced_is_a_loss() -> None:
    world = World((1, None), (1, None))
    source = world.source()
    read(source, 2)
    assert source.health.faults == {"ended": 1}


def test_a_source_that_said_how_many_frames_it_has_may_end() -> None:
    with open_source("sim://street?w=160&h=120&live=1&fps=1000&frames=3&fifo=3") as source:
        assert len(list(iter(source.read, None))) == 3
        assert source.health.faults == {} and source.read() is None


def test_waits_grow_up_to_the_longest_and_lie_between_half_and_whole() -> None:
    world = World((1, LOST), *[REFUSED] * 6, (1, LOST), first=1.0, longest=10.0)
    read(world.source(), 2)
    assert world.waits == pytest.approx([1, 2, 4, 8, 10, 10, 10])
    world = World((1, LOST), REFUSED, (1, LOST))
    source = Reconnecting(
        world.open, world.options, world.open(), uri=URI, clock=world.time.clock, wait=world.wait, chance=lambda: 0.0
    )
    read(source, 2)
    assert world.waits == pytest.approx([0.25, 0.5])


def test_a_source_that_dies_at_once_is_not_hammered_and_one_that_was_steady_starts_anew() -> None:
    steady = round(STEADY / INTERVAL) + 2
    world = World((1, LOST), (1, LOST), (1, LOST), (steady, LOST), (1, LOST))
    read(world.source(), 4 + steady)
    assert world.waits == pytest.approx([0.5, 1.0, 2.0, 0.5])


def test_attempts_come_to_an_end() -> None:
    world = World((1, LOST), REFUSED, REFUSED, attempts=2)
    source = world.source()
    read(source, 1)
    with pytest.raises(SourceLost, match=r"^door/1: refused; given up after 2 tries$") as error:
        source.read()
    assert error.value.kind == "refused" and error.value.__cause__ is REFUSED
    assert source.health.attempt == 2 and not source.health.present


def test_dying_at_once_uses_attempts_up() -> None:
    world = World((1, LOST), (1, LOST), (1, LOST), attempts=2)
    source = world.source()
    read(source, 3)
    with pytest.raises(SourceLost, match="connection reset; given up after 2 tries"):
        source.read()


DENIED = SourceError("door/1: user name or password is wrong", "authentication")


@pytest.mark.parametrize("error", [DENIED, OSError("no buffer space"), MissingError("no camera"), LOST], ids=repr)
def test_once_it_was_there_whatever_goes_wrong_is_tried_again(error: Exception) -> None:
    world = World((1, LOST), error, (1, LOST))
    source = world.source()
    read(source, 2)
    assert source.health.reason == str(error)


def test_a_source_that_is_not_there_yet_is_waited_for() -> None:
    world = World(REFUSED, REFUSED, (2, LOST), at_start=True)
    source = world.source(first=False)
    assert (source.info.height, source.info.width, source.info.live) == (0, 0, True)
    assert (source.info.kind, source.info.detail) == ("network", "waiting for it")
    assert not source.health.present
    frames = read(source, 2)
    assert [(frame.index, frame.pts) for frame in frames] == [(0, 0.0), (1, pytest.approx(0.1))]
    assert (source.info.height, source.info.uri) == (48, URI)
    assert (source.health.present, source.health.reconnects) == (True, 0)
    assert len(world.waits) == 2


@pytest.mark.parametrize(
    ("error", "at_start"),
    [(DENIED, True), (SourceError("what is that?"), True), (UsageError("no"), True), (REFUSED, False)],
    ids=repr,
)
def test_what_another_try_does_not_cure_is_raised_as_long_as_it_was_never_there(
    error: RtpspError, at_start: bool
) -> None:
    world = World(error, at_start=at_start)
    with pytest.raises(type(error)) as raised:
        world.source(first=False).read()
    assert raised.value is error and world.waits == []


def test_a_codec_that_shows_with_the_first_read_is_raised_too() -> None:
    error = SourceLost("door/1: no such decoder", "codec")
    world = World((0, error))
    with pytest.raises(SourceLost, match=r"no such decoder$"):
        world.source().read()


def test_size_and_counts_follow_the_connections() -> None:
    world = World((2, LOST), (2, LOST))
    first, second = world.connection(0), Connection(world.time, 2, LOST, (96, 128))
    world.script[1] = second
    source = world.source()
    first.missed, first.health.late = 4, 2
    first.health.stamp("jump")
    read(source, 2)
    assert (source.missed, source.health.late, source.health.stamps) == (4, 2, {"jump": 1})
    second.missed, second.health.late, second.health.hardware = 1, 5, "cuda"
    second.health.stamp("jump")
    second.health.stamp("missing")
    frame = read(source, 1)[0]
    assert (frame.height, source.info.height, source.info.width, source.info.uri) == (96, 96, 128, URI)
    assert (source.missed, source.health.late, source.health.stamps) == (5, 7, {"jump": 2, "missing": 1})
    assert source.health.hardware == "cuda"


def test_time_that_ran_ahead_in_a_connection_never_falls_in_the_next() -> None:
    world = World((2, LOST), (2, LOST), first=0.01, longest=0.01)
    world.connection(0).before = lambda: setattr(world.time, "now", world.time.now - 0.09)  # stamps ten times too fast
    times = [frame.pts for frame in read(world.source(), 4)]
    assert times == sorted(set(times))
    assert times[3] - times[2] == pytest.approx(0.1)


@pytest.mark.parametrize("drift", [-0.01, 0.01])
def test_an_absence_is_as_long_as_it_was_however_far_the_senders_clock_is_off_by_then(drift: float) -> None:
    world = World((200, LOST), (1, LOST))
    world.connection(0).before = lambda: setattr(world.time, "now", world.time.now + drift)
    frames = read(world.source(), 201)
    away = frames[200].captured - frames[199].captured
    assert frames[200].pts - frames[199].pts == pytest.approx(away) and 0.5 < away < 1.0


def test_an_interrupt_ends_a_wait_at_once_and_is_no_fault() -> None:
    world = World((1, LOST), LOST)
    source = Reconnecting(world.open, Reconnect(first=600, longest=600), world.open(), uri=URI)
    read(source, 1)
    reading = threading.Thread(target=source.read, daemon=True)
    reading.start()
    source.interrupt()
    reading.join(10)
    assert not reading.is_alive() and len(world.opened) == 1


def test_an_interrupt_is_passed_on_and_what_it_breaks_is_no_fault() -> None:
    world = World((1, LOST))
    source, connection = world.source(), world.connection(0)
    read(source, 1)
    connection.before = source.interrupt
    assert source.read() is None
    assert connection.interrupted == 1
    assert source.health.faults == {} and source.health.present


def test_a_source_opened_after_the_interrupt_is_closed() -> None:
    world = World((1, LOST), (1, LOST))
    source = world.source()
    read(source, 1)
    opener = world.open

    def slow() -> Source:
        source.interrupt()
        return opener()

    source._course.open = slow
    assert source.read() is None
    assert world.connection(1).closed == 1


def test_close_lets_go_and_ends() -> None:
    world = World((5, LOST))
    source = world.source()
    read(source, 1)
    source.close()
    source.close()
    assert source.read() is None and world.connection(0).closed == 1


def test_a_successor_goes_on_and_the_one_that_hung_says_nothing_more() -> None:
    world = World((3, LOST), (3, LOST))
    source, hanging = world.source(), world.connection(0)
    hanging.missed = 2
    read(source, 2)
    heirs: list[Source | None] = []

    def hang() -> None:
        world.time.now += 30
        heirs.append(source.successor())
        heirs.append(source.successor())

    hanging.before = hang
    assert source.read() is None, "a frame that came after all is nobody's"
    assert (hanging.closed, hanging.interrupted) == (1, 1)
    heir, second = heirs
    assert isinstance(heir, Reconnecting) and second is None
    health = heir.health
    assert health is source.health
    assert (health.present, health.faults, health.kind) == (False, {"stalled": 1}, "stalled")
    frames = read(heir, 2)
    assert [frame.index for frame in frames] == [2, 3]
    assert frames[0].pts == pytest.approx(0.1 + 30 + 0.1 + 0.5 + 0.1), "the hanging read took its 0.1 s, too"
    assert (heir.missed, health.reconnects, health.present) == (2, 1, True)
    assert heir.info.uri == URI


def test_a_hanging_read_that_fails_after_all_is_no_fault_of_the_successors() -> None:
    world = World((1, LOST), (1, LOST))
    source = world.source()
    read(source, 1)
    world.connection(0).before = lambda: setattr(source, "heir", source.successor())
    assert source.read() is None
    assert source.health.faults == {"stalled": 1}
    assert world.connection(0).closed == 1


def test_the_source_that_hangs_is_interrupted_even_if_it_comes_back_that_moment() -> None:
    class ComesBack:
        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None:
            source._source = None

    world = World((3, LOST), (3, LOST))
    source = world.source()
    source._lock = ComesBack()  # type: ignore[assignment]
    assert source.successor() is not None and world.connection(0).interrupted == 1


def test_a_source_without_a_try_left_has_no_successor() -> None:
    world = World((1, LOST), (1, LOST), attempts=1)
    source = world.source()
    read(source, 2)
    assert source.successor() is None and source.health.faults == {"lost": 1}


def test_an_interrupted_source_has_no_successor() -> None:
    source = World((1, LOST)).source()
    source.interrupt()
    assert source.successor() is None


def test_a_simulated_camera_goes_on_while_it_is_away() -> None:
    first, time = camera("fps=10&die=1s&die_for=4s&die_every=30s&resize=200x160&refuse=unreachable")

    def wait(seconds: float) -> bool:
        time.now += seconds
        return False

    def anew() -> Source:
        raise AssertionError("the device is not made anew")

    source = Reconnecting(anew, Reconnect(), first, uri="sim", clock=time.clock, wait=wait, chance=lambda: 1.0)
    frames = read(source, 20)
    assert [frame.index for frame in frames] == list(range(20))
    assert [frame.pts for frame in frames[:10]] == pytest.approx([i / 10 for i in range(10)])
    back = [0.5, 1, 2, 4]  # 1.5, 2.5, 4.5 are within its absence, at 8.5 it is there
    assert source.health.faults == {"lost": 1, "unreachable": 3}
    assert frames[10].pts == pytest.approx(1 + sum(back), abs=0.11)
    assert frames[10].captured - frames[0].captured == pytest.approx(frames[10].pts, abs=1e-6)
    assert {(frame.height, frame.width) for frame in frames[10:]} == {(160, 200)}
    assert (source.info.height, source.info.width) == (160, 200)
    assert source.missed == 0, "nobody knows what it saw while it was away"


def test_a_file_that_was_waited_for_ends_and_does_not_begin_again() -> None:
    world = World(REFUSED, (3, None), (3, None), at_start=True)
    world.connection(1).info = replace(world.connection(1).info, live=False)  # of a web server, of unknown length
    source = world.source(first=False)
    assert len(read(source, 3)) == 3 and source.read() is None
    assert len(world.opened) == 2
