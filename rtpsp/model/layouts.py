"""Key layouts of PSPNet checkpoints, and their conversion into ours by renaming entries.

Sources: hszhao/semseg ``model/pspnet.py`` and ``model/resnet.py``; open-mmlab/mmsegmentation
``mmseg/models/backbones/resnet.py``, ``decode_heads/psp_head.py``, ``decode_heads/fcn_head.py`` and
``configs/_base_/models/pspnet_r50-d8.py``; qubvel-org/segmentation_models.pytorch ``decoders/pspnet/decoder.py`` and
``base/heads.py``; pytorch/vision ``torchvision/models/resnet.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from rtpsp.model.arch import ARCHS, BINS, PLANES, Arch, Block, Form

PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "segmentor.", "ema_model.", "ema.", "student.")
"""What wrappers put before every key: DataParallel, torch.compile, Lightning modules, averages of weights."""

BACKBONE_PREFIXES = ("backbone.", "encoder.")
_STEM = {"0": "conv1", "1": "bn1", "3": "conv2", "4": "bn2", "6": "conv3", "7": "bn3"}  # places in a Sequential


@dataclass(frozen=True)
class Layout:
    """How one code base names the tensors of a PSPNet, and what belongs to these names.

    Attributes:
        name: As it is told.
        marks: Entries that tell it from the others.
        rules: Pairs of a pattern and what takes its place, at the beginning of a name; the first that fits counts.
        form: What cannot be told from shapes.
        rest: Pixels by which the sides of its images exceed a multiple of the output stride; None for any.
        strides: Output strides that it may have, the usual one first.
        light: Its encoder may end early; it is strided to its end and never dilated, which gives the output stride.
        whole: It is a network; otherwise a backbone, for a training to begin with.
    """

    name: str
    marks: tuple[str, ...]
    rules: tuple[tuple[str, str], ...]
    form: Form = field(default_factory=Form)
    rest: int | None = None
    strides: tuple[int, ...] = (8,)
    light: bool = False
    whole: bool = True

    def renamed(self, key: str) -> str | None:
        """Our name for an entry; None where it has none."""
        for pattern, ours in self.rules:
            if re.match(pattern, key):
                return re.sub(pattern, ours, key, count=1)
        return None


def _stem(prefix: str) -> tuple[tuple[str, str], ...]:
    return tuple((rf"^{re.escape(prefix)}{place}\.", f"backbone.{name}.") for place, name in _STEM.items())


LAYOUTS = (
    Layout(
        "rtpsp",
        ("backbone.conv1.weight", "pyramid.0.conv.weight", "head.classifier.weight"),
        ((r"^(backbone|pyramid|head|aux)\.", r"\1."),),
        strides=(8, 16),
    ),
    Layout(
        "semseg",
        ("layer0.0.weight", "ppm.features.0.1.weight", "cls.4.weight"),
        (
            *_stem("layer0."),
            (r"^(layer[1-4]\.)", r"backbone.\1"),
            (r"^ppm\.features\.(\d+)\.1\.", r"pyramid.\1.conv."),
            (r"^ppm\.features\.(\d+)\.2\.", r"pyramid.\1.bn."),
            (r"^cls\.0\.", "head.conv."),
            (r"^cls\.1\.", "head.bn."),
            (r"^cls\.4\.", "head.classifier."),
            (r"^aux\.0\.", "aux.conv."),
            (r"^aux\.1\.", "aux.bn."),
            (r"^aux\.4\.", "aux.classifier."),
        ),
        Form(align_corners=True),
        rest=1,
    ),
    Layout(
        "mmsegmentation",
        ("backbone.layer1.0.conv1.weight", "decode_head.psp_modules.0.1.conv.weight", "decode_head.conv_seg.weight"),
        (
            *_stem("backbone.stem."),
            (r"^backbone\.", "backbone."),
            (r"^decode_head\.psp_modules\.(\d+)\.1\.(conv|bn)\.", r"pyramid.\1.\2."),
            (r"^decode_head\.bottleneck\.(conv|bn)\.", r"head.\1."),
            (r"^decode_head\.conv_seg\.", "head.classifier."),
            (r"^auxiliary_head\.convs\.0\.(conv|bn)\.", r"aux.\1."),
            (r"^auxiliary_head\.conv_seg\.", "aux.classifier."),
        ),
        Form(dilation="contracted"),
        strides=(8, 16, 32),
    ),
    Layout(
        "segmentation_models_pytorch",
        ("encoder.conv1.weight", "decoder.psp.blocks.0.pool.1.0.weight", "segmentation_head.0.weight"),
        (
            (r"^encoder\.", "backbone."),
            (r"^decoder\.psp\.blocks\.(\d+)\.pool\.1\.0\.", r"pyramid.\1.conv."),
            (r"^decoder\.psp\.blocks\.(\d+)\.pool\.1\.1\.", r"pyramid.\1.bn."),
            (r"^decoder\.conv\.0\.", "head.conv."),
            (r"^decoder\.conv\.1\.", "head.bn."),
            (r"^segmentation_head\.0\.", "head.classifier."),
        ),
        Form(align_corners=True, features_last=True, plain_bin1=True, fusion=1, classifier=3, dropout=0.2),
        rest=0,
        strides=(8, 16, 32),
        light=True,
    ),
    Layout(
        "ResNet backbone",
        ("layer1.0.conv1.weight", "layer1.0.bn1.weight"),
        (*_stem("stem."), (r"^((conv|bn)[1-3]|layer[1-4])\.", r"backbone.\1.")),
        whole=False,
    ),
)


@dataclass(frozen=True)
class Found:
    """A state dict whose layout is known.

    Attributes:
        layout: That layout.
        prefix: What stood before its names.
        tensors: By our names, also those that the network of this layout has no use for.
        ignored: Entries of the file that have no name of ours.
        names: What the file calls an entry, by our name.
    """

    layout: Layout
    prefix: str
    tensors: dict[str, Tensor]
    ignored: tuple[str, ...]
    names: dict[str, str]


def find_layout(state: Mapping[str, Tensor]) -> Found | None:
    """The layout of a state dict, behind prefixes as the case may be; None for an unknown one."""
    for layouts, prefixes in (
        ([layout for layout in LAYOUTS if layout.whole], PREFIXES),
        ([layout for layout in LAYOUTS if not layout.whole], (*PREFIXES, *BACKBONE_PREFIXES)),
    ):
        for prefix in _prefixes(state, prefixes, depth=3):
            names = {key[len(prefix) :]: key for key in state if key.startswith(prefix)}
            layout = next((layout for layout in layouts if all(mark in names for mark in layout.marks)), None)
            if layout is not None:
                keys = {ours: key for name, key in names.items() if (ours := layout.renamed(name))}
                tensors = {ours: state[key] for ours, key in keys.items()}
                rest = [key for key in state if not key.startswith(prefix) or not layout.renamed(key[len(prefix) :])]
                return Found(layout, prefix, tensors, tuple(rest), keys)
    return None


def _prefixes(state: Mapping[str, Tensor], known: tuple[str, ...], depth: int, before: str = "") -> Iterator[str]:
    """Every chain of prefixes that some entry has, shorter ones first."""
    yield before
    if depth:
        for prefix in known:
            if any(key.startswith(before + prefix) for key in state):
                yield from _prefixes(state, known, depth - 1, before + prefix)


@dataclass(frozen=True)
class Network:
    """What network a state dict is of, as far as its shapes and its layout tell.

    Attributes:
        arch: Row of the architecture table, with widths and form as in the file.
        classes: What its classifier gives.
        inputs: Planes of its images.
        output_stride: Of its layout, the usual one.
    """

    arch: Arch
    classes: int
    inputs: int
    output_stride: int


def read_network(found: Found) -> Network | str:
    """The network that a whole state dict is of, or in words why it is none that rtpsp has."""
    tensors = found.tensors
    names = (
        "backbone.conv1.weight", "backbone.layer1.0.conv1.weight", "head.conv.weight", "head.classifier.weight",
        *(f"pyramid.{level}.conv.weight" for level in range(len(BINS))),
    )  # fmt: skip
    deep = "backbone.conv2.weight" in tensors
    if deep:
        names = (*names, "backbone.conv2.weight", "backbone.conv3.weight")
    lacking = [name for name in names if name not in tensors or tensors[name].ndim != 4 or not tensors[name].numel()]
    if lacking or f"pyramid.{len(BINS)}.conv.weight" in tensors:
        levels = len({name.split(".")[1] for name in tensors if name.startswith("pyramid.")})
        return f"{lacking[0]} is missing" if lacking else f"its pyramid has {levels} levels, expected {len(BINS)}"
    shapes = {name: tuple(tensors[name].shape) for name in names}
    row = row_of(tensors)
    if row is None:
        return f"its encoder is no ResNet-18, -34, -50, -101 or -152 (blocks {list(blocks_of(tensors))})"
    width = shapes["backbone.layer1.0.conv1.weight"][0]
    channels = shapes["pyramid.0.conv.weight"][1]
    stages = next((count for count in (1, 2, 3, 4) if channels == width * (1 << (count - 1)) * _expansion(row)), None)
    if stages is None or (stages < 4 and not found.layout.light):
        return f"its pyramid reads {channels} channels, which no layer of its encoder gives"
    inputs = shapes["backbone.conv1.weight"][1]
    if inputs not in PLANES:
        return f"its images have {inputs} planes, expected 1, 3 or 4"
    fusion, classifier = shapes["head.conv.weight"][-1], shapes["head.classifier.weight"][-1]
    if (fusion, classifier) != (found.layout.form.fusion, found.layout.form.classifier):
        return f"its head has kernels of {fusion} and {classifier} pixels a side"
    branch = shapes["pyramid.0.conv.weight"][0]
    stem = tuple(shapes[f"backbone.conv{place}.weight"][0] for place in (1, 2, 3)) if deep else None
    form = replace(
        found.layout.form,
        stages=stages,
        stem=None if stem is None or stem == (width, width, 2 * width) else (stem[0], stem[1], stem[2]),
        branch_channels=None if branch == channels // len(BINS) else branch,
        auxiliary=found.layout.name == "rtpsp" or _has_auxiliary(tensors, channels),
    )
    arch = replace(
        row, stem="deep" if deep else "plain", head_channels=shapes["head.conv.weight"][0], width=width, form=form
    )
    stride = 1 << (stages + 1) if found.layout.light else found.layout.strides[0]
    return Network(arch, shapes["head.classifier.weight"][0], inputs, stride)


def without_unused(network: Network, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leaves out what an inference never reads: layers behind the last that is used, an auxiliary head of others."""
    form = network.arch.form
    unused = [f"backbone.layer{level}." for level in range(form.stages + 1, 5)] + ([] if form.auxiliary else ["aux."])
    return {name: value for name, value in tensors.items() if not name.startswith(tuple(unused))}


def row_of(tensors: Mapping[str, Tensor]) -> Arch | None:
    """The row of the table with a backbone's blocks; one that lacks its last layers has the first row that fits."""
    counts = blocks_of(tensors)
    while counts and not counts[-1]:
        counts = counts[:-1]
    rows = [row for row in ARCHS.values() if row.block == kind_of(tensors) and row.blocks[: len(counts)] == counts]
    return rows[0] if counts and rows else None


def kind_of(tensors: Mapping[str, Tensor]) -> Block:
    """The kind of a backbone's blocks."""
    return "bottleneck" if "backbone.layer1.0.conv3.weight" in tensors else "basic"


def blocks_of(tensors: Mapping[str, Tensor]) -> tuple[int, ...]:
    """How many blocks layer1 to layer4 have."""
    counts = []
    for level in range(1, 5):
        found = {name.split(".")[2] for name in tensors if name.startswith(f"backbone.layer{level}.")}
        counts.append(len(found))
    return tuple(counts)


def _expansion(row: Arch) -> int:
    return 1 if row.block == "basic" else 4


def _has_auxiliary(tensors: Mapping[str, Tensor], channels: int) -> bool:
    conv = tensors.get("aux.conv.weight")
    return conv is not None and tuple(conv.shape) == (channels // 8, channels // 2, 3, 3)
