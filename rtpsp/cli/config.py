"""Options in a TOML file: a table named after each verb, in it the verb's long option names.

    [run]
    camera = 1                # --camera 1; true is --camera alone
    camera-size = "720x1280"
    legend = true             # --legend; false is --no-legend

A file is a command line that is written down: values go through the same conversion, and relative paths start where
the command is run, as they would if they were typed. The folder of the file has no say, because a source may be a path,
a pattern, a URI or a number, and only some of them could be moved. No file is read unless it is named: one that lies
about in a folder of somebody's videos must not choose what is written where.
"""

from __future__ import annotations

import functools
import json
import logging
import re
import sys
import textwrap
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from rtpsp.errors import InputError, UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_log = logging.getLogger(__name__)

MAX_BYTES = 1 << 20


def read(path: Path, ctx: click.Context, verbs: Collection[str]) -> dict[str, Any]:
    """What a file says about one verb.

    Args:
        path: The file.
        ctx: Of the verb.
        verbs: The tables that a file may have; those of other verbs are not looked into.

    Returns:
        A value for the names of some of the verb's parameters, for click's ``default_map``: texts as a command line has
        them, booleans for flags.

    Raises:
        InputError: The file cannot be read, or is not TOML.
        UsageError: It has a table, key or value that is not to be there.
    """
    text = _text_of(path)
    try:
        tables = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a TOML file: {' '.join(str(error).split())}") from error
    verb = ctx.command.name or ""
    values: dict[str, Any] = {}
    for name, table in tables.items():
        where = functools.partial(_where, path, text, None, name)
        if isinstance(table, dict) and _dashed(name) not in verbs:
            raise UsageError(f"{where()}: no verb {name!r}; {_nearest(_dashed(name), verbs)}")
        if not isinstance(table, dict):
            under = _dashed(name) if _dashed(name) in verbs else verb
            raise UsageError(f"{where()}: {name!r} stands outside of a table; put options below a line [{under}]")
        if _dashed(name) == verb:
            for key, value in table.items():
                _take(values, key, value, ctx, functools.partial(_where, path, text, name, key))
    _log.info("%s: [%s] %s", path, verb, ", ".join(values) or "says nothing")
    return values


def _take(values: dict[str, Any], key: str, value: Any, ctx: click.Context, where: Callable[[], str]) -> None:
    """Add one key of a table to `values`."""
    known, table = _parameters(ctx.command), f"[{ctx.command.name}]"
    param = known.get(_dashed(key))
    if param is None:
        raise UsageError(f"{where()}: {table} has no {key!r}; {_nearest(_dashed(key), known)}")
    if param.name in values:
        raise UsageError(f"{where()}: {table} has {key!r} already; leave one of them")
    try:
        words = _to_words(value, param)
        if words is not None:
            param.type_cast_value(ctx, words)  # what click does later, for a message that names the file
            values[str(param.name)] = words
    except click.BadParameter as error:
        message = " ".join(error.message.split()).removesuffix(".")
        raise UsageError(f"{where()}: {table} {key} is {_shown(value)}: {message}") from error
    except (ValueError, OSError) as error:
        raise UsageError(f"{where()}: {table} {key} is {_shown(value)}, which cannot be used: {error}") from error


def dump(ctx: click.Context, given: Mapping[str, Any]) -> str:
    """The TOML that gives the same options to `read`; what was not given stands there as a comment.

    Args:
        ctx: Of a verb, parsed.
        given: The words that its command line had, by the names of parameters.

    Raises:
        UsageError: A value cannot stand in a TOML file: a file name that is not UTF-8.
    """
    import tomli_w

    command = ctx.command
    lines = [f"# rtpsp {command.name} --config FILE", f"[{command.name}]"]
    seen: set[int] = set()
    for key, param in _parameters(command).items():
        if id(param) in seen:  # by another of its names
            continue
        seen.add(id(param))
        raw, source = param.consume_value(ctx, given)
        told = getattr(param, "help", None)
        lines += ["", *textwrap.wrap(told, 110, initial_indent="# ", subsequent_indent="# ")] if told else [""]
        default = source == ParameterSource.DEFAULT
        value = _to_toml(param.get_default(ctx) if default else raw, param)
        if default and value in (None, []):
            shape = "true|false" if getattr(param, "is_flag", False) else param.make_metavar(ctx)
            lines.append(f"# {key} = {shape}")
        elif value is not None:
            line = tomli_w.dumps({key: value}).rstrip("\n")
            lines.append(textwrap.indent(line, "# ") if default else line)
    text = "\n".join(lines) + "\n"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError("a value that is not UTF-8 cannot stand in a TOML file: rename that file") from error
    return text


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path} cannot be read ({reason}); name a TOML file with --config") from error
    if len(data) > MAX_BYTES:
        raise InputError(f"{path} has more than {MAX_BYTES} bytes, expected a TOML file of options")
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a TOML file: byte {error.start} is not UTF-8") from error


def _parameters(command: click.Command) -> dict[str, click.Parameter]:
    """What a table may hold, by key; arguments go by their names."""
    known: dict[str, click.Parameter] = {}
    for param in command.params:
        if param.expose_value:
            names = [name for name in param.opts if name.startswith("--")] or [max(param.opts, key=len)]
            known |= {_dashed(name.lstrip("-")): param for name in names}
    return known


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _nearest(word: str, known: Collection[str]) -> str:
    near = get_close_matches(word, known, 1)
    return f"did you mean {near[0]!r}?" if near else f"expected {', '.join(known)}"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)  # close enough to TOML
    return text if len(text) <= 60 else f"{text[:57]}..."


def _to_words(value: Any, param: click.Parameter) -> Any:
    """A TOML value as a command line would have it; None for an option that is not given.

    Raises:
        click.BadParameter: It is of a kind that this parameter does not take.
    """
    if isinstance(param, click.Option):
        if param.is_flag:
            if not isinstance(value, bool):
                raise click.BadParameter("expected true or false")
            return value if param.is_bool_flag else param.flag_value if value else None
        if isinstance(value, bool) and isinstance(param.flag_value, str):  # --camera, whose value may be left out
            return param.flag_value if value else None
    depth = (param.nargs != 1) + bool(getattr(param, "multiple", False))
    if depth == 1 and param.nargs == 1 and not isinstance(value, list):  # given once
        value = [value]
    return _words_of(value, param.type, depth)


def _words_of(value: Any, kind: Any, depth: int) -> Any:
    if depth:
        if not isinstance(value, list):
            raise click.BadParameter("expected an array, [...]")
        return tuple(_words_of(item, kind, depth - 1) for item in value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(kind, click.types.BoolParamType):
        fits, wanted = isinstance(value, bool), "true or false"
    elif isinstance(kind, click.types.IntParamType):
        fits, wanted = number and isinstance(value, int), "a whole number"
    elif isinstance(kind, click.types.FloatParamType):
        fits, wanted = number, "a number"
    else:  # a whole number may stand for a text: camera = 1, output-stride = 8
        fits, wanted = isinstance(value, str) or (number and isinstance(value, int)), "a text in quotes"
    if not fits:
        raise click.BadParameter(f"expected {wanted}")
    if isinstance(value, str) and "\0" in value:
        raise click.BadParameter("expected a text without NUL")
    return value if isinstance(value, bool) else str(value)


def _to_toml(value: Any, param: click.Parameter) -> Any:
    """What a command line had, or a default, as a TOML value; None if there is none."""
    if isinstance(param, click.Option) and param.is_flag and not param.is_bool_flag:
        return True if value == param.flag_value else None
    if isinstance(value, list | tuple):
        depth = (param.nargs != 1) + bool(getattr(param, "multiple", False))
        return [_to_toml(item, param) for item in value] if depth else None
    if isinstance(value, bool):
        return value
    if isinstance(value, str | int | float):
        number = isinstance(param.type, click.types.IntParamType | click.types.FloatParamType)
        return param.type(value, param=param) if number else str(value)
    return str(value) if isinstance(value, Path) else None


def _where(path: Path, text: str, table: str | None, key: str) -> str:
    """The file, and the line at which a key of a table, or a table, begins; without it if that cannot be told.

    The parser does not say. A line that looks right is right if a key of that name, put in its place, ends up there.
    """
    lines = text.split("\n")
    form = re.compile(rf"\s*\[?\[?\s*[\"']?{re.escape(key)}[\"']?\s*[=.\]]")
    looks = [number for number, line in enumerate(lines) if form.match(line)]
    for number in looks[:20]:
        for trial in (lines[number], f"{key} = 0"):  # the line itself may be the first of many
            try:
                after: Any = tomllib.loads("\n".join([*lines[:number], trial]))
                before: Any = tomllib.loads("\n".join(lines[:number]))
            except (ValueError, RecursionError):
                continue
            if table is not None:
                after, before = after.get(table, {}), before.get(table, {})
            if key in after and key not in before:
                return f"{path}, line {number + 1}"
    return str(path)
