"""Every name of TensorRT that our code uses is there in the bindings of each release that it is meant for.

Their wheels come without TensorRT's libraries, of which they import nine C functions; with stubs of these they can be
imported, and their names read, on any machine.
"""

from __future__ import annotations

import os
import shutil
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Protocol

import pytest

import rtpsp
from rtpsp.engine import tensorrt_api, tensorrt_types
from rtpsp.engine.tensorrt_types import RTX_ONLY
from tests.bindings.names import (
    Bindings,
    build_stubs,
    members_of,
    missing,
    read_bindings,
    used_in,
)

RELEASES = ("10.16.1.11", "11.4.0.106")
RTX = "tensorrt-rtx"
PACKAGE = Path(rtpsp.__file__).parent
SOURCES = {path: path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
BUILDER = PACKAGE / "engine" / "tensorrt_options.py"


def lacking(reason: str) -> None:
    """Skip; on the build server, which has everything, fail."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module", params=[*RELEASES, RTX])
def bindings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bindings:
    if request.param == RTX:
        if find_spec("tensorrt_rtx_bindings") is None:
            lacking("needs the extra tensorrt-rtx")
        return read_bindings("tensorrt_rtx_bindings")
    folder = Path(sys.prefix) / f"tensorrt-{request.param}"
    if not folder.is_dir():
        lacking(f"pip install --no-deps --target {folder} tensorrt_cu13_bindings=={request.param}")
    if shutil.which("cc") is None:
        lacking("needs a C compiler: apt-get install gcc libc6-dev")
    libraries = tmp_path_factory.mktemp("stubs") / request.param
    build_stubs(libraries, request.param.split(".")[0])
    found = read_bindings("tensorrt_bindings", folder, libraries)
    assert found.version == request.param
    return found


def is_rtx(bindings: Bindings) -> bool:
    return bindings.has("ComputeCapability")


def elsewhere(bindings: Bindings) -> dict[str, str]:
    return {} if is_rtx(bindings) else RTX_ONLY


@cache
def used() -> set[str]:
    """The names in all of the package."""
    return set().union(*map(used_in, SOURCES.values()))


def module_members() -> set[str]:
    """What the protocols of a flavour's module have."""
    names = {name.partition(".") for name in members_of(tensorrt_api)}
    return {member for owner, _, member in names if owner in ("RuntimeModule", "TensorRT")}


def protocol_members() -> dict[str, int | None]:
    """What the protocols of classes have; `Enumerator` stands for the values of all enumerations."""
    return {name: count for name, count in members_of(tensorrt_types).items() if not name.startswith("Enumerator.")}


def test_names_in_the_code(bindings: Bindings) -> None:
    names = used()
    assert {"BuilderFlag.TF32", "ILogger.Severity.ERROR", "ComputeCapability", "Runtime"} <= names, "it reads the code"
    assert missing(names, bindings, elsewhere(bindings)) == []


def test_names_in_the_protocols(bindings: Bindings) -> None:
    names = {*protocol_members(), *module_members()}
    assert len(names) > 60
    assert missing(names, bindings, elsewhere(bindings)) == []


def test_the_methods_take_as_many_arguments(bindings: Bindings) -> None:
    counts = {name: count for name, count in protocol_members().items() if count is not None and bindings.has(name)}
    assert len(counts) > 25
    assert [name for name, count in counts.items() if not bindings.takes(name, count)] == []


def test_what_is_marked_as_rtx_alone_is_rtx_alone(bindings: Bindings) -> None:
    assert [name for name in RTX_ONLY if bindings.has(name) != is_rtx(bindings)] == []


def test_enumerators_have_what_we_ask_of_them(bindings: Bindings) -> None:
    flags = bindings.members["BuilderFlag"]
    assert {"name", "__int__"} <= set(flags)
    if is_rtx(bindings):
        assert "__members__" in bindings.members["ComputeCapability"]


def test_no_protocol_has_a_member_that_nothing_uses() -> None:
    code = "\n".join(
        text for path, text in SOURCES.items() if path.name not in ("tensorrt_types.py", "tensorrt_api.py")
    )
    code += SOURCES[PACKAGE / "engine" / "tensorrt_api.py"].split("class Flavour")[1]
    names = {*protocol_members(), *module_members()} - {"ILogger.log"}
    assert [name for name in sorted(names) if name.split(".")[-1] not in code] == []


@pytest.mark.parametrize(
    ("right", "wrong", "name", "without"),
    [
        ("trt.BuilderFlag.TF32", "trt.BuilderFlag.FP16", "BuilderFlag.FP16", ("11.4", "1.7")),
        ("trt.BuilderFlag.TF32", "trt.BuilderFlag.TF23", "BuilderFlag.TF23", ("10.16", "11.4", "1.7")),
        ("levels.AMPERE_PLUS", "levels.AMPERE", "HardwareCompatibilityLevel.AMPERE", ("10.16", "11.4", "1.7")),
        ("levels.AMPERE_PLUS", "trt.EngineValidity", "EngineValidity", ("10.16", "11.4")),
    ],
)
def test_a_wrong_name_would_be_found(
    bindings: Bindings, right: str, wrong: str, name: str, without: tuple[str, ...]
) -> None:
    source = SOURCES[BUILDER]
    assert right in source
    spoilt = used_in(source.replace(right, wrong))
    expected = [name] if bindings.version.startswith(without) else []
    assert missing(spoilt, bindings, elsewhere(bindings)) == expected


def test_a_wrong_member_of_a_protocol_would_be_found(bindings: Bindings) -> None:
    class Builder(Protocol):
        def build_engine(self, network: object) -> object: ...
        def create_network(self, flags: int, name: str) -> object: ...

    module = ModuleType(__name__)
    vars(module)["Builder"] = Builder
    names = members_of(module)
    assert names == {"Builder.build_engine": 1, "Builder.create_network": 2}
    assert missing(names, bindings, elsewhere(bindings)) == ["Builder.build_engine"]
    assert not bindings.takes("Builder.create_network", 2)


def test_names_are_followed_through_variables() -> None:
    source = """
def f(self, trt):
    flags = trt.BuilderFlag
    base: Any = self._trt.ILogger
    severities = base.Severity
    use(flags.TF32, severities.ERROR, other.thing, trt.X.__members__.items(), trt.Runtime(log).load(1))
def g(flags):
    return flags.DEBUG
"""
    names = {"BuilderFlag", "BuilderFlag.TF32", "ILogger", "ILogger.Severity", "ILogger.Severity.ERROR", "X", "Runtime"}
    assert used_in(source) == names
