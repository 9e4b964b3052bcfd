from __future__ import annotations

from typing import Any

import pytest

from rtpsp.engine.tensorrt_api import flavour_of
from rtpsp.engine.tensorrt_options import PlanOptions, plan_target
from rtpsp.errors import UsageError
from rtpsp.machine import Gpu


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"workspace": -1}, "workspace is -1 bytes"),
        ({"optimisation_level": 6}, "level is 6, expected 0 to 5"),
        ({"optimisation_level": -1}, "level is -1"),
        ({"aux_streams": -1}, "streams are -1"),
        ({"hardware": "hopper"}, "'hopper', expected ampere"),
    ],
)
def test_nonsense_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        PlanOptions(**values)


def test_a_plan_for_ampere_is_not_built_on_turing() -> None:
    turing = Gpu("Tesla T4", "7.5", "580.65", 16 << 30, "13.0")
    with pytest.raises(UsageError, match=r"compute capability 8\.0 or later, here is Tesla T4 with 7\.5"):
        plan_target(flavour_of("tensorrt"), PlanOptions(hardware="ampere+"), turing)


def test_capabilities_are_compared_as_numbers() -> None:
    blackwell = Gpu("NVIDIA RTX PRO 6000", "12.0", "580.65", 96 << 30, "13.0")
    assert plan_target(flavour_of("tensorrt"), PlanOptions(hardware="ampere+"), blackwell).or_later
