"""``rtpsp doctor``."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from rtpsp.cli.console import stderr, stdout
from rtpsp.cli.outputs import STDOUT, check_writable, json_option, write_json
from rtpsp.doctor import Diagnosis, Finding, diagnose
from rtpsp.errors import MissingError

_STYLES = {"ok": "green", "warning": "yellow", "missing": "dim", "error": "bold red"}


@click.command("doctor")
@click.option("--quick", is_flag=True, help="Do not open the cameras.")
@json_option
@click.pass_context
def command(ctx: click.Context, json_path: Path | None, quick: bool) -> None:
    """Say what this machine can do for rtpsp, and the fix for each thing that it cannot.

    Nothing is installed, built or sent; each camera is opened for one frame. Every line is one of: ok; warning, it
    works but you will feel it; absent, optional and not there; error, rtpsp cannot do its work without it. The report
    names neither you nor your home folder, so that it can be pasted into an issue.

    Exit code 0 when rtpsp can do its main job here, which is to run a model on the CPU from video to video; 4 when
    something that it needs for that is missing or broken.
    """
    check_writable(json_path)
    diagnosis = _diagnose(quick)
    if json_path:
        write_json(json_path, diagnosis.to_dict())
    if json_path != STDOUT:
        _print(diagnosis)
    ctx.exit(0 if diagnosis.ready else MissingError.exit_code)


def _diagnose(quick: bool) -> Diagnosis:
    progress = Progress(
        TextColumn("looking at"),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=stderr,
        transient=True,
        disable=not stderr.is_terminal,
    )
    with progress:
        task = progress.add_task("", total=None)
        return diagnose(
            quick, lambda title, done, total: progress.update(task, description=title, completed=done, total=total)
        )


def _print(diagnosis: Diagnosis) -> None:
    for group, findings in groupby(diagnosis.findings, key=lambda finding: finding.group):
        stdout.print(Text(group, style="bold"))
        stdout.print(_table(list(findings), max(len(finding.name) for finding in diagnosis.findings)))
    stdout.print()
    stdout.print(Text(diagnosis.verdict, style="green" if diagnosis.ready else "bold red"))
    if diagnosis.ready:
        stdout.print(f"Try it: {_first_command(diagnosis)}", markup=False, soft_wrap=True)


def _first_command(diagnosis: Diagnosis) -> str:
    there = {finding.name for finding in diagnosis.findings if finding.state == "ok"}
    source = "--camera" if "camera" in there else "--source 'sim://street?frames=150'"
    return f"rtpsp run {source}{'' if 'window' in there else ' --output demo.mp4'}"


def _table(findings: list[Finding], width: int) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(min_width=len("  warning"))
    table.add_column(min_width=width, no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        told = Text(finding.found)
        if finding.fix:
            told.append(f"\nfix: {finding.fix}", style="cyan")
        state = "absent" if finding.state == "missing" else finding.state  # in the table it looked like a fault
        table.add_row(Text(f"  {state}", style=_STYLES[finding.state]), finding.name, told)
    return table
