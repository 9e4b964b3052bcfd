"""From what torch's exporter writes to a model file's graph: small, readable, without traces of this machine."""

from __future__ import annotations

import ast
import contextlib
import logging
import warnings
from collections import Counter
from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

IR_VERSION = 9  # the ONNX IR that came with opset 19


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps the exporter's notes on torchvision's operators and its uses of deprecated calls from users: not theirs."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for category in (FutureWarning, DeprecationWarning, UserWarning):
                warnings.simplefilter("ignore", category)
            yield
    finally:
        logger.setLevel(level)


def simplify(model: ir.Model) -> None:
    """Folds what the exporter left to compute at run time although it is constant."""
    from onnxscript import optimizer

    optimizer.fold_constants(model)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    for node in model.graph:
        bias = node.inputs[2] if node.op_type == "Conv" and len(node.inputs) > 2 else None
        if bias is not None and bias.const_value is not None and not bias.const_value.numpy().any():
            node.resize_inputs(2)  # the exporter gives every convolution a bias, of zeros where the module has none
    common.RemoveUnusedNodesPass()(model)


def name_after_modules(model: ir.Model) -> None:
    """Names nodes and tensors after the module that made them: ``backbone/layer1/0/conv1``."""
    used: Counter[str] = Counter()
    kept = {*model.graph.inputs, *model.graph.outputs}
    for node in model.graph:
        name = _scope(node)
        used[name] += 1
        node.name = name if used[name] == 1 else f"{name}_{used[name] - 1}"
        for position, output in enumerate(node.outputs):
            if output not in kept:
                output.name = node.name if len(node.outputs) == 1 else f"{node.name}/{position}"
        for value in node.inputs:
            role = {"Resize": "sizes", "Split": "split"}.get(node.op_type)
            if role and value is not None and value.is_initializer() and len(value.uses()) == 1:
                value.name = f"{node.name}/{role}"


def _scope(node: ir.Node) -> str:
    """The path of the module behind a node, and the operator unless the module is nothing but that operator."""
    scopes, kinds = _listed(node, "pkg.torch.onnx.name_scopes"), _listed(node, "pkg.torch.onnx.class_hierarchy")
    if len(scopes) < 2:  # made by constant folding: it belongs where its input comes from
        producer = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
        scopes = [] if producer is None else _listed(producer, "pkg.torch.onnx.name_scopes")
        kinds = []
    module = scopes[-2].replace(".", "/") if len(scopes) > 1 else ""
    single = len(kinds) > 1 and kinds[-2].startswith("torch.nn.modules")
    return "/".join(filter(None, [module, "" if single else node.op_type.lower()]))


def _listed(node: ir.Node, key: str) -> list[str]:
    values: list[str] = ast.literal_eval(node.metadata_props.get(key, "[]"))
    return values


def strip(model: ir.Model) -> None:
    """Leaves nothing of the machine or the moment: source paths, stack traces, versions."""
    common.ClearMetadataAndDocStringPass()(model)
    model.graph.name, model.graph.doc_string = "pspnet", None
    model.producer_name, model.producer_version = "rtpsp", None
    model.ir_version = IR_VERSION
    for holder in (model, model.graph, *model.graph):
        holder.metadata_props.clear()
    for value in model.graph.initializers.values():
        value.metadata_props.clear()
        assert value.const_value is not None
        value.const_value = ir.tensor(value.const_value.numpy(), name=value.name)
    for value in (*model.graph.inputs, *(out for node in model.graph for out in node.outputs)):
        value.metadata_props.clear()
    used = {domain for domain in model.opset_imports if any(node.domain == domain for node in model.graph)}
    for domain in set(model.opset_imports) - used:
        del model.opset_imports[domain]


def store_fp16(model: ir.Model) -> None:
    """Stores convolution weights as FP16 behind a Cast; the rest is small or, as pooling matrices, must be exact."""
    for node in list(model.graph):
        if node.op_type != "Conv":
            continue
        weight = node.inputs[1]
        assert weight is not None and weight.const_value is not None and weight.name is not None
        array = weight.const_value.numpy()
        name = weight.name
        half = ir.Value(name=f"{name}.fp16", const_value=ir.tensor(array.astype(np.float16), name=f"{name}.fp16"))
        half.shape, half.dtype = weight.shape, ir.DataType.FLOAT16
        del model.graph.initializers[name]
        model.graph.register_initializer(half)
        full = ir.Value(name=name, shape=weight.shape, type=ir.TensorType(ir.DataType.FLOAT))
        cast = ir.node("Cast", [half], {"to": ir.DataType.FLOAT}, outputs=[full], name=f"{name}.fp32")
        model.graph.insert_before(node, cast)
        weight.replace_all_uses_with(full)
