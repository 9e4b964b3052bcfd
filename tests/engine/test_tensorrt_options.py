from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from rtpsp.engine.table import BACKENDS
from rtpsp.engine.tensorrt_api import flavour_of
from rtpsp.engine.tensorrt_options import (
    FLAGS,
    MAX_WORKSPACE,
    RTX_DEFAULT,
    PlanOptions,
    plan_target,
    usual_targets,
    with_target,
)
from rtpsp.errors import UsageError
from rtpsp.machine import Gpu


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"workspace": -1}, "workspace is -1 bytes"),
        ({"workspace": MAX_WORKSPACE + 1}, "workspace is 1099511627777 bytes, expected 0, which is all, to 10995"),
        ({"optimisation_level": 6}, "level is 6, expected 0 to 5"),
        ({"optimisation_level": -1}, "level is -1"),
        ({"aux_streams": -1}, "streams are -1"),
        ({"aux_streams": 1 << 31}, "streams are 2147483648, expected 0 to 128"),
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


@pytest.mark.parametrize(
    ("capability", "usual", "added"),
    [
        ("7.5", ("7.5",), ("8.9", "7.5")),
        ("8.6", (), ("8.9", "8.6")),
        ("8.9", (), ("8.9",)),
        ("12.0", (), ("8.9", "12.0")),
        ("9.0", (), ("8.9",)),  # the flavour does not run there, whatever it builds for
        ("0.0", (), ("8.9",)),  # a driver that does not tell
    ],
)
def test_the_gpu_that_is_here_is_among_the_targets(
    capability: str, usual: tuple[str, ...], added: tuple[str, ...]
) -> None:
    assert usual_targets(capability) == with_target((), capability) == usual
    assert with_target(("8.9",), capability) == added


def test_rtx_runs_on_what_it_usually_builds_for() -> None:
    runs_on = BACKENDS["tensorrt-rtx"].runs_on
    assert all(runs_on(capability) for capability in RTX_DEFAULT)


def test_every_option_of_the_engine_has_its_flag() -> None:
    from rtpsp.cli.build import command

    assert {*FLAGS, "detailed", "verbose"} == {field.name for field in fields(PlanOptions)}
    known = {flag for option in command.params for flag in option.opts}
    assert set(FLAGS.values()) <= known
