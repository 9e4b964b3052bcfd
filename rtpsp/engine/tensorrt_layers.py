"""What TensorRT made of a graph, layer by layer, as its engine inspector tells it.

The inspector's JSON changed in TensorRT 11: ``Bindings`` became ``I/O Tensors``, and a tensor's ``Format/Datatype``
became ``Format`` and ``DataType``. Both are read here. How much stands in it depends on the plan: one that was not
built with detailed verbosity names its layers and says nothing else of them.
https://docs.nvidia.com/deeplearning/tensorrt/11.3.0/api/migration/tensorrt-10x-to-11x-IEngineInspector.html
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_FORMATS = (
    ("int8", "i8"), ("fp8", "f8"), ("int4", "i4"), ("bf16", "bf16"), ("bfloat16", "bf16"), ("fp16", "f16"),
    ("half", "f16"), ("fp32", "f32"), ("float", "f32"), ("uint8", "u8"), ("int32", "i32"), ("int64", "i64"),
    ("bool", "bool"),
)  # fmt: skip
"""TensorRT's words for number formats, and ours; ``uint8`` holds ``int8``, so whole words are looked for."""


@dataclass(frozen=True)
class Layer:
    """A layer of a plan.

    Attributes:
        name: TensorRT's name of it: those of the graph's nodes that it fused.
        kind: TensorRT's name of what it does, such as ``CaskConvolution`` or ``Reformat``; empty where it is not told.
        inputs: Number formats of its inputs, such as ``f16`` or ``i8``.
        outputs: Number formats of its outputs.
        shapes: Shapes of its outputs.
        weights: Number format of its weights; empty where it has none.
        tactic: Name of the kernel that was chosen; empty where it is not told.
    """

    name: str
    kind: str = ""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    shapes: tuple[tuple[int, ...], ...] = ()
    weights: str = ""
    tactic: str = ""

    @property
    def convolves(self) -> bool:
        """Whether it is a convolution, perhaps with more fused into it."""
        return "convolution" in self.kind.lower() or bool(self.weights and "conv" in self.name.lower())


def parse_layers(information: str) -> list[Layer]:
    """The layers in what ``EngineInspector.get_engine_information`` gives as JSON, of TensorRT 10, 11 and RTX alike.

    What is not JSON, or not of this form, has no layers: it is a report that nothing depends on.
    """
    try:
        values = json.loads(information)
    except ValueError:
        return []
    layers = values.get("Layers", []) if isinstance(values, dict) else []
    return [_layer(layer) for layer in layers if isinstance(layer, dict | str)] if isinstance(layers, list) else []


def convolutions_ran(layers: Sequence[Layer]) -> str:
    """Number format that most convolutions take: ``i8``, ``f16``, ``f32``, or ``tf32`` where their kernels say so.

    Empty where the plan does not tell.
    """
    formats = Counter(layer.inputs[0] for layer in layers if layer.convolves and layer.inputs)
    if not formats:
        return ""
    most = formats.most_common(1)[0][0]
    told = [layer.tactic.lower() for layer in layers if layer.convolves and layer.inputs[:1] == ("f32",)]
    return "tf32" if most == "f32" and sum("tf32" in tactic for tactic in told) * 2 > len(told) else most


def _layer(layer: Mapping[str, Any] | str) -> Layer:
    if isinstance(layer, str):
        return Layer(layer)
    inputs, outputs = (_dicts(layer.get(side)) for side in ("Inputs", "Outputs"))
    weights = layer.get("Weights")
    return Layer(
        name=str(layer.get("Name", "")),
        kind=str(layer.get("LayerType", "")),
        inputs=tuple(_format(tensor) for tensor in inputs),
        outputs=tuple(_format(tensor) for tensor in outputs),
        shapes=tuple(tuple(map(int, tensor.get("Dimensions", ()))) for tensor in outputs),
        weights=_word(str(weights.get("Type", ""))) if isinstance(weights, dict) and weights.get("Count") else "",
        tactic=str(layer.get("TacticName", "")),
    )


def _dicts(values: Any) -> list[Mapping[str, Any]]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def _format(tensor: Mapping[str, Any]) -> str:
    named = {key.lower(): str(value) for key, value in tensor.items()}
    return _word(named.get("datatype") or named.get("format/datatype") or named.get("format", ""))


def _word(text: str) -> str:
    """Our word for a number format in text such as ``Half`` or ``Channel major FP16 format where channel % 8 == 0``."""
    words = set(re.findall(r"[a-z0-9]+", text.lower()))
    return next((ours for theirs, ours in _FORMATS if theirs in words), text)
