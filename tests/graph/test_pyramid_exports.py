"""Heads as other projects' modules leave torch's exporter: found, and exact."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import nn

from rtpsp.graph.pyramid import find_heads, split_head
from rtpsp.graph.pyramid_pools import merge_pools
from rtpsp.graph.work import multiply_adds
from tests.graph.pspnets import Mmsegmentation, Smp, export, relative_error


@pytest.mark.parametrize(
    ("make", "size", "soup"),
    [
        (lambda: Mmsegmentation(align_corners=False), (17, 23), True),
        (lambda: Mmsegmentation(align_corners=True), (24, 24), False),
        (lambda: Smp(width=32), (17, 23), True),
    ],
    ids=["mmsegmentation", "mmsegmentation-align-corners", "smp"],
)
def test_head_of_another_project(make: Callable[[], nn.Module], size: tuple[int, int], soup: bool) -> None:
    model = export(make(), size)
    pooled = [node for node in model.graph if node.op_type == "AveragePool"]
    assert soup == (not pooled)  # bins that do not divide the map leave the exporter as gathers and sums
    (head,) = find_heads(model)
    assert [(height, width) for *_, height, width in head.maps] == [(1, 1), (2, 2), (3, 3), (6, 6)]
    assert len(head.features) == 1 and not head.notes
    split = split_head(model)
    assert relative_error(split, model) < 2e-6
    assert multiply_adds(model) - multiply_adds(split) == head.multiply_adds - head.multiply_adds_split > 0
    merged = merge_pools(model)
    assert relative_error(merged, model) < 2e-6
    assert not [node for node in merged.graph if node.op_type in ("AveragePool", "ReduceMean", "Slice")]
    assert len(merged.graph) < 60
    assert relative_error(split_head(merged), model) < 2e-6
