"""``rtpsp inspect``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rtpsp.cli.console import stderr, stdout
from rtpsp.cli.outputs import STDOUT, check_outputs, json_option, write_json
from rtpsp.errors import RtpspError
from rtpsp.stream.names import expanded

if TYPE_CHECKING:
    from rich.table import Table

    from rtpsp.engine.tensorrt_layers import Layer
    from rtpsp.inspection import Inspection
    from rtpsp.spec import ModelSpec


@click.command("inspect")
@click.argument("file", type=click.Path(readable=False, path_type=Path))
@click.option(
    "--extract",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write an engine's bare payload to this file: a plan, for trtexec or Triton, or the lowered ONNX graph.",
)
@click.option(
    "--layers",
    is_flag=True,
    help="List the layers. Those of a TensorRT engine are told by TensorRT, which loads the plan for it: use it only "
    "on engines whose maker you trust.",
)
@json_option
def command(file: Path, json_path: Path | None, extract: Path | None, layers: bool) -> None:
    """Tell what FILE is, an engine or an ONNX model: its spec, what it was built for, and whether it runs here.

    Nothing of the file is run, so that one from elsewhere can be looked at safely; --layers makes an exception of
    TensorRT's engines. A file that does not serve here is still told about; only one that cannot be read ends with 3,
    and so does one whose layers cannot be listed, or with 4 where this machine lacks what lists them.
    """
    from rtpsp.inspection import inspect

    check_outputs({"--json": json_path, "--extract": extract}, {"the file": file})
    found = inspect(file)
    told = found.to_dict()
    if extract:
        from rtpsp.layers import extract as write_payload

        write_payload(file, Path(expanded(extract)))
    rows, failure = _layers(found) if layers else (None, None)
    if rows is not None:
        told["layers"] = [asdict(row) for row in rows]
    if json_path:
        write_json(json_path, told)
    if json_path != STDOUT:
        _print(found)
        if rows is not None:
            stdout.print(_layers_table(rows))
        if extract:
            _print_payload(found, extract)
    if failure:  # all else has been told
        raise failure


def _print_payload(found: Inspection, extract: Path) -> None:
    payload = found.facts["payload"]
    what = "a plan" if payload["kind"] == "plan" else "an ONNX graph"
    stdout.print(f"{extract}: {what}, {payload['bytes'] / 1e6:.1f} MB", markup=False, soft_wrap=True)


def _layers(found: Inspection) -> tuple[tuple[Layer, ...] | None, RtpspError | None]:
    """The layers, or why they cannot be told."""
    from rtpsp.layers import layers

    if found.kind == "engine" and found.facts["payload"]["kind"] == "plan" and found.serves:
        stderr.print("loading the plan to list its layers: a plan can run code of its maker's", markup=False)
    try:
        return layers(found.path), None
    except RtpspError as error:
        return None, error


def _layers_table(rows: Sequence[Layer]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, title=f"{len(rows)} layers", title_justify="left")
    for column in ("layer", "kind", "takes", "weights", "gives", "shape"):
        table.add_column(column, overflow="fold")
    for row in rows:
        shapes = ", ".join("x".join(map(str, shape)) for shape in row.shapes)
        cells = (row.name, row.kind, " ".join(row.inputs), row.weights, " ".join(row.outputs), shapes)
        table.add_row(*(Text("".join(letter if letter.isprintable() else "?" for letter in cell)) for cell in cells))
    return table


def _print(found: Inspection) -> None:
    facts = found.facts
    lines = [f"{found.path}: {_article(found.kind)}, {facts['bytes'] / 1e6:.1f} MB"]
    lines += _engine_lines(facts) if found.kind == "engine" else _model_lines(facts)
    if found.spec:
        lines += _spec_lines(found.spec)
    what = "runs here" if found.kind == "engine" else "can be built"
    lines.append(f"{what:<13}{'yes' if found.serves else 'no: ' + '; '.join(found.why_not)}")
    lines += [f"{'mind':<13}{warning}" for warning in found.warnings]
    lines.append(f"{'next':<13}{found.advice}")
    for line in lines:
        stdout.print(line, markup=False, soft_wrap=True)
    parts = (facts.get("int8") or {}).get("parts")
    if parts:
        from rtpsp.cli.build import parts_table
        from rtpsp.sensitivity import Part

        stdout.print(parts_table(map(Part.from_dict, parts)))


def _engine_lines(facts: dict[str, Any]) -> list[str]:
    built, payload = facts["built_for"], facts["payload"]
    parts = facts["versions"] | ({"NVIDIA's driver": built["driver"]} if built["driver"] else {})
    versions = ", ".join(f"{name} {version}" for name, version in parts.items())
    target = built["machine"] or "any machine"
    if built["compute_capabilities"]:
        target = f"{built['gpu'] or 'an NVIDIA GPU'}, {built['generations']}"
    else:
        target = f"any CPU that {facts['backend']} runs on (built on {target})"
    lines = [
        f"backend      {facts['backend']} in {facts['precision']}, batch {facts['batch']}, "
        f"{'with' if facts['confidence'] else 'without'} confidence",
        f"built for    {target}",
        f"built with   {versions or 'unknown'}",
        f"built from   {facts['model'] or 'a model'}, sha256 {facts['model_digest'][:16] or 'unknown'}",
        f"payload      {payload['kind']}, {payload['bytes'] / 1e6:.1f} MB, sha256 {payload['sha256'][:16]}",
    ]
    lines.insert(1, f"form         {facts['head']} head, class map by the {facts['tail']}")
    return lines + _int8_lines(facts)


def _int8_lines(facts: dict[str, Any]) -> list[str]:
    told, digest = facts["int8"], facts["calibration_digest"]
    if told is None:
        return [f"calibration  sha256 {digest[:16]}"] if digest else []
    from rtpsp.sensitivity import Cost

    frames = f" over {told['images']} frames" if told["images"] else ""
    lines = [f"integers     {told['integers']}; {told['method']} ranges{frames}, sha256 {(digest or 'unknown')[:16]}"]
    if told["cost"]:
        asked = f"; asked for {told['asked']}" if told["asked"] else ""
        lines.append(f"accuracy     {Cost.from_dict(told['cost'])}{asked}")
    return lines


def _model_lines(facts: dict[str, Any]) -> list[str]:
    operators = ", ".join(f"{count} {name}" for name, count in facts["operators"].items())
    weights = ", ".join(f"{_millions(count)} in {name}" for name, count in facts["weights"].items())
    return [
        f"input        {'; '.join(facts['inputs']) or 'none'}",
        f"output       {'; '.join(facts['outputs'])}",
        f"graph        {facts['nodes']} nodes, opset {facts['opset']}: {operators}",
        f"weights      {weights or 'none'}",
        f"made by      {facts['producer'] or 'unknown'}; sha256 {facts['sha256'][:16]}",
    ]


def _spec_lines(spec: ModelSpec) -> list[str]:
    lines = [
        f"spec         {spec.name}: {spec.arch}, {spec.height}x{spec.width}, output stride {spec.output_stride}",
        f"frames       {spec.fit}, {spec.resize}; {spec.channels}, mean {_values(spec.mean)}, std {_values(spec.std)}",
        f"classes      {len(spec.labels)} ({spec.labels.name}): {', '.join(spec.labels.names)}",
    ]
    if spec.licence:
        lines.append(f"licence      {spec.licence}")
    return lines


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} million" if count >= 10_000 else str(count)


def _values(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)


def _article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
