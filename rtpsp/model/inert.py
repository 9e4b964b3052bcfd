"""Pickles read as data: foreign classes become inert placeholders, and what would run code is refused.

A checkpoint is a pickle, and a pickle may name any function of the machine and have it called. torch's own
weights-only reader refuses every name that it does not know, and with it the files of most training frameworks, which
keep a configuration, a log or a NumPy number beside the weights. Here such a name is neither looked up nor imported:
it becomes a class of ours that takes whatever it is given and does nothing. Names of Python's own library are refused
unless they stand for plain values, because those that are not have no place beside weights.

The method is the one of the Python manual, "Restricting Globals" (``pickle.Unpickler.find_class``).
"""

from __future__ import annotations

import pickle
import pickletools
import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Callable
from typing import IO, Any

import torch

MAX_DEPTH = 200
"""Nesting that no training script writes; hashing or freeing a deeper one can exhaust the C stack."""

MAX_STEPS = 20_000_000
"""Operations of a pickle; a ResNet-152 with its optimiser has some fifty thousand."""

_PLAIN_MODULES = {"argparse", "datetime", "decimal", "enum", "fractions", "pathlib", "time", "typing", "uuid"}
_PLAIN_NAMES = {
    "_codecs.encode", "collections.Counter", "collections.OrderedDict", "collections.defaultdict", "collections.deque",
    "copyreg._reconstructor", "functools.partial", "re._compile",
    "types.SimpleNamespace",
    *(f"builtins.{name}" for name in (
        "bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "object", "range", "set",
        "slice", "str", "tuple", "type",
    )),
}  # fmt: skip
"""Names of Python's library that stand for values."""


class UnsafeCheckpoint(pickle.UnpicklingError):
    """A pickle names a function of Python's library; the text is that name."""


class Placeholder:
    """Stands for an object of a class that is not looked up; holds what its file says of it, does nothing.

    Attributes:
        arguments: What the class would have been called with.
        items: What would have been put into it.
        state: What its attributes would have been.
    """

    qualified = ""
    """The name that it stands for."""

    def __new__(cls, *arguments: Any, **named: Any) -> Placeholder:
        made = super().__new__(cls)
        made.arguments, made.items, made.state = arguments, {}, None
        return made

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.arguments: tuple[Any, ...]
        self.items: dict[Any, Any]
        self.state: Any

    def __call__(self, *arguments: Any, **named: Any) -> Placeholder:
        return self

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value

    def append(self, value: Any) -> None:
        """As a list that is unpickled."""
        self.items[len(self.items)] = value

    def extend(self, values: Any) -> None:
        """As a list that is unpickled."""
        for value in values:
            self.append(value)

    def add(self, value: Any) -> None:
        """As a set that is unpickled."""
        self.append(value)


class _Maker:
    """A function that a pickle may call, and not change: its own attributes would be set by the operation BUILD."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a function with a state")


def _parameter(data: Any, *rest: Any) -> Any:
    return data


def _known() -> dict[str, Any]:
    """What tensors are made of; everything else is a placeholder.

    None of it can be changed by a pickle: a class or a function of Python would stay changed for this whole process.
    Storages are not here: `torch.load` has names of its own for them.
    """
    names: dict[str, Any] = {
        "collections.OrderedDict": OrderedDict,
        "_codecs.encode": _Maker(_encode),
        "torch.Size": torch.Size,
        "torch.device": torch.device,
        "torch._utils._rebuild_parameter": _Maker(_parameter),
        "torch._utils._rebuild_parameter_with_state": _Maker(_parameter),
    }
    for name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
        names[f"torch._utils.{name}"] = _Maker(getattr(torch._utils, name))
    for name in vars(torch):
        if isinstance(getattr(torch, name), torch.dtype):
            names[f"torch.{name}"] = getattr(torch, name)
    return names


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """How pickles of protocol 2 write bytes; the encodings that can be asked for are these."""
    if not isinstance(text, str) or encoding not in ("latin1", "utf-8", "ascii"):
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
    return text.encode(encoding)


_KNOWN = _known()


class Unpickler(pickle.Unpickler):
    """Reads tensors and plain values; see the module.

    Attributes:
        foreign: Names that became placeholders, with their classes; of all pickles that a `Reader` reads.
    """

    foreign: dict[str, type[Placeholder]]

    def __setattr__(self, name: str, value: Any) -> None:
        """Leaves out one thing that `torch.load` does for files of before 1.6.

        Beside the class of a module these hold its source, and torch compares it with the source of today, which it
        looks for on this machine; where the class asks for it, it writes the difference to a file of the class's name.
        """
        super().__setattr__(name, _without_sources(value) if name == "persistent_load" else value)

    def find_class(self, module: str, name: str) -> Any:
        """What a name stands for.

        Raises:
            UnsafeCheckpoint: A function of Python's library.
        """
        qualified = f"{module}.{name}"
        if qualified in _KNOWN:
            return _KNOWN[qualified]
        check_name(module, name)
        if qualified not in self.foreign:
            self.foreign[qualified] = type("Placeholder", (Placeholder,), {"qualified": qualified})
        return self.foreign[qualified]


def _without_sources(load: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def persistent_load(saved: Any) -> Any:
        if isinstance(saved, tuple) and len(saved) > 1 and saved[0] in ("module", b"module"):
            return saved[1]
        return load(saved)

    return persistent_load


class Reader:
    """What `torch.load` takes as its ``pickle_module``.

    Attributes:
        foreign: Names that became placeholders, with their classes.
    """

    UnpicklingError = pickle.UnpicklingError

    def __init__(self) -> None:
        self.__name__ = __name__
        self.foreign: dict[str, type[Placeholder]] = {}
        self.Unpickler = type("Unpickler", (Unpickler,), {"foreign": self.foreign})

    def load(self, file: IO[bytes], **options: Any) -> Any:
        """As `pickle.load`."""
        return self.Unpickler(file, **options).load()


def check_name(module: str, name: str) -> None:
    """Make sure that a name in a pickle stands for a value.

    Raises:
        UnsafeCheckpoint: It does not.
    """
    root = module.split(".")[0]
    library = root in sys.stdlib_module_names
    if library and root not in _PLAIN_MODULES and f"{module}.{name}" not in _PLAIN_NAMES:
        raise UnsafeCheckpoint(f"{module}.{name}")


def survey(file: IO[bytes]) -> list[str]:
    """Goes through one pickle without carrying it out: its names, and whether it nests sanely.

    Every operation takes some values off the unpickler's stack and puts some on it (`pickletools`); what is put is one
    deeper than the deepest that was taken.

    Args:
        file: At the pickle's beginning; left at its end.

    Returns:
        Every name that it looks up, as ``module.name``, in order of appearance.

    Raises:
        UnsafeCheckpoint: It names a function of Python's library.
        ValueError: It is damaged, or nests deeper than `MAX_DEPTH`.
    """
    names: dict[str, None] = {}
    stack: list[int | None] = []  # depth of each value; None is a mark
    memo: dict[int, int] = {}
    for step, (operation, argument, _) in enumerate(pickletools.genops(file)):
        if step > MAX_STEPS:
            raise ValueError(f"more than {MAX_STEPS} operations")
        name = operation.name
        if name in ("GLOBAL", "INST"):
            module, attribute = _of_python3(*str(argument).split(" ", 1))
            check_name(module, attribute)
            names[f"{module}.{attribute}"] = None
        if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if name == "MEMOIZE" else int(argument or 0)] = _top(stack)
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo.get(int(argument or 0), 0))
        elif name == "MARK":
            stack.append(None)
        else:
            _apply(operation, stack)
    return list(names)


def _of_python3(module: str, name: str) -> tuple[str, str]:
    """Protocol 2, which torch writes, has the names of Python 2's library."""
    found: tuple[str, str] = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    return found


def _apply(operation: pickletools.OpcodeInfo, stack: list[int | None]) -> None:
    taken: list[int] = []
    before = list(operation.stack_before)
    if pickletools.stackslice in before:
        at = len(stack) - 1 - stack[::-1].index(None)  # a ValueError where there is no mark
        taken = [depth for depth in stack[at + 1 :] if depth is not None]
        del stack[at:]
        before = before[: before.index(pickletools.markobject)]
    elif pickletools.markobject in before:  # POP_MARK and its like name no slice
        before = []
    if len(before) > len(stack):
        raise ValueError(f"{operation.name} of nothing")
    under = [depth or 0 for depth in stack[len(stack) - len(before) :]]
    del stack[len(stack) - len(before) :]
    if operation.name in ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"):  # in place
        depth = max([under[0], *(1 + inner for inner in (*under[1:], *taken))])
    else:
        depth = 1 + max([-1, *under, *taken])
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    stack.extend([depth] * len(operation.stack_after))


def _top(stack: list[int | None]) -> int:
    if not stack or stack[-1] is None:
        raise ValueError("a value was to be kept where there is none")
    return stack[-1]
