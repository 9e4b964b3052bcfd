"""Whether decoding keeps up, on clocks that a test moves."""

from __future__ import annotations

from rtpsp.stream.network_lag import Lag

INTERVAL = 0.04


class Stream:
    """25 frames a second with a key frame every 50, read by somebody who decodes each in `cost` seconds."""

    def __init__(self, cost: float, elsewhere: float = 0.0, stamped: bool = True, keys: int = 50) -> None:
        self.lag = Lag(INTERVAL, stamped)
        self.cost, self.elsewhere, self.stamped, self.keys = cost, elsewhere, stamped, keys
        self.now, self.index = 0.0, 0
        self.late = 0.0
        self.left: list[int] = []
        self.nonref = 0

    def run(self, frames: int, since: float = 0.0) -> None:
        """`since` is when the network lets go of what it kept back."""
        for _ in range(frames):
            sent = self.index * INTERVAL
            asked, self.now = self.now, max(self.now, sent, since)
            self.late = self.now - sent
            stamp = sent if self.stamped else None
            self.lag.back(asked)
            if self.lag.leaves(stamp, self.index % self.keys == 0, self.now, self.now - asked):
                self.left.append(self.index)
            else:
                self.nonref += self.lag.nonref
                self.lag.seen(stamp, self.now, sent)
                self.now += self.cost
            self.index += 1
            self.lag.away(self.now)
            self.now += self.elsewhere


def test_a_decoder_that_keeps_up_leaves_out_nothing() -> None:
    stream = Stream(cost=0.9 * INTERVAL)
    stream.run(20_000)
    assert not stream.left and not stream.nonref


def test_a_decoder_that_is_too_slow_passes_on_to_a_key_frame() -> None:
    stream = Stream(cost=1.5 * INTERVAL)
    stream.run(2_000)
    assert stream.nonref and stream.left
    ends = [index + 1 for index in stream.left if index + 1 not in stream.left]
    assert all(end % stream.keys == 0 for end in ends[:-1])
    assert stream.late < 2.5  # a group of pictures more than the bound, after 80 s; it would be 40


def test_a_network_that_was_slow_is_no_reason_to_leave_anything_out() -> None:
    stream = Stream(cost=0.5 * INTERVAL)
    stream.run(100)
    stream.run(400, since=9.0)
    assert not stream.left and not stream.nonref and stream.late < INTERVAL


def test_a_reader_that_lets_frames_wait_is_no_reason_either() -> None:
    stream = Stream(cost=0.1 * INTERVAL, elsewhere=2 * INTERVAL)
    stream.run(500)
    assert stream.late > 20 and not stream.left and not stream.nonref


def test_without_time_stamps_it_tells_by_the_packets_that_are_at_hand() -> None:
    stream = Stream(cost=1.5 * INTERVAL, stamped=False, keys=1)
    stream.run(2_000)
    assert 100 < len(stream.left) < 1_500 and stream.late < 1.5
    steady = Stream(cost=0.8 * INTERVAL, stamped=False, keys=1)
    steady.run(2_000)
    assert not steady.left
