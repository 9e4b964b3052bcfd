"""A run that is asked from outside while it goes on."""

from __future__ import annotations

import json
from http.client import HTTPConnection

from prometheus_client.parser import text_string_to_metric_families

from rtpsp.engine.fake import FakeEngine
from rtpsp.live import RunOptions, open_pipeline
from rtpsp.outside.server import Server, serve
from rtpsp.stream.frame import Rendered
from rtpsp.stream.sink import Sink


class Asks(Sink):
    """Asks as a scraper would, while the loop waits for it: the server has to answer by itself."""

    def __init__(self) -> None:
        self.server: Server | None = None
        self.answers: dict[str, tuple[int, str]] = {}
        self._taken = 0

    def write(self, item: Rendered) -> None:
        self._taken += 1
        if self._taken == 4:
            assert self.server is not None
            self.answers = {path: ask(self.server, path) for path in ("/metrics", "/healthz")}


def ask(server: Server, path: str) -> tuple[int, str]:
    connection = HTTPConnection(*server.address, timeout=20)
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response.status, body


def test_a_run_tells_of_itself_while_it_goes_on() -> None:
    sink = Asks()
    sources = ["sim://street?w=160&h=120&frames=6", "sim://street?w=160&h=120&frames=6"]
    pipeline = open_pipeline(sources, FakeEngine(), [sink], RunOptions(policy="every"))
    with serve(pipeline.snapshot, 0) as server:
        sink.server = server
        pipeline.run()
        _, after = ask(server, "/metrics")
    status, health = sink.answers["/healthz"]
    report = json.loads(health)
    assert (status, report["reasons"]) == (200, [])
    names = [source["source"] for source in report["sources"]]
    assert len(set(names)) == 2
    status, during = sink.answers["/metrics"]
    assert status == 200
    read = {
        (sample.name, sample.labels.get("source")): sample.value
        for family in text_string_to_metric_families(during)
        for sample in family.samples
    }
    assert sum(read[("rtpsp_frames_shown_total", name)] for name in names) == 3  # the fourth is on its way
    assert sum(read[("rtpsp_frames_received_total", name)] for name in names) >= 4
    assert read[("rtpsp_ready", None)] == 1
    shown = [line for line in after.splitlines() if line.startswith("rtpsp_frames_shown_total")]
    assert [line.rpartition(" ")[2] for line in shown] == ["6.0", "6.0"]
