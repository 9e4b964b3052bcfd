from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse

import pytest

from rtpsp.errors import OutputError
from rtpsp.outside import server as module
from rtpsp.outside.server import Server, serve
from rtpsp.stream.snapshot import Snapshot

from .snapshots import of_run, of_source


def ask(server: Server, path: str, method: str = "GET", **headers: str) -> tuple[HTTPResponse, bytes]:
    connection = HTTPConnection(*server.address, timeout=20)
    with contextlib.closing(connection):
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response, response.read()


@pytest.fixture
def server() -> Iterator[Server]:
    with serve(of_run, 0) as server:
        yield server


def test_metrics_are_prometheus_text(server: Server) -> None:
    response, body = ask(server, "/metrics?x=1")
    assert response.status == 200 and (response.getheader("Content-Type") or "").startswith("text/plain; version=0.0.4")
    assert b'rtpsp_frames_received_total{source="rtsp://***@cam/1"} 100.0\n' in body
    response, body = ask(server, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert (response.getheader("Content-Type") or "").startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_health_is_a_status_and_its_reasons(server: Server) -> None:
    response, body = ask(server, "/healthz")
    assert (response.status, json.loads(body)["status"]) == (200, "ok")
    with serve(lambda: of_run(ready=False, stalled=("infer for 31 s",)), ":0") as other:
        response, body = ask(other, "/healthz")
    assert response.status == 503
    assert json.loads(body)["reasons"] == ["the engine is not ready yet", "stalled: infer for 31 s"]


def test_head_has_no_body_and_other_methods_and_paths_are_refused(server: Server) -> None:
    for path in ("/metrics", "/healthz"):
        response, body = ask(server, path, "HEAD")
        assert (response.status, body) == (200, b"") and int(response.getheader("Content-Length") or 0) > 100
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        response, _ = ask(server, "/metrics", method)
        assert (response.status, response.getheader("Allow")) == (405, "GET, HEAD")
    for path in ("/", "/metrics/", "/../etc/passwd", "/metrics/../healthz", "/%68ealthz"):
        assert ask(server, path)[0].status == 404
    assert "Python" not in (ask(server, "/")[0].getheader("Server") or "")


@pytest.mark.parametrize(
    "line", [b"\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x00\xff\r\n\r\n", b"GET /" + b"x" * 70000]
)
def test_nonsense_ends_its_own_connection_alone(server: Server, line: bytes) -> None:
    with socket.create_connection(server.address, timeout=20) as client:
        client.sendall(line + b" HTTP/1.0\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            assert b"<html" not in client.recv(1 << 16).lower()
    assert ask(server, "/healthz")[0].status == 200


def test_clients_that_say_nothing_block_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECTIONS", 4)
    with serve(of_run, 0) as server, contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(server.address, timeout=20)) for _ in range(9)]
        assert ask(server, "/healthz")[0].status == 200
        assert silent[0].recv(1) == b""  # the oldest had to give way


def test_a_client_that_dawdles_is_cut_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REQUEST_SECONDS", 0.0)
    with serve(of_run, 0) as server, socket.create_connection(server.address, timeout=20) as client:
        client.sendall(b"GET /met")
        assert client.recv(1) == b""


def test_it_answers_while_the_run_stands_still_and_is_gone_when_closed(server: Server) -> None:
    """Each request has a thread of its own: one that is stuck keeps no other."""
    stuck, go = threading.Event(), threading.Event()

    def snapshot() -> Snapshot:
        if not stuck.is_set():
            stuck.set()
            assert go.wait(20)
        return of_run()

    with serve(snapshot, 0) as other:
        first = threading.Thread(target=ask, args=(other, "/metrics"), daemon=True)
        first.start()
        assert stuck.wait(20)
        assert ask(other, "/healthz")[0].status == 200
        go.set()
        first.join(20)
    other.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(other.address, timeout=20)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("rtpsp-")]


def test_a_snapshot_that_fails_is_an_answer_too(caplog: pytest.LogCaptureFixture) -> None:
    def snapshot() -> Snapshot:
        raise KeyError("ours")

    with serve(snapshot, 0) as server, caplog.at_level(logging.WARNING):
        assert [ask(server, path)[0].status for path in ("/metrics", "/healthz", "/")] == [500, 500, 404]
    assert "KeyError" in caplog.text


def test_a_port_that_is_taken_is_one_line(server: Server) -> None:
    with pytest.raises(OutputError, match=r"cannot be served at 127.0.0.1:\d+: Address already in use; give another"):
        serve(of_run, server.address.port)
    with pytest.raises(OutputError, match=r"served at no\.such\.host\.invalid:1: .*; give another port or host"):
        serve(of_run, "no.such.host.invalid:1")
    with pytest.raises(OutputError, match="give another"):
        serve(of_run, f"{'x' * 300}:1")


def test_a_loopback_of_ipv6_is_served() -> None:
    try:
        with serve(lambda: of_run(of_source(shown_ago=60)), "[::1]:0") as server:
            assert ask(server, "/healthz")[0].status == 503
            assert str(server.address) == f"[::1]:{server.address.port}"
    except OutputError as error:
        pytest.skip(f"no IPv6 here: {error}")
