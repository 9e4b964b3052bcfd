"""Teachers: what they say together, who may be one, and how each sees a frame."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from rtpsp.errors import ModelError
from rtpsp.labels import CAMVID, LabelSet
from rtpsp.model.checkpoint import Checkpoint
from rtpsp.model.hints import Hints
from rtpsp.model.layouts import LAYOUTS
from rtpsp.model.normalise import Normaliser
from rtpsp.model.pspnet import PSPNet, build
from rtpsp.model.synthetic import randomise_statistics
from rtpsp.model.teachers import Teachers, check_teacher
from rtpsp.model.trained import spec_of_teacher
from rtpsp.spec import IMAGENET_MEAN, IMAGENET_STD
from tests.shapes import SHAPES, draw, narrowed, spec

CPU = torch.device("cpu")
FRAMES = torch.stack([torch.from_numpy(draw(seed).image) for seed in (0, 1)])


def network(seed: int) -> PSPNet:
    model = build(narrowed(), len(SHAPES))
    randomise_statistics(model, seed)
    return model.eval()


def test_their_answer_is_the_mean_over_networks_scales_and_sides() -> None:
    models = [network(1), network(2)]
    teachers = Teachers([(model, spec()) for model in models], CPU, (1.0, 0.5), flip=True)
    answer = teachers.probabilities(FRAMES, 2.0)
    image = Normaliser(spec(), CPU)(FRAMES)
    half = F.interpolate(image, (32, 48), mode="bilinear", align_corners=False, antialias=True)
    votes = []
    with torch.no_grad():
        for model in models:
            for seen in (image, half):
                for mirrored in (False, True):
                    scores = model(seen.flip(3)).flip(3) if mirrored else model(seen)
                    scores = F.interpolate(scores, (64, 96), mode="bilinear", align_corners=False)
                    votes.append(F.softmax(scores / 2.0, dim=1))
    torch.testing.assert_close(answer, torch.stack(votes).mean(0))
    torch.testing.assert_close(answer.sum(1), torch.ones(2, 64, 96))
    assert len(teachers) == 2 and not answer.requires_grad


def test_each_sees_frames_in_its_own_channels() -> None:
    model = network(3)
    turned = build(narrowed(), len(SHAPES))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    state["backbone.conv1.weight"] = state["backbone.conv1.weight"].flip(1)
    turned.load_state_dict(state)
    backwards = spec(channels="bgr", mean=IMAGENET_MEAN[::-1], std=IMAGENET_STD[::-1])
    one = Teachers([(model, spec())], CPU).probabilities(FRAMES, 1.0)
    other = Teachers([(turned, backwards)], CPU).probabilities(FRAMES, 1.0)
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"labels": CAMVID}, r"t\.pth names 11 classes, the student 3"),
        ({"labels": LabelSet("x", ("red", "green", "grey"), SHAPES.palette)}, "class 1 'green', the student 'blue'"),
        ({"channels": "grey", "mean": (0.5,), "std": (0.5,)}, "sees 1 planes, the student 3"),
    ],
)
def test_refuses_one_of_something_else(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        check_teacher("t.pth", spec(**changes), spec())
    check_teacher("t.pth", spec(labels=replace(SHAPES, names=("RED", "Blue", "grey"))), spec())


def opened(layout: str, hints: Hints, inputs: int = 3) -> Checkpoint:
    found = next(one for one in LAYOUTS if one.name == layout)
    model = build(narrowed(), len(SHAPES), inputs=inputs)
    return Checkpoint("t.pth", model, found, hints, (), (), (), (), ())


GREYISH = spec(mean=(0.4, 0.4, 0.4), std=(0.3, 0.3, 0.3), channels="bgr")


def test_a_teacher_of_ours_sees_what_its_file_says_or_what_the_student_sees() -> None:
    assert spec_of_teacher(opened("rtpsp", Hints(spec=spec(name="other"))), GREYISH).name == "other"
    own = spec_of_teacher(opened("rtpsp", Hints()), GREYISH)
    assert (own.mean, own.std, own.channels) == (GREYISH.mean, GREYISH.std, "bgr")


def test_a_teacher_of_others_sees_what_its_code_base_does() -> None:
    own = spec_of_teacher(opened("semseg", Hints()), GREYISH)
    assert (own.mean, own.std, own.channels, own.labels) == (IMAGENET_MEAN, IMAGENET_STD, "rgb", SHAPES)
    told = Hints(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), rgb=False)
    own = spec_of_teacher(opened("mmsegmentation", told), GREYISH)
    assert own.channels == "bgr" and own.mean == pytest.approx(IMAGENET_MEAN) and own.std == pytest.approx(IMAGENET_STD)
    with pytest.raises(ModelError, match=r"t\.pth has 3 classes, the student 11"):
        spec_of_teacher(opened("semseg", Hints()), spec(labels=CAMVID))


def test_a_teacher_of_other_planes_is_refused_before_it_is_asked() -> None:
    """Its file may say nothing of planes: the network does."""
    for layout in ("rtpsp", "segmentation_models_pytorch"):
        with pytest.raises(ModelError, match=r"t\.pth has 1 planes, the student 3"):
            spec_of_teacher(opened(layout, Hints(), inputs=1), spec())
    grey = spec(channels="grey", mean=(0.4,), std=(0.3,))
    own = spec_of_teacher(opened("segmentation_models_pytorch", Hints(), inputs=1), grey)
    assert (own.channels, own.mean, own.std) == ("grey", (0.4,), (0.3,))
