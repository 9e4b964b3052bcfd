"""The network itself: work, parameters, names, and what training sees."""

from __future__ import annotations

import pytest
import torch

from rtpsp.errors import UsageError
from rtpsp.model.pspnet import (
    ARCHS,
    build,
    feature_size,
    multiply_adds,
    parameter_count,
)
from rtpsp.model.synthetic import randomise_statistics


@pytest.mark.parametrize(
    ("arch", "output_stride", "gmac", "millions"),
    [
        ("pspnet18", 8, 38.1, 13.8),
        ("pspnet18", 16, 12.3, 13.8),
        ("pspnet50", 8, 121.4, 46.7),
        ("pspnet101", 8, 172.5, 65.7),
        ("pspnet152", 8, 214.6, 81.3),
    ],
)
def test_work_and_parameters(arch: str, output_stride: int, gmac: float, millions: float) -> None:
    with torch.device("meta"):
        model = build(arch, 11, output_stride)
    assert multiply_adds(model, (360, 480)) / 1e9 == pytest.approx(gmac, abs=0.05)
    assert parameter_count(model) / 1e6 == pytest.approx(millions, abs=0.05)


def test_names_follow_torchvision() -> None:
    with torch.device("meta"):
        keys = build("pspnet18", 11).state_dict().keys() | build("pspnet50", 11).state_dict().keys()
    expected = {
        "backbone.conv1.weight",
        "backbone.layer3.0.conv1.weight",
        "backbone.layer4.0.downsample.1.running_var",
        "backbone.conv3.weight",
        "pyramid.3.bn.bias",
        "head.classifier.bias",
        "aux.classifier.bias",
    }
    assert expected <= keys
    assert not [key for key in keys if key.startswith("pools")]


@pytest.mark.parametrize(("output_stride", "cells"), [(8, (9, 13)), (16, (5, 7))])
def test_dilation_and_stride(output_stride: int, cells: tuple[int, int]) -> None:
    model = build(ARCHS["pspnet18"].narrowed(16), 5, output_stride).eval()
    _, features = model.backbone(torch.zeros(1, 3, 71, 99))
    assert tuple(features.shape[-2:]) == cells == feature_size((71, 99), output_stride)
    dilations = {8: (2, 4), 16: (1, 2)}[output_stride]
    for layer, dilation in zip((model.backbone.layer3, model.backbone.layer4), dilations, strict=True):
        convs = [module for module in layer.modules() if isinstance(module, torch.nn.Conv2d)]
        assert {conv.dilation for conv in convs if conv.kernel_size == (3, 3)} == {(dilation, dilation)}


def test_auxiliary_head_is_for_training_only() -> None:
    model = build(ARCHS["pspnet50"].narrowed(16), 5)
    image = torch.randn(2, 3, 64, 48)
    logits, auxiliary = model.train()(image)
    assert logits.shape == auxiliary.shape == (2, 5, 64, 48)
    assert model.eval()(image).shape == (2, 5, 64, 48)


def test_random_statistics_repeat_and_keep_scores_finite() -> None:
    first, second, third = (build(ARCHS["pspnet18"].narrowed(8), 7) for _ in range(3))
    for model, seed in ((first, 3), (second, 3), (third, 4)):
        randomise_statistics(model, seed)
    image = torch.randn(1, 3, 72, 72)
    with torch.no_grad():
        answers = [model(image) for model in (first, second, third)]
    assert not first.training
    torch.testing.assert_close(answers[0], answers[1])
    assert not torch.allclose(answers[0], answers[2])
    assert 0.01 < float(answers[0].abs().max()) < 1e4
    assert len(set(first.state_dict()["backbone.bn1.running_var"].tolist())) > 1


@pytest.mark.parametrize(
    ("arch", "classes", "output_stride", "says"),
    [("pspnet36", 11, 8, "pspnet18"), ("pspnet18", 0, 8, "at least 1"), ("pspnet18", 11, 32, "8 or 16")],
)
def test_refuses_what_it_cannot_build(arch: str, classes: int, output_stride: int, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        build(arch, classes, output_stride)
