"""Checkpoints of PSPNets, ours and those of others: recognised, checked, loaded, or refused with the reason."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rtpsp.errors import ModelError, UsageError
from rtpsp.model.hints import Hints, read_hints
from rtpsp.model.layouts import Found, Layout, Network, find_layout, read_network, without_unused
from rtpsp.model.loading import AUXILIARY, COUNTER, LISTED, check_fit, unknown
from rtpsp.model.loading import load_state as load_state
from rtpsp.model.pspnet import PSPNet, build
from rtpsp.model.state_dict import State, find_state, some
from rtpsp.model.state_file import read_file

WRAPPER_PREFIX = "module."  # what nn.DataParallel puts before every key
MMSEG_THRESHOLD = 0.3  # of a single logit: mmsegmentation's decode_head.py


@dataclass(frozen=True)
class Checkpoint:
    """A trained PSPNet and what its file says of it.

    Attributes:
        path: The file.
        model: In eval mode, float32, on the CPU.
        layout: Of the file.
        hints: What the training left beside the weights.
        found: Keys of the file that led to the state dict.
        ignored: Entries of the file that were not loaded, as the file names them.
        missing: Entries of the model that the file has not: of the auxiliary head.
        foreign: Names of classes in the file that were not looked up.
        notes: What was changed or assumed, a sentence each.
    """

    path: str
    model: PSPNet
    layout: Layout
    hints: Hints
    found: tuple[str, ...]
    ignored: tuple[str, ...]
    missing: tuple[str, ...]
    foreign: tuple[str, ...]
    notes: tuple[str, ...]

    def told(self) -> str:
        """What was recognised, loaded, ignored and missing; a line each."""
        model = self.model
        planes = "" if model.inputs == 3 else f", {model.inputs}-plane images"
        lines = [
            f"recognised: {model.arch.name} in {self.layout.name}'s layout, {model.classes} classes{planes}, output "
            f"stride {model.output_stride}"
        ]
        where = f" from {'.'.join(self.found)}" if self.found else ""
        held = len(model.state_dict()) - len(self.missing)
        lines.append(f"loaded: {held} entries{where}")
        if self.ignored:
            why = f": {self.layout.name}'s PSPNet of this depth never reads them" if self._ends_early() else ""
            lines.append(f"ignored: {some(self.ignored)}{why}")
        if self.missing:
            lines.append(f"missing: {some(self.missing)}, which training alone needs")
        if self.foreign:
            lines.append(
                f"not looked up: {', '.join(self.foreign[:LISTED])}" + (", ..." * (len(self.foreign) > LISTED))
            )
        return "\n".join([*lines, *self.notes])

    def _ends_early(self) -> bool:
        """All that is ignored lies behind the last layer of the encoder that the pyramid reads."""
        behind = tuple(f".layer{level}." for level in range(self.model.arch.form.stages + 1, 5))
        return bool(behind) and all(any(mark in name for mark in behind) for name in self.ignored)

    def check_size(self, size: tuple[int, int]) -> None:
        """Make sure that images of a size suit the code base that the network was trained in.

        Args:
            size: Height and width in pixels.

        Raises:
            UsageError: They do not; the next sizes that do are named.
        """
        rest, stride = self.layout.rest, self.model.output_stride
        if rest is None or all(side % stride == rest for side in size):
            return
        near = "x".join(str(max(round((side - rest) / stride), 1) * stride + rest) for side in size)
        rule = f"a multiple of {stride}" + (f" and {rest} more" if rest else "")
        raise UsageError(f"size is {size[0]}x{size[1]}: images of {self.layout.name} have sides of {rule}: give {near}")


def open_checkpoint(
    path: str | os.PathLike[str],
    *,
    arch: str | None = None,
    output_stride: int | None = None,
    align_corners: bool | None = None,
) -> Checkpoint:
    """A trained PSPNet of any layout that rtpsp knows (`rtpsp.model.layouts`).

    Args:
        path: A file of ``torch.save`` or a safetensors file.
        arch: What it should be; a name in `rtpsp.model.arch.ARCHS`.
        output_stride: Where the layout allows several; default what the file says, else the usual one.
        align_corners: How it upsamples; default what the file says, else what its layout does.

    Raises:
        ModelError: The file cannot be read, is of an unknown layout or another architecture, or lacks something.
        UsageError: Unknown architecture or stride.
        MissingError: The package safetensors is missing.
    """
    state = find_state(read_file(path))
    found = find_layout(state.tensors)
    if found is None:
        raise ModelError(f"{path}: {unknown(state.tensors)}")
    if not found.layout.whole:
        raise ModelError(
            f"{path}: a ResNet backbone without a pyramid: train a PSPNet that begins with it (rtpsp train --init)"
        )
    network = read_network(found)
    if isinstance(network, str):
        raise ModelError(f"{path}: a PSPNet in {found.layout.name}'s layout, but {network}")
    if arch is not None and arch != network.arch.name:
        build(arch, 1)  # an unknown name is the user's mistake, not the file's
        raise ModelError(f"{path}: not a {arch}: it is a {network.arch.name} with {network.classes} classes")
    try:
        hints = read_hints(state.beside, network.classes)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    notes: list[str] = []
    network = _adapted(found, network, hints, output_stride, align_corners, notes)
    tensors = without_unused(network, found.tensors)
    if network.classes == 1 and found.layout.name != "rtpsp":
        tensors, threshold = _with_two_classes(tensors, found, hints)
        network = replace(network, classes=2)
        notes.append(f"its one logit is taken for two classes, the second one from a probability of {threshold:g} on")
    shape = (network.arch, network.classes, network.output_stride, network.inputs)
    with torch.device("meta"):  # first: widths that single entries claim may make a network larger than the memory
        check_fit(build(*shape), tensors, str(path))
    model = build(*shape)
    load_state(model, tensors, str(path))
    return _checkpoint(path, model, state, found, hints, tensors, notes)


def _checkpoint(
    path: str | os.PathLike[str],
    model: PSPNet,
    state: State,
    found: Found,
    hints: Hints,
    tensors: Mapping[str, Tensor],
    notes: list[str],
) -> Checkpoint:
    unused = tuple(found.names[name] for name in found.tensors if name not in tensors)
    missing = tuple(name for name in model.state_dict() if name not in tensors and not name.endswith(COUNTER))
    ignored = (*found.ignored, *unused, *state.others)
    return Checkpoint(
        str(path), model.eval(), found.layout, hints, state.found, ignored, missing, state.foreign, tuple(notes)
    )


def _adapted(
    found: Found, network: Network, hints: Hints, stride: int | None, align_corners: bool | None, notes: list[str]
) -> Network:
    """The network with what its file or its user says that shapes do not tell."""
    layout, form = found.layout, network.arch.form
    dilations = None
    usual = network.output_stride
    if hints.spec is not None:
        usual = hints.spec.output_stride
    elif hints.strides is not None and not layout.light:
        usual = 4 * math.prod(hints.strides)
        dilations = None if hints.dilations is None else (hints.dilations[2], hints.dilations[3])
    allowed = (network.output_stride,) if layout.light else layout.strides
    chosen = usual if stride is None else stride
    if chosen not in allowed:
        raise UsageError(
            f"output stride is {chosen}, expected {' or '.join(map(str, allowed))} for a checkpoint of {layout.name}"
        )
    if stride is not None and stride != usual and (hints.spec or hints.strides):
        notes.append(f"output stride {stride} was given, the file says {usual}")
    if layout.name == "mmsegmentation":
        if dilations is None and chosen == 32:
            dilations = (2, 4)  # of its D32 configurations
        form = replace(form, dilations=dilations)
        if align_corners is None and hints.align_corners is None:
            notes.append(
                "assumed: align_corners false, as in all of mmsegmentation's PSPNets but those of 769x769, because the "
                "file has no configuration"
            )
    aligned = align_corners if align_corners is not None else hints.align_corners
    if aligned is not None:
        form = replace(form, align_corners=aligned)
    return replace(network, arch=replace(network.arch, form=form), output_stride=chosen)


def _with_two_classes(tensors: Mapping[str, Tensor], found: Found, hints: Hints) -> tuple[dict[str, Tensor], float]:
    """A classifier of one logit z as one of two: softmax of (log(t / (1 - t)), z) is largest where sigmoid(z) > t."""
    threshold = hints.threshold or (MMSEG_THRESHOLD if found.layout.name == "mmsegmentation" else 0.5)
    made = {name: value for name, value in tensors.items() if not name.startswith(AUXILIARY)}
    weight, bias = made["head.classifier.weight"], made["head.classifier.bias"]
    made["head.classifier.weight"] = torch.cat([torch.zeros_like(weight), weight])
    made["head.classifier.bias"] = torch.cat([torch.full_like(bias, math.log(threshold / (1 - threshold))), bias])
    return made, threshold


def load_checkpoint(path: str | os.PathLike[str], arch: str, classes: int, output_stride: int = 8) -> PSPNet:
    """A trained PSPNet in eval mode, float32, on the CPU.

    Args:
        path: A checkpoint, ours or one that `open_checkpoint` recognises.
        arch: Name in `rtpsp.model.arch.ARCHS`.
        classes: How many classes it tells apart.
        output_stride: 8 or 16; a state dict fits both, so it cannot be checked.

    Raises:
        ModelError: The file cannot be read, or is not a state dict of this architecture and class count.
        UsageError: Unknown architecture or stride.
        MissingError: The package safetensors is missing.
    """
    state = read_state_dict(path)
    found = find_layout(state)
    if found is None or not found.layout.whole or found.layout.name == "rtpsp":
        prefix = found.prefix if found is not None else ""
        model = build(arch, classes, output_stride)
        load_state(model, {key.removeprefix(prefix): value for key, value in state.items()}, str(path))
        return model.eval()
    model = open_checkpoint(path, arch=arch, output_stride=output_stride).model
    if model.classes != classes:
        raise ModelError(f"{path}: it has {model.classes} classes, expected {classes}: give its own label set")
    return model


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Tensors by name from a checkpoint file, floats as float32; no code of the file is run.

    Raises:
        ModelError: No such file, damaged, one that would run code, or without a state dict.
        MissingError: The package safetensors is missing.
    """
    state = find_state(read_file(path))
    return {key.removeprefix(WRAPPER_PREFIX): value for key, value in state.tensors.items()}
