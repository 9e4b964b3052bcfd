"""Weights for a training to begin with: from any PSPNet or ResNet that rtpsp recognises, as far as they fit."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from rtpsp.errors import ModelError
from rtpsp.labels import LabelSet
from rtpsp.model.hints import read_hints
from rtpsp.model.layouts import Found, blocks_of, find_layout, kind_of, row_of
from rtpsp.model.loading import COUNTER, check_finite, names_of, unknown
from rtpsp.model.pspnet import PSPNet
from rtpsp.model.state_dict import State, find_state
from rtpsp.model.state_file import read_file

STEM = "backbone.conv1.weight"
CLASSIFIERS = ("head.classifier.", "aux.classifier.")


@dataclass(frozen=True)
class Initialised:
    """What a network was given to begin with.

    Attributes:
        path: The file.
        layout: Of the file.
        loaded: Entries of the network that it filled.
        missing: Entries of the network left at random: those that the file has not, or has in another shape.
        ignored: Entries of the file that were not used.
        note: What was changed on the way; empty for nothing.
    """

    path: str
    layout: str
    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    ignored: tuple[str, ...]
    note: str = ""

    def told(self) -> str:
        """One short paragraph in words."""
        parts = [f"{self.path} ({self.layout}): loaded {len(self.loaded)} entries, {_places(self.loaded)}"]
        parts.append(f"left at random: {_places(self.missing)}" if self.missing else "nothing is left at random")
        if self.ignored:
            parts.append(f"of no use here: {_places(self.ignored)}")
        return "; ".join([*parts, *([self.note] if self.note else [])])


def initialise(model: PSPNet, path: str | os.PathLike[str], labels: LabelSet | None = None) -> Initialised:
    """Fills a network from a checkpoint, as far as names and shapes agree.

    A stem for other images than the network's is made to fit: for grey it is the sum over its planes, so that a grey
    image has the answer of its colour picture; a fourth plane begins with the mean of the first three; a grey stem is
    spread over three planes, a third each; planes beyond the network's are left out. Where the file names as many other
    classes, or the same in another order, both classifiers stay at random: their rows would be other classes'.

    Args:
        model: Changed in place; its training mode and device stay.
        path: A PSPNet of any layout that `rtpsp.model.layouts` has, or a ResNet in torchvision's naming, which may lack
            any part.
        labels: The network's classes; None where nobody knows them.

    Raises:
        ModelError: The file cannot be read, is of an unknown layout or another architecture, fits nowhere, or holds
            values that are no finite numbers.
        MissingError: The package safetensors is missing.
    """
    state = find_state(read_file(path))
    found = find_layout(state.tensors)
    if found is None:
        raise ModelError(f"{path}: {unknown(state.tensors, to_begin=True)}")
    _check_architecture(model, found, str(path))
    wanted = model.state_dict()
    given = dict(found.tensors)
    notes = []
    if STEM in given and given[STEM].ndim == 4 and given[STEM].shape[1] != model.inputs:
        notes.append(f"its stem for {given[STEM].shape[1]} planes was made one for {model.inputs}")
        given[STEM] = to_planes(given[STEM], model.inputs)
    if labels is not None and (other := _other_classes(state, given, labels)):
        notes.append(f"{other}, so the classifiers begin at random")
        given = {name: value for name, value in given.items() if not name.startswith(CLASSIFIERS)}
    fitting = {name: value for name, value in given.items() if name in wanted and wanted[name].shape == value.shape}
    if not any(value.ndim == 4 for value in fitting.values()):
        raise ModelError(
            f"{path}: not one convolution fits a {model.arch.name}: give a checkpoint of that architecture"
        )
    check_finite(fitting, str(path))
    model.load_state_dict(fitting, strict=False)
    unused = tuple(found.names[name] for name in found.tensors if name not in fitting)
    missing = tuple(name for name in wanted if name not in fitting and not name.endswith(COUNTER))
    return Initialised(
        str(path),
        found.layout.name,
        tuple(fitting),
        missing,
        (*found.ignored, *unused, *state.others),
        "; ".join(notes),
    )


def _other_classes(state: State, tensors: Mapping[str, Tensor], labels: LabelSet) -> str:
    """How the classes of a file differ from as many of ours, in words; empty where they do not, or it names none."""
    classifier = tensors.get("head.classifier.weight")
    if classifier is None or len(classifier) != len(labels):
        return ""
    try:
        hints = read_hints(state.beside, len(classifier))
    except ModelError:  # a spec that cannot be read names nothing
        return ""
    its = hints.spec.labels if hints.spec is not None else hints.labels
    if its is None or [name.casefold() for name in its.names] == [name.casefold() for name in labels.names]:
        return ""
    same = {*map(str.casefold, its.names)} == {*map(str.casefold, labels.names)}
    what = "these in another order" if same else "others"
    return f"its classes are {what} (it says {names_of(its)}; here {names_of(labels)})"


def to_planes(stem: Tensor, planes: int) -> Tensor:
    """A stem's weights for images of another number of planes.

    Args:
        stem: float [M, C, kh, kw], C 1, 3 or 4.
        planes: 1, 3 or 4.

    Returns:
        float [M, planes, kh, kw].
    """
    have = stem.shape[1]
    if planes == 1:
        return stem[:, :3].sum(1, keepdim=True)
    colour = stem[:, :3] if have >= 3 else stem[:, :1].expand(-1, 3, -1, -1) / 3
    if planes == 3:
        return colour.contiguous()
    return torch.cat([colour, stem[:, 3:4] if have == 4 else colour.mean(1, keepdim=True)], dim=1)


def _check_architecture(model: PSPNet, found: Found, path: str) -> None:
    kind, counts, arch = kind_of(found.tensors), blocks_of(found.tensors), model.arch
    row = row_of(found.tensors)
    whole = row is not None and counts == row.blocks
    if kind == arch.block and (counts == arch.blocks if whole else _within(counts, arch.blocks)):
        return
    what = f"of a {row.name}" if whole and row is not None else f"of {kind} blocks, {list(counts)} a layer"
    raise ModelError(
        f"{path}: its backbone is {what}, the network's a {arch.name}'s ({arch.block} blocks, {list(arch.blocks)} a "
        f"layer): give a checkpoint of the same depth"
    )


def _within(counts: Iterable[int], limits: Iterable[int]) -> bool:
    return all(count <= limit for count, limit in zip(counts, limits, strict=True))


def _places(names: Iterable[str]) -> str:
    """Entries by the part of a network that they lie in: ``backbone.layer1 (24), head (7)``."""
    places: dict[str, int] = {}
    for name in names:
        parts = name.split(".")
        place = ".".join(parts[:2]) if parts[0] in ("backbone", "decode_head", "encoder") else parts[0]
        places[place] = places.get(place, 0) + 1
    return ", ".join(f"{place} ({count})" for place, count in places.items())
