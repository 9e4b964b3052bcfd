"""The names of TensorRT that our code uses, read from the code itself, and those that a release's bindings have."""

from __future__ import annotations

import ast
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
SYMBOLS = (
    "createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL", "createNvOnnxParser_INTERNAL", "getBuilderPluginRegistry",
    "getNvOnnxParserVersion", "getPluginRegistry", "initLibNvInferPlugins",
)  # fmt: skip
"""What the bindings import of TensorRT's libraries: all else they reach through what these give."""

_LISTING = """
import importlib, json, sys
module = importlib.import_module(sys.argv[1])

def listed(value, deep):
    found = {}
    for name in dir(value):
        member = getattr(value, name, None)
        text = getattr(member, "__doc__", None)
        found[name] = text if isinstance(text, str) else ""
        if deep and isinstance(member, type):  # a class in a class
            found |= {f"{name}.{inner}": text for inner, text in listed(member, False).items()}
    return found

members = {name: listed(getattr(module, name), True) for name in dir(module)}
json.dump([module.__version__, members], sys.stdout)
"""

ROOTS = {"trt", "_trt"}
"""What a flavour's module is called in our code, as a variable or an attribute."""


@dataclass(frozen=True)
class Bindings:
    """A release's Python API.

    Attributes:
        version: Of the module.
        members: Docstrings of each class's members, by the class and the member; those of methods hold signatures.
    """

    version: str
    members: Mapping[str, Mapping[str, str]]

    def has(self, name: str) -> bool:
        """Whether there is a name such as ``BuilderFlag``, ``BuilderFlag.TF32`` or ``ILogger.Severity.ERROR``."""
        owner, _, member = name.partition(".")
        return owner in self.members and (not member or member in self.members[owner])

    def takes(self, name: str, count: int) -> bool:
        """Whether a method takes this many arguments beside ``self``; True where its docstring has no signature."""
        owner, _, member = name.partition(".")
        ranges = [_arguments(line, member) for line in self.members[owner][member].splitlines()]
        known = [pair for pair in ranges if pair is not None]
        return not known or any(least <= count <= most for least, most in known)


def read_bindings(module: str, folder: Path | None = None, libraries: Path | None = None) -> Bindings:
    """Import a module in a process of its own, where TensorRT's libraries are stubs, and list its names.

    Args:
        module: Such as ``tensorrt_bindings``.
        folder: Where it is installed; None for this environment.
        libraries: Folder of `build_stubs`.
    """
    environment = dict(os.environ)
    if folder is not None:
        environment["PYTHONPATH"] = str(folder)
    if libraries is not None:
        environment["LD_LIBRARY_PATH"] = str(libraries)
    command = [sys.executable, "-c", _LISTING, module]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    version, members = json.loads(done.stdout)
    return Bindings(version, members)


def build_stubs(folder: Path, major: str) -> None:
    """Compile libraries of one major version that have `SYMBOLS` and do nothing, with the C compiler."""
    folder.mkdir(parents=True)
    source = folder / "stub.c"
    source.write_text("\n".join(f"void *{symbol}(void) {{ return 0; }}" for symbol in SYMBOLS))
    for library in LIBRARIES:
        name = f"lib{library}.so.{major}"
        command = ["cc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(folder / name), str(source)]
        subprocess.run(command, check=True)


def used_in(source: str) -> set[str]:
    """Dotted names of TensorRT's in a module's source, such as ``BuilderFlag.TF32``.

    Attributes of whatever is called ``trt``, followed through assignments to variables: after ``levels = trt.X``,
    ``levels.Y`` is ``X.Y``. Calls and subscripts end a name, as does a name with underscores around it.
    """
    return set(_used(ast.parse(source), {}))


def members_of(protocols: ModuleType) -> dict[str, int | None]:
    """Members of a module's protocols, as ``Class.member``: how many arguments each takes, None of an attribute."""
    found: dict[str, int | None] = {}
    for name, protocol in vars(protocols).items():
        if not _is_protocol(protocol) or protocol.__module__ != protocols.__name__:
            continue
        for member in {*vars(protocol), *inspect.get_annotations(protocol)}:
            if not member.startswith("_"):
                value = vars(protocol).get(member)
                function = inspect.isfunction(value)
                found[f"{name}.{member}"] = len(inspect.signature(value).parameters) - 1 if function else None
    return found


def missing(names: Iterable[str], bindings: Bindings, elsewhere: Mapping[str, str]) -> list[str]:
    """The names that bindings lack, but for those that only another flavour has, with all that belongs to them."""
    return sorted(
        name
        for name in names
        if not bindings.has(name) and not any(name == other or name.startswith(f"{other}.") for other in elsewhere)
    )


def _is_protocol(value: Any) -> bool:
    return isinstance(value, type) and getattr(value, "_is_protocol", False)


def _used(node: ast.AST, outer: dict[str, str]) -> Iterator[str]:
    """The names in a node; `outer` gives what variables stand for, ``""`` for the module itself."""
    known = dict(outer) if isinstance(node, ast.FunctionDef | ast.Lambda | ast.ClassDef) else outer
    if isinstance(node, ast.Attribute) and (name := _resolve(node, known)):
        yield name
    if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            if isinstance(target, ast.Name) and (name := _resolve(node.value, known)):
                known[target.id] = name
    for child in ast.iter_child_nodes(node):
        yield from _used(child, known)


def _resolve(node: ast.expr, known: Mapping[str, str]) -> str | None:
    """What an expression stands for: a dotted name, ``""`` for the module, None for what is not TensorRT's."""
    if isinstance(node, ast.Name):
        return known.get(node.id, "" if node.id in ROOTS else None)
    if not isinstance(node, ast.Attribute):
        return None
    if node.attr in ROOTS:
        return ""
    owner = _resolve(node.value, known)
    if owner is None or node.attr.startswith("__"):
        return None
    return f"{owner}.{node.attr}" if owner else node.attr


def _arguments(line: str, member: str) -> tuple[int, int] | None:
    """Least and most arguments beside ``self``, by a line such as ``f(self: T, a: int, b: str = 'x') -> bool``."""
    head = line.strip().split(". ", 1)[-1]
    if not head.startswith(f"{member}(self"):
        return None
    inside = head[len(member) + 1 : head.rindex(")")]
    parts, depth, part = [], 0, ""
    for letter in inside:
        depth += (letter in "[(<") - (letter in "])>")
        if letter == "," and depth == 0:
            parts.append(part)
            part = ""
        else:
            part += letter
    parts.append(part)
    return sum("=" not in part for part in parts[1:]), len(parts) - 1
