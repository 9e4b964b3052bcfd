"""``rtpsp run --device-io``, and what a GPU that is lost in mid-run looks like, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from click.shell_completion import ShellComplete

from rtpsp.arrays import Image
from rtpsp.cli._verbs import group
from rtpsp.cli.completion import COMPLETE
from rtpsp.engine.base import Answer, EngineOptions
from rtpsp.engine.fake import FakeEngine
from rtpsp.errors import MissingError
from tests.cli.conftest import Call

SOURCE = ("run", "--source", "sim://street?w=160&h=120&frames=12", "--no-show")


class Device(FakeEngine):
    """Plays a GPU; it is lost at one batch."""

    def __init__(self, options: EngineOptions | None, able: bool, lost_at: int) -> None:
        def scores(frames: Image) -> np.ndarray:
            return np.zeros((1, 11, 45, 60), np.float32)

        super().__init__(scores=scores, cells=(45, 60), options=options, can_device_io=able)
        self.frames, self.lost_at = 0, lost_at

    def _finish(self, work: tuple[float, Answer]) -> Answer:
        self.frames += 1
        if self.frames == self.lost_at:
            raise MissingError(
                "cuEventSynchronize: CUDA_ERROR_LAUNCH_FAILED (unspecified launch failure); run it again"
            )
        return super()._finish(work)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, int]:
    """What the next engine is like."""
    how: dict[str, int] = {}

    def load(path: Path, options: EngineOptions) -> Device:
        return Device(options, bool(how.get("able", True)), how.get("lost_at", -1))

    monkeypatch.setattr("rtpsp.cli.working.to_engine_path", lambda *given, **more: tmp_path / "x.engine")
    monkeypatch.setattr("rtpsp.live.load_engine", load)
    return how


@pytest.mark.parametrize(
    ("words", "device_io", "mask_size"),
    [
        ((), True, "frame"),
        (("--device-io", "on"), True, "frame"),
        (("--device-io", "off"), False, "model"),
        (("--device-io", "off", "--mask-size", "frame"), False, "frame"),
        (("--mask-size", "frame"), True, "frame"),
    ],
)
def test_the_report_tells_what_the_device_did(
    words: tuple[str, ...],
    device_io: bool,
    mask_size: str,
    rtpsp: Call,
    engine: dict[str, int],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    outcome = rtpsp(*SOURCE, *words, "--report", tmp_path / "x.json")
    assert outcome.code == 0, outcome.err
    told = json.loads((tmp_path / "x.json").read_text())["engine"]
    assert (told["device_io"], told["mask_size"]) == (device_io, mask_size)
    assert caplog.messages == [], "nothing to say of what was asked for"


def test_masks_of_the_models_size_turn_it_off_and_say_so(
    rtpsp: Call, engine: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    assert rtpsp(*SOURCE, "--mask-size", "model").code == 0
    assert ["device IO is off: " in message for message in caplog.messages] == [True]
    caplog.clear()
    engine["able"] = False
    assert rtpsp(*SOURCE, "--mask-size", "model").code == 0
    assert caplog.messages == [], "there was none to turn off"


def test_a_config_file_can_ask_for_it(rtpsp: Call, engine: dict[str, int], tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text('[run]\ndevice-io = "off"\n')
    outcome = rtpsp(*SOURCE, "--config", tmp_path / "x.toml", "--report", tmp_path / "x.json")
    assert outcome.code == 0, outcome.err
    assert json.loads((tmp_path / "x.json").read_text())["engine"]["device_io"] is False


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--min-confidence", "0.5"), "device IO gives no confidence"),
        (("--mask-size", "model"), "device IO makes class maps of the frame's size"),
        ((), "backend fake has none"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    words: tuple[str, ...], says: str, rtpsp: Call, engine: dict[str, int]
) -> None:
    engine["able"] = False
    outcome = rtpsp(*SOURCE, "--device-io", "on", *words)
    assert outcome.code == 2
    last = outcome.err.splitlines()[-1]
    assert last.startswith("rtpsp: ") and says in last


def test_its_choices_complete() -> None:
    items = ShellComplete(group, {}, "rtpsp", COMPLETE).get_completions(["run", "--device-io"], "")
    assert [item.value for item in items] == ["auto", "on", "off"]


@pytest.mark.parametrize("choice", ["auto", "off"])
def test_a_gpu_that_is_lost_ends_the_run_with_one_line_and_a_recording_that_plays(
    choice: str, rtpsp: Call, engine: dict[str, int], tmp_path: Path
) -> None:
    engine["lost_at"] = (1 if choice == "off" else 2) + 8  # those before are the warm-up
    outputs = ("--output", tmp_path / "x.mp4", "--stats", tmp_path / "x.jsonl", "--report", tmp_path / "x.json")
    outcome = rtpsp(*SOURCE, "--device-io", choice, *outputs)
    assert outcome.code == 4
    assert [line for line in outcome.err.splitlines() if "CUDA" in line] == [
        "rtpsp: cuEventSynchronize: CUDA_ERROR_LAUNCH_FAILED (unspecified launch failure); run it again"
    ]
    assert "Traceback" not in outcome.err
    report = json.loads((tmp_path / "x.json").read_text())
    assert report["ended"].startswith("error: cuEventSynchronize") and report["frames"]["shown"] == 7
    with av.open(str(tmp_path / "x.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 7
    assert len((tmp_path / "x.jsonl").read_text().splitlines()) == 7
