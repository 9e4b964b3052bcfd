"""A recipe: what it refuses, and that it comes back from JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rtpsp.errors import InputError, UsageError
from rtpsp.model.train_options import TrainOptions
from rtpsp.train_job import TrainJob
from tests.shapes import spec


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"epochs": 0}, "epochs is 0, expected at least 1"),
        ({"batch": 1}, "batch is 1, expected at least 2"),
        ({"seed": -1}, "seed is -1"),
        ({"validate_every": 0}, "validate_every is 0"),
        ({"crop": (0, 9)}, "crop is"),
        ({"lr": float("nan")}, "lr is nan, expected 0 to 100"),
        ({"ema": 1.0}, r"ema is 1\.0, expected 0 to 0\.99999"),
        ({"distil": 1.5}, "distil is 1.5"),
        ({"temperature": 0.0}, "temperature is"),
        ({"warmup": 0.9}, r"warmup is 0\.9, expected 0 to 0\.5"),
        ({"scale": (2.0, 0.5)}, r"scale is 2 to 0\.5, expected two factors in order"),
        ({"scale": (0.5, float("inf"))}, "scale is"),
        ({"teacher_scales": ()}, "teacher_scales"),
        ({"teacher_scales": (0.0,)}, "teacher_scales"),
        ({"balance": "mean"}, "balance is 'mean', expected one of none, sqrt, median"),
        ({"precision": "fp16"}, "precision is 'fp16'"),
    ],
)
def test_refuses_what_makes_no_sense(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        TrainOptions(**options)
    assert "\n" not in str(caught.value)


JOB = TrainJob(
    "data", spec(), "a", None, (("sim://street", 0.1),), ("more",), "init.pth", ("t.pth",),
    TrainOptions(crop=(8, 9), scale=(1, 2), teacher_scales=(0.5, 1), balance="median", seed=7),
)  # fmt: skip


def test_a_job_comes_back_from_json() -> None:
    assert TrainJob.from_dict(json.loads(json.dumps(JOB.to_dict()))) == JOB


@pytest.mark.parametrize(
    "change",
    [
        {"version": 9}, {"spec": {}}, {"spec": 3}, {"mix": [["a"]]}, {"mix": [["a", 0.9]]}, {"options": {"lr": -1}},
        {"options": {"speed": 1}}, {"teachers": None}, {"surplus": 1}, {"options": {"distil": 0.0}},
    ],
)  # fmt: skip
def test_a_damaged_one_gets_one_line(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"recipe.*train again") as caught:
        TrainJob.from_dict({**JOB.to_dict(), **change})
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError):
        TrainJob.from_dict({name: value for name, value in JOB.to_dict().items() if name != "spec"})


def test_a_teacher_without_a_share_is_a_contradiction() -> None:
    with pytest.raises(UsageError, match="share of the loss is 0"):
        TrainJob("data", spec(), teachers=("t.pth",), options=TrainOptions(distil=0))
