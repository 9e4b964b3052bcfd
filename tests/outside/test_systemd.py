from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rtpsp.outside.systemd import Keeper, notify, to_status, watchdog_seconds
from rtpsp.stream.snapshot import Snapshot

from .snapshots import of_run, of_source

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no sockets of files")


class Systemd:
    """The other end of $NOTIFY_SOCKET."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + path[1:] if path.startswith("@") else path)
        self._socket.setblocking(False)
        self.environ = {"NOTIFY_SOCKET": path}

    def heard(self) -> list[str]:
        found = []
        while True:
            try:
                found.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Systemd]:
    monkeypatch.chdir(tmp_path)
    other = Systemd(str(tmp_path / "notify"))
    yield other
    other.close()


def test_states_arrive_by_file_and_by_abstract_name(systemd: Systemd) -> None:
    assert notify("READY=1", systemd.environ)
    assert systemd.heard() == ["READY=1"]
    if sys.platform == "linux":
        abstract = Systemd(f"@rtpsp-test-{os.getpid()}")
        assert notify("STATUS=ü", abstract.environ) and abstract.heard() == ["STATUS=ü"]
        abstract.close()


@pytest.mark.parametrize("place", ["", "relative", "vsock:2:1", "/no/such/socket", "/" + "x" * 300])
def test_without_systemd_nothing_happens(place: str) -> None:
    assert not notify("READY=1", {"NOTIFY_SOCKET": place})
    assert not notify("READY=1", {})


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None), ({"WATCHDOG_USEC": "60000000"}, 60), ({"WATCHDOG_USEC": "x"}, None), ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "1"}, None),
    ],
)  # fmt: skip
def test_the_watchdog_is_meant_for_us_or_off(environ: dict[str, str], seconds: float | None) -> None:
    assert watchdog_seconds(environ) == seconds


def test_it_is_ready_once_the_engine_is_and_alive_while_nothing_stalls(systemd: Systemd) -> None:
    run = of_run(ready=False)
    keeper = Keeper(lambda: run, {**systemd.environ, "WATCHDOG_USEC": "60000000"})
    keeper.tell()
    assert systemd.heard() == ["WATCHDOG=1", "STATUS=the engine is not ready yet"]
    run = of_run()
    keeper.tell()
    assert systemd.heard() == ["READY=1", "WATCHDOG=1"]
    run = of_run(stalled=("infer for 31 s",))
    keeper.tell()
    assert systemd.heard() == []
    run = of_run(of_source(shown_ago=500))  # a camera that is away comes back by no new start
    keeper.tell()
    assert systemd.heard() == ["WATCHDOG=1"]
    run = of_run(stopping="SIGTERM")
    keeper.tell()
    keeper.tell()
    assert systemd.heard() == ["WATCHDOG=1", "STOPPING=1", "WATCHDOG=1"]


def test_a_watchdog_that_nobody_asked_for_hears_nothing(systemd: Systemd) -> None:
    Keeper(of_run, systemd.environ).tell()
    assert systemd.heard() == ["READY=1", "STATUS=24.5 fps, frames up to 60 ms old"]


def test_its_thread_looks_more_often_than_the_watchdog_bites_and_survives_an_error(systemd: Systemd) -> None:
    waits: list[float] = []
    asked = 0

    def snapshot() -> Snapshot:
        nonlocal asked
        asked += 1
        if asked == 2:
            raise KeyError("ours")
        return of_run(ready=asked > 2)

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        return len(waits) == 4

    keeper = Keeper(snapshot, {**systemd.environ, "WATCHDOG_USEC": "8000000"}, wait)
    with keeper:
        assert keeper._thread is not None
        keeper._thread.join(20)
    assert waits == [0.25, 0.25, 4, 4]
    heard = systemd.heard()
    assert heard.count("WATCHDOG=1") == 3 and heard.count("READY=1") == 1 and heard[-1] == "STOPPING=1"


def test_without_systemd_there_is_no_thread() -> None:
    def snapshot() -> Snapshot:
        raise AssertionError("nobody asked")

    with Keeper(snapshot, {}) as keeper:
        assert keeper._thread is None


def test_a_status_is_one_line() -> None:
    assert to_status(of_run(of_source(), of_source("b", last_age=0.5))) == (
        "49.0 fps of 2 sources, frames up to 500 ms old"
    )
    assert to_status(of_run(ready=False, stopping="SIGTERM")) == "the engine is not ready yet; stopping: SIGTERM"
    assert to_status(of_run(of_source(fps=None, last_age=None))) == "0.0 fps"
