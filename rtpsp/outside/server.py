"""``/metrics`` for Prometheus and ``/healthz`` for whoever restarts what does not work, over HTTP.

It runs in threads of its own, so that it also answers while the loop stands still: that is when its answer counts.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn
from types import TracebackType
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from rtpsp.errors import OutputError
from rtpsp.outside.address import Address, to_address
from rtpsp.outside.condition import to_report
from rtpsp.outside.metrics import to_registry
from rtpsp.stream.snapshot import Snapshot
from rtpsp.timing import now

_log = logging.getLogger(__name__)

REQUEST_SECONDS = 5.0
"""How long one request may take from its connection to its end: a client that sends a byte a second gets no longer."""
CONNECTIONS = 16
"""Most at a time; the oldest gives way, since those who ask well are gone after milliseconds."""


class Server:
    """An HTTP server that answers until it is closed.

    Attributes:
        address: Where it listens; with the port that the system chose where 0 was asked for.
    """

    def __init__(self, http: _Http, host: str) -> None:
        self._http = http
        self.address = Address(host, http.server_address[1])
        # not called rtpsp-…: those are the loop's, and a command ends hard while one of them is left
        self._thread = threading.Thread(
            target=http.serve_forever, kwargs={"poll_interval": 0.1}, name="outside-http", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening and cut what is still being asked; may be called twice."""
        if self._thread.is_alive():
            self._http.shutdown()
            self._thread.join()
        self._http.server_close()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def serve(snapshot: Callable[[], Snapshot], address: str | int) -> Server:
    """Answer ``GET /metrics`` (Prometheus' text, or OpenMetrics for a client that prefers it) and ``GET /healthz``.

    ``/healthz`` is 200 while the run does all that was asked of it and 503 otherwise, with the reasons as JSON: see
    `rtpsp.outside.condition`.

    Args:
        snapshot: `rtpsp.stream.pipeline.Pipeline.snapshot`; called for each request, from threads of the server.
        address: As `rtpsp.outside.address.to_address` reads it. Who can reach it can read it: there is no password.

    Raises:
        UsageError: The address cannot be read.
        OutputError: It cannot be listened at.
    """
    where = to_address(address)
    try:
        family, _, _, _, place = socket.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM)[0]
        http = _Http(place, family, snapshot)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise OutputError(
            f"metrics cannot be served at {where}: {reason}; give another port or host with --metrics"
        ) from error
    return Server(http, where.host)


class _Http(ThreadingMixIn, HTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 2 * CONNECTIONS  # of five, more at once wait a second for their second try
    allow_reuse_port = False  # on the port of a run that goes on we would get every second question

    def __init__(self, place: Any, family: int, snapshot: Callable[[], Snapshot]) -> None:
        self.address_family = family
        self.snapshot = snapshot
        self.registry: CollectorRegistry = to_registry(snapshot)
        self._open: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        super().__init__(place, _Handler)

    def server_bind(self) -> None:
        """Without the look-up of our own name, for which `HTTPServer` may wait for a name server."""
        if self.allow_reuse_address:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            while len(self._open) >= CONNECTIONS:
                self._cut(next(iter(self._open)))
            self._open[request] = now() + REQUEST_SECONDS
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Called a few times a second: end what takes too long."""
        with self._lock:
            for request in [request for request, end in self._open.items() if end < now()]:
                self._cut(request)

    def server_close(self) -> None:
        super().server_close()
        with self._lock:
            for request in list(self._open):
                self._cut(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing to print: somebody went away while being answered."""
        _log.debug("a request from %s failed", client_address[0], exc_info=True)

    def _cut(self, request: socket.socket) -> None:
        del self._open[request]
        try:
            request.shutdown(socket.SHUT_RDWR)  # whose thread then closes it
        except OSError:
            _log.debug("a connection was gone already")


class _Handler(BaseHTTPRequestHandler):
    server: _Http
    server_version = "rtpsp"
    sys_version = ""
    timeout = REQUEST_SECONDS
    error_message_format = "%(code)d %(message)s\n"
    error_content_type = "text/plain; charset=utf-8"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        try:
            if path == "/metrics":
                encode, kind = choose_encoder(self.headers.get("Accept") or "")
                self._answer(HTTPStatus.OK, kind, encode(self.server.registry))
            elif path == "/healthz":
                report = to_report(self.server.snapshot())
                status = HTTPStatus.SERVICE_UNAVAILABLE if report["reasons"] else HTTPStatus.OK
                self._answer(status, "application/json", json.dumps(report).encode("ascii") + b"\n")
            else:
                self._answer(HTTPStatus.NOT_FOUND, self.error_content_type, b"404: ask for /metrics or /healthz\n")
        except OSError:  # of the connection
            raise
        except Exception:
            _log.warning("%s cannot be answered", path if path.isprintable() else repr(path), exc_info=True)
            self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, self.error_content_type, b"500: see the log\n")

    do_HEAD = do_GET

    def _refuse(self) -> None:
        self._answer(HTTPStatus.METHOD_NOT_ALLOWED, self.error_content_type, b"405: GET and HEAD alone\n")

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _refuse

    def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Standard error is not for each request."""
        _log.debug("%s: %s", self.address_string(), format % args)
