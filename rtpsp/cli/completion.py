"""``rtpsp completion``, and what completes a text: the metavar says what it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

COMPLETE = "_RTPSP_COMPLETE"
"""The shell's completion script calls rtpsp with this variable set."""


def _label_sets() -> Iterable[str]:
    from rtpsp.labels import LABEL_SETS

    return sorted(LABEL_SETS)


def _devices() -> Iterable[str]:
    return sorted(map(str, Path("/dev").glob("video*")))


WORDS: dict[str, Callable[[], Iterable[str]]] = {
    "DEVICE": _devices,
    "SET": _label_sets,
    "URI": lambda: ["sim://street"],
}
FILES = frozenset({"DEVICE", "DIR", "ENGINE", "FILE", "LIST", "URI"})
"""What a text may be is what the words of its metavar say: ``SET|FILE`` is a label set or a file."""


class _Text(click.types.StringParamType):
    """A text that is one of a few words, or a file."""

    def __init__(self, kinds: frozenset[str]) -> None:
        self._kinds = kinds

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        known = [word for kind in sorted(self._kinds & set(WORDS)) for word in WORDS[kind]()]
        words = [CompletionItem(word) for word in known if word.startswith(incomplete)]
        return words or [CompletionItem(incomplete, type="file")]


def with_completion(param: click.Parameter) -> click.Parameter:
    """The parameter; a text whose metavar says what it is completes."""
    metavar = param.metavar or (param.human_readable_name if isinstance(param, click.Argument) else "")
    kinds = frozenset(re.findall("[A-Z]+", metavar)) & (FILES | set(WORDS))
    if kinds and type(param.type) is click.types.StringParamType:
        param.type = _Text(kinds)
    return param


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the script that makes SHELL complete rtpsp's commands, options, choices and files.

    \b
    bash:  eval "$(rtpsp completion bash)"     at the end of ~/.bashrc (bash 4.4 or newer)
    zsh:   eval "$(rtpsp completion zsh)"      at the end of ~/.zshrc, after compinit
    fish:  rtpsp completion fish > ~/.config/fish/completions/rtpsp.fish

    It holds from the next shell on.
    """
    known = get_completion_class(shell)
    assert known is not None  # click has all three
    click.echo(known(ctx.find_root().command, {}, "rtpsp", COMPLETE).source())
