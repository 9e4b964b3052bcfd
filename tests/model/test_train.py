"""A training step by step: rates, groups, averages, seeds, and what it never does."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rtpsp import machine
from rtpsp.errors import InputError, MissingError, UsageError
from rtpsp.model import hardware, train
from rtpsp.model.batches import Batch
from rtpsp.model.pspnet import build
from rtpsp.model.teachers import Teachers
from rtpsp.model.train import Trainer
from rtpsp.model.train_options import TrainOptions
from rtpsp.model.train_records import EpochRecord, Moment, SetScore, Stopped, is_best
from tests.shapes import SHAPES, Drawn, draw, narrowed, spec

FAST: dict[str, Any] = {"epochs": 2, "batch": 2, "precision": "fp32", "warmup": 0.0, "ema": 0.9}


def trainer(images: int = 3, teachers: Teachers | None = None, pixels: Any = None, **options: Any) -> Trainer:
    chosen = TrainOptions(**{**FAST, **options})
    torch.manual_seed(chosen.seed)
    model = build(narrowed(), len(SHAPES))
    return Trainer(model, spec(), Drawn(images), images, chosen, teachers=teachers, pixels=pixels)


def batch(*seeds: int, void: bool = False) -> Batch:
    shapes = [draw(seed) for seed in seeds]
    truth = np.stack([shape.truth for shape in shapes]).astype(np.int64)
    truth[truth == 255] = -100
    if void:
        truth[:] = -100
    return Batch(torch.from_numpy(np.stack([shape.image for shape in shapes])), torch.from_numpy(truth))


def run(one: Trainer, stopped: Callable[[], bool] = lambda: False) -> dict[str, Tensor]:
    one.run(None, lambda: None, lambda moment: None, stopped)
    return one.weights_now()


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def test_the_seed_decides_and_the_number_of_loaders_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(trainer())
    monkeypatch.setattr(train, "LOADERS", 5)
    assert equal(run(trainer()), first)
    other = trainer(seed=2)
    torch.manual_seed(1)
    other.model.load_state_dict(build(narrowed(), len(SHAPES)).state_dict())
    assert not equal(run(other), first), "with the same first weights, other cuts"


def test_the_rate_rises_and_falls() -> None:
    one = trainer(images=8, epochs=25, warmup=0.1, lr=0.5)
    assert one.steps == 100
    rates = []
    for one.step in range(100):
        rates.append(one.rate())
    expected = [0.5 * (1 - step / 100) ** 0.9 * min(1, (step + 1) / 10) for step in range(100)]
    assert rates == pytest.approx(expected)
    assert rates[0] == pytest.approx(0.05) and 0 < rates[-1] < 0.01


def test_heads_learn_faster_and_only_kernels_decay() -> None:
    one = trainer(head_lr=7.0, weight_decay=0.01, lr=0.5)
    one.learn(batch(0, 1))
    names = {id(value): name for name, value in one.model.named_parameters()}
    seen = set()
    for group in one.optimiser.param_groups:
        for value in group["params"]:
            name = names[id(value)]
            seen.add(name)
            backbone, kernel = name.startswith("backbone."), value.ndim == 4
            assert group["lr"] == pytest.approx(0.5 if backbone else 3.5), name
            assert group["weight_decay"] == (0.01 if kernel else 0), name
    assert seen == set(names.values()), "nothing is forgotten"


@pytest.mark.parametrize("decay", [0.0, 0.15, 0.9])
def test_the_average_follows_its_formula_statistics_included(decay: float) -> None:
    one = trainer(ema=decay)
    kept: dict[str, Tensor] = {}
    for step in range(3):
        one.learn(batch(step, step + 1))
        now = {name: value.double() for name, value in one.model.state_dict().items()}
        share = min(decay, (1 + step) / (10 + step))
        kept = {name: value if not step else share * kept[name] + (1 - share) * value for name, value in now.items()}
    found = one.weights_now()
    for name, value in kept.items():
        if name.endswith("num_batches_tracked"):
            assert int(found[name]) == 3
        else:
            torch.testing.assert_close(found[name].double(), value, rtol=1e-5, atol=1e-7)
    if not decay:
        assert equal(found, dict(one.model.state_dict()))


def test_a_batch_of_void_poisons_nothing() -> None:
    one = trainer(pixels=np.array([5, 0, 90]))
    loss, label = one.learn(batch(0, 1, void=True))
    assert loss == label == 0
    assert all(bool(torch.isfinite(value).all()) for value in one.weights_now().values())
    assert math.isfinite(one.learn(batch(0, 1))[0]) and one.step == 2


class Certain(Teachers):
    """Says red everywhere."""

    def __init__(self) -> None:
        super().__init__([], torch.device("cpu"))

    def probabilities(self, frames: Tensor, temperature: float) -> Tensor:
        answer = torch.zeros(len(frames), 3, *frames.shape[1:3])
        answer[:, 0] = 1
        return answer


def test_with_all_weight_on_the_teacher_labels_do_not_matter() -> None:
    ends = []
    for distil in (1.0, 0.5):
        for given in (batch(0, 1), batch(0, 1)._replace(truth=torch.full((2, 64, 96), 2))):
            one = trainer(teachers=Certain(), distil=distil)
            one.learn(given)
            ends.append(one.weights_now())
    assert equal(ends[0], ends[1]) and not equal(ends[2], ends[3])


def test_a_loss_that_is_no_number_ends_it_before_the_weights_are_lost() -> None:
    one = trainer()
    one.learn(batch(0, 1))
    with torch.no_grad():
        one.model.head.classifier.weight.fill_(math.inf)  # as rates that are too large do sooner or later
    with pytest.raises(InputError, match=r"the loss is (nan|inf) at step 2.*smaller --lr than 0\.01"):
        one.learn(batch(0, 1))
    assert one.step == 1 and all(bool(torch.isfinite(value).all()) for value in one.weights_now().values())


def test_no_step_keeps_a_graph_alive() -> None:
    one = trainer()
    for _ in range(2):
        one.learn(batch(0, 1))
    gc.collect()
    assert not [value for value in gc.get_objects() if type(value) is Tensor and value.grad_fn is not None]


def test_where_it_is_told_and_when_it_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "SAVE_EVERY_S", -1.0)
    told: list[Moment | str] = []
    one = trainer(validate_every=2)
    scores = {"val": SetScore(50.0, 60.0, (1.0, None, 2.0))}
    one.run(lambda infer: dict(scores), lambda: told.append("save"), told.append, lambda: False)
    steps = [moment if isinstance(moment, str) else (moment.epoch, moment.step, moment.what) for moment in told]
    a, b = "training", "validating"
    assert steps == [
        (1, 1, a), "save", (1, 2, a), "save", "save", (2, 3, a), "save", (2, 4, a), "save", (2, 4, b), "save",
    ]  # fmt: skip
    first, second = one.history
    assert (first.epoch, first.step, first.scores) == (1, 2, {}) and second.scores == scores
    assert second.lr == pytest.approx(0.01 * (1 / 4) ** 0.9) and first.loss > first.label_loss > 0


def test_a_stop_in_a_validation_is_heard_at_its_next_image() -> None:
    one, asked = trainer(epochs=1), []

    def validate(infer: Any) -> dict[str, Any]:
        for _ in range(100):
            asked.append(infer(draw(0).image[np.newaxis]))
        raise AssertionError("not stopped")

    with pytest.raises(Stopped):
        one.run(validate, lambda: None, lambda moment: None, lambda: len(asked) == 3)
    assert len(asked) == 3 and one.step == one.steps and one.history == []
    one.run(lambda infer: {}, lambda: None, lambda moment: None, lambda: False)
    assert [record.epoch for record in one.history] == [1]


def test_the_best_epoch_is_the_first_sets() -> None:
    def record(**miou: float) -> EpochRecord:
        return EpochRecord(1, 1, 0, 0, 0, 0, {name: SetScore(score, 0, ()) for name, score in miou.items()})

    assert not is_best([]) and not is_best([record()])
    assert is_best([record(val=3, other=9), record(), record(val=4, other=1)])
    assert not is_best([record(val=3), record(val=2, other=99)]) and not is_best([record(val=3), record()])


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("gpu0", UsageError, "no device 'gpu0': use cpu, cuda or cuda:1"),
        ("meta", UsageError, "device is 'meta', expected cpu or cuda"),
        ("cuda:77", MissingError, r"no device cuda:77: PyTorch sees \d+ CUDA devices"),
        ("cuda:999", MissingError, r"no device cuda:999: PyTorch sees \d+ CUDA devices"),
    ],
)
def test_devices_that_are_none(name: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says) as caught:
        hardware.pick_device(name)
    assert "\n" not in str(caught.value)


def test_the_format_is_the_processors() -> None:
    cpu = torch.device("cpu")
    assert hardware.pick_dtype("fp32", cpu) == torch.float32 and hardware.pick_dtype("bf16", cpu) == torch.bfloat16
    has = bool(hardware.BF16_UNITS & machine.cpu().features)
    assert hardware.pick_dtype("auto", cpu) == (torch.bfloat16 if has else torch.float32)
