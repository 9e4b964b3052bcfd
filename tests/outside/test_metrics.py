from __future__ import annotations

import re
import sys

import pytest
from prometheus_client import generate_latest
from prometheus_client.exposition import choose_encoder
from prometheus_client.parser import text_string_to_metric_families

from rtpsp.outside.metrics import to_registry
from rtpsp.stream.health import Health
from rtpsp.stream.snapshot import Snapshot
from rtpsp.timing import BOUNDS, Series, now

from .snapshots import of_run, of_source

CAM = "rtsp://***@cam/1"


def samples(snapshot: Snapshot) -> dict[tuple[str, ...], float]:
    """What Prometheus reads: name and label values, in the labels' order by name, to value."""
    text = generate_latest(to_registry(lambda: snapshot)).decode()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_count_of_a_source_is_there() -> None:
    health = Health(reconnects=4, downtime=12.5, late=7)
    health.fault("refused", "a")
    health.fault("refused", "a")
    health.fault("time-out", "b")
    health.stamp("backwards")
    read = samples(of_run(of_source(health=health, shown_ago=5.0)))
    expected = {
        ("rtpsp_frames_received_total", CAM): 100, ("rtpsp_frames_shown_total", CAM): 90,
        ("rtpsp_frames_missed_total", CAM): 2, ("rtpsp_frames_late_total", CAM): 7,
        ("rtpsp_frames_dropped_total", CAM, "infer"): 8, ("rtpsp_frames_dropped_total", CAM, "render"): 1,
        ("rtpsp_source_reconnects_total", CAM): 4, ("rtpsp_source_downtime_seconds_total", CAM): 12.5,
        ("rtpsp_source_faults_total", "refused", CAM): 2, ("rtpsp_source_faults_total", "time-out", CAM): 1,
        ("rtpsp_source_stamps_total", "backwards", CAM): 1, ("rtpsp_fps", CAM): 24.5,
        ("rtpsp_last_age_seconds", CAM): 0.06, ("rtpsp_source_present", CAM): 1, ("rtpsp_source_ended", CAM): 0,
        ("rtpsp_sink_dropped_total", "cam.mp4"): 3, ("rtpsp_outputs_failed",): 0, ("rtpsp_stages_stalled",): 0,
        ("rtpsp_ready",): 1,
    }  # fmt: skip
    assert {key: read.get(key) for key in expected} == expected
    assert read[("rtpsp_seconds_since_frame", CAM)] == pytest.approx(5, abs=0.5)
    assert any(key[0] == "rtpsp_build_info" and value == 1 for key, value in read.items())


def test_time_without_a_source_grows_while_it_lasts() -> None:
    health = Health(present=False, since=now() - 20, downtime=10)
    read = samples(of_run(of_source(health=health)))
    assert read[("rtpsp_source_downtime_seconds_total", CAM)] == pytest.approx(30, abs=0.5)
    assert read[("rtpsp_source_present", CAM)] == 0


def test_what_is_not_known_yet_is_left_out() -> None:
    read = samples(of_run(of_source(fps=None, last_age=None, shown_ago=None, age=Series())))
    assert not [key for key in read if key[0] in ("rtpsp_fps", "rtpsp_last_age_seconds")]
    assert read[("rtpsp_age_seconds_count", CAM)] == 0


def test_a_source_that_never_came_is_silent_too() -> None:
    read = samples(of_run(of_source(shown_ago=None, health=Health(present=False, since=now() - 40))))
    assert read[("rtpsp_seconds_since_frame", CAM)] == pytest.approx(40, abs=0.5), "which an alert looks at"


def test_histograms_are_cumulative_and_end_with_all() -> None:
    read = samples(of_run())
    for bound in BOUNDS:
        assert read[("rtpsp_age_seconds_bucket", str(bound), CAM)] == sum(age <= bound for age in (0.03, 0.06, 0.06))
    assert read[("rtpsp_age_seconds_bucket", "+Inf", CAM)] == read[("rtpsp_age_seconds_count", CAM)] == 3
    assert read[("rtpsp_age_seconds_sum", CAM)] == pytest.approx(0.15)
    assert read[("rtpsp_stage_seconds_count", "infer")] == 1


def test_two_sources_of_one_uri_do_not_fall_together() -> None:
    """Prometheus refuses all of a scrape in which two samples are called alike."""
    text = generate_latest(to_registry(lambda: of_run(of_source(), of_source('a"\\\nb'), of_source()))).decode()
    lines = [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")]
    assert len(lines) == len(set(lines))
    assert f'rtpsp_fps{{source="{CAM} (2)"}} 24.5' in text and r'rtpsp_fps{source="a\"\\\nb"} 24.5' in text


def test_openmetrics_takes_the_same_names() -> None:
    encode, _ = choose_encoder("application/openmetrics-text; version=1.0.0")
    text = encode(to_registry(of_run)).decode()
    assert text.endswith("# EOF\n") and f'rtpsp_frames_received_total{{source="{CAM}"}} 100' in text


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
def test_the_process_tells_its_memory_and_files() -> None:
    read = samples(of_run())
    assert read[("process_resident_memory_bytes",)] > 1e6 and read[("process_open_fds",)] > 2


def test_names_keep_to_prometheus_conventions() -> None:
    for family in to_registry(of_run).collect():
        assert re.fullmatch(r"(rtpsp|process)_[a-z_]+", family.name) and family.documentation.endswith((".", "1"))
