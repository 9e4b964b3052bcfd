"""The verbs, and what every one of them has: --config, --dump-config, -v, --debug, a help in sections, completion."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from rtpsp.cli import _signals, config, logs
from rtpsp.cli.completion import with_completion

VERBS = {
    "run": ("rtpsp.cli.run", "Segment a camera, a video, images or the simulator."),
    "export": ("rtpsp.cli.export", "Turn a PyTorch checkpoint into an ONNX model that knows its size and classes."),
    "build-engine": ("rtpsp.cli.build", "Turn an ONNX PSPNet into an engine."),
    "train": ("rtpsp.cli.train", "Train a PSPNet on images and their labels."),
    "eval": ("rtpsp.cli.evaluate", "Measure an engine's accuracy on labelled images."),
    "compare": ("rtpsp.cli.compare", "Hold two engines against each other: answers, accuracy, speed."),
    "bench": ("rtpsp.cli.bench", "Measure an engine's latency and the live loop's rate."),
    "inspect": ("rtpsp.cli.inspect", "Tell what is inside an engine or a model file."),
    "calib": ("rtpsp.cli.calib", "Tell what a calibration cache holds, or exchange it with TensorRT's tables."),
    "doctor": ("rtpsp.cli.doctor", "Say what this machine can do for rtpsp, and the fix for what it cannot."),
    "completion": ("rtpsp.cli.completion", "Print what makes a shell complete rtpsp's commands and options."),
}

_COMMON = "For every verb"


@dataclass
class Asked:
    """What was asked for beside a verb's own options, before or after the verb."""

    verbose: int = 0
    debug: bool = False
    log_format: logs.Format = "text"
    config: Path | None = None
    dump_config: bool = False
    when_working: _signals.Handler = None

    def take(self, given: Mapping[str, Any]) -> None:
        """Add what one half of the command line says; of two files the one after the verb is read."""
        self.verbose += given.get("verbose", 0)
        self.debug |= given.get("debug", False)
        self.dump_config |= given.get("dump_config", False)
        self.config = Path(given["config"]) if "config" in given else self.config
        if given.get("log_format") in logs.FORMATS:  # another one is an error of the parser's, a moment later
            self.log_format = given["log_format"]
        logs.configure(self.log_format, self.verbose)


def _common_options() -> list[click.Parameter]:
    return [
        click.Option(
            ["--config"],
            type=click.Path(dir_okay=False),
            expose_value=False,
            help="Take options from this TOML file; what the command line says wins. Without it no file is read.",
        ),
        click.Option(
            ["--dump-config"], is_flag=True, expose_value=False, help="Print the options as such a file; do nothing."
        ),
        click.Option(["-v", "--verbose"], count=True, expose_value=False, help="Say more; twice for everything."),
        click.Option(["--debug"], is_flag=True, expose_value=False, help="Show the traceback of an error."),
        click.Option(
            ["--log-format"],
            type=click.Choice(logs.FORMATS),
            expose_value=False,
            help="What goes to standard error: lines for people, or a JSON object a line.  [default: text]",
        ),
    ]


def _take(command: click.Command, ctx: click.Context, args: list[str]) -> dict[str, Any] | None:
    """Note the common options before any other is looked at: an error in one of those depends on them.

    Returns:
        The words that were given for each parameter; None where nothing is to be read, for help or for completion.
    """
    given, _, order = command.make_parser(ctx).parse_args(list(args))
    if ctx.resilient_parsing or command.get_help_option(ctx) in order:
        return None
    ctx.ensure_object(Asked).take(given)
    # click has an enum for an argument that was left out, and for an option that came without its optional value
    arguments = {param.name for param in command.params if isinstance(param, click.Argument)}
    return {name: value for name, value in given.items() if name not in arguments or not isinstance(value, Enum)}


class Verb(click.Command):
    """A verb's command with the common options.

    Args:
        command: As the verb's module has it.
        sections: Headings of its help, with the names of the parameters under each; others stand under *Options*.
        exclusive: Groups of parameters of which a command line has one: if it does, a file's others do not count.
        dependent: Parameters that only have a meaning with another one: they do not count when it does not.
    """

    def __init__(
        self,
        command: click.Command,
        sections: Mapping[str, Iterable[str]],
        exclusive: Iterable[Iterable[str]],
        dependent: Mapping[str, Iterable[str]],
    ) -> None:
        self.common = _common_options()
        super().__init__(
            command.name,
            context_settings=command.context_settings,
            callback=command.callback,
            params=[*map(with_completion, command.params), *self.common],
            help=command.help,
            epilog=command.epilog,
            short_help=command.short_help,
            no_args_is_help=command.no_args_is_help,
            hidden=command.hidden,
            deprecated=command.deprecated,
        )
        self.sections = {heading: tuple(names) for heading, names in sections.items()}
        self.exclusive = [frozenset(names) for names in exclusive]
        self.dependent = {owner: tuple(names) for owner, names in dependent.items()}

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the file's options behind those of the command line.

        Raises:
            InputError: The file cannot be read, or is not TOML.
            UsageError: It has what this verb does not take.
        """
        given = _take(self, ctx, args)
        if given is not None:
            ctx.meta["rtpsp.given"] = given
            asked = ctx.ensure_object(Asked)
            if asked.config is not None:
                filed = config.read(asked.config, ctx, VERBS)
                beaten = {name for names in self.exclusive if names & set(given) for name in names}
                beaten |= {name for owner in beaten - set(given) for name in self.dependent.get(owner, ())}
                ctx.default_map = {name: value for name, value in filed.items() if name not in beaten}
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Do what was asked for, or print it."""
        asked = ctx.ensure_object(Asked)
        if asked.dump_config:
            click.echo(config.dump(ctx, ctx.meta["rtpsp.given"]).encode(), nl=False)  # UTF-8, as TOML asks, everywhere
            return None
        if asked.when_working is not None:
            _signals.install(asked.when_working)
        return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The verb's own sections, then what every verb has."""
        heading_of = {name: heading for heading, names in self.sections.items() for name in names}
        rows: dict[str, list[tuple[str, str]]] = {name: [] for name in ("Options", *self.sections, _COMMON)}
        common = (*self.common, self.get_help_option(ctx))
        order = {name: place for place, name in enumerate(heading_of)}
        for param in sorted(self.get_params(ctx), key=lambda param: order.get(param.name or "", 0)):
            record = param.get_help_record(ctx)
            if record is not None and isinstance(param, click.Option):
                rows[_COMMON if param in common else heading_of.get(param.name or "", "Options")].append(record)
        width = min(max(len(name) for records in rows.values() for name, _ in records), 30)
        for heading, records in rows.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl([(name.ljust(width), text) for name, text in records])


class _Verbs(click.Group):
    """Loads a verb's module when the verb is used, so that ``rtpsp --help`` answers at once."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        _take(self, ctx, args)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(VERBS[cmd_name][0])
        return Verb(
            module.command,
            sections=getattr(module, "SECTIONS", {}),
            exclusive=getattr(module, "EXCLUSIVE", ()),
            dependent=getattr(module, "DEPENDENT", {}),
        )

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in VERBS and not args[0].startswith("-") and not ctx.resilient_parsing:
            near = [verb for verb in VERBS if verb.startswith(args[0])] or get_close_matches(args[0], VERBS, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(VERBS)}"
            raise click.UsageError(f"No such command {args[0]!r}: {hint}", ctx)
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        verbs = [CompletionItem(verb, help=text) for verb, (_, text) in VERBS.items() if verb.startswith(incomplete)]
        return verbs + click.Command.shell_complete(self, ctx, incomplete)  # the group's would import every verb

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(verb, summary) for verb, (_, summary) in VERBS.items()])


@click.command(
    cls=_Verbs,
    params=_common_options(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="rtpsp", message="%(prog)s %(version)s")
def group() -> None:
    """Real-time PSPNet segmentation.

    Exit codes: 0 done, 2 usage, 3 bad input, 4 something is missing on this machine, 5 the source was lost, 6 a bound
    was not met, 7 an output failed, 70 a bug in rtpsp, 130 Ctrl-C, 143 terminated, 129 hung up.
    """
