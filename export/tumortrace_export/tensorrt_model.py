"""ONNX for TensorRT's strongly typed networks, which run what the file says: FP16 outside Q/DQ, float32 at the ends."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from tumortrace_export.graph import DEQUANTISE, QUANTISE
from tumortrace_runtime.errors import ModelError
from tumortrace_runtime.files import write_bytes

OPSET = 19
"""The first in which Q/DQ scales may be FP16; TensorRT 10.3 reads it."""

SOURCE_OPSETS = (18, 19)
"""From 18 to 19 the operators of a U-Net gained types and options, and changed no meaning."""

IR_VERSION = 9
PRODUCER = "tumortrace"

SMALLEST_SCALE = float(np.finfo(np.float16).tiny)
"""FP16's smallest normal number: a scale below it loses digits, or is flushed to 0."""

FLOAT, FLOAT16 = TensorProto.FLOAT, TensorProto.FLOAT16
_SUFFIX: dict[int, str] = {FLOAT: "float32", FLOAT16: "float16"}


def to_strongly_typed(source: Path, path: Path, keep_float: Collection[str] = ()) -> None:
    """Write a model of opset 19 whose floating-point arithmetic is FP16; its input and output stay float32.

    Q/DQ scales keep their values exactly. The Q/DQ around a node in `keep_float` is FP32 with it, and so is one that
    takes the network's input as it comes, so that no Cast stands between them.

    Args:
        source: an FP32 model of opset 18 or 19, with or without explicit INT8 Q/DQ.
        path: where to write; the folder is made when it is missing.
        keep_float: names of nodes that run in FP32: those that make what FP16 cannot hold, and those that read it.

    Raises:
        ModelError: a scale is not a normal FP16 number, a weight overflows FP16, `keep_float` names no node, or the
            source is of another opset.
        OutputError: it could not be written.
    """
    model = onnx.load(source)
    try:
        _require_opset(model)
        graph = _Rewriter(onnx.shape_inference.infer_shapes(model, strict_mode=True).graph, keep_float).rewrite()
    except ModelError as problem:
        raise ModelError(f"{source}: {problem}") from problem
    typed = helper.make_model(
        graph, ir_version=IR_VERSION, producer_name=PRODUCER, opset_imports=[helper.make_opsetid("", OPSET)]
    )
    onnx.checker.check_model(typed, full_check=True)
    write_bytes(path, typed.SerializeToString(deterministic=True))


def _require_opset(model: onnx.ModelProto) -> None:
    version = {item.domain: item.version for item in model.opset_import}.get("")
    if version not in SOURCE_OPSETS:
        raise ModelError(f"opset {version}; {' or '.join(map(str, SOURCE_OPSETS))} wanted.")


class _Rewriter:
    """Writes a graph's nodes anew, in order; what a node makes has the node's precision.

    A tensor keeps its name in the first precision that it is needed in (the graph's ends: float32), and has a suffix
    in the other. Weights, scales and DequantizeLinear are written in each precision in which they are read; anything
    else goes through one Cast.
    """

    def __init__(self, source: onnx.GraphProto, keep_float: Collection[str]) -> None:
        ends = (*source.input, *source.output)
        typed = (*ends, *source.value_info)
        self._source = source
        self._kept = frozenset(keep_float)
        if unknown := sorted(self._kept - {node.name for node in source.node}):
            raise ModelError(f"keep_float names {unknown[0]!r}, which is no node of the model.")
        self._weights = {item.name: item for item in source.initializer}
        self._floats = {item.name for item in typed if item.type.tensor_type.elem_type == FLOAT}
        self._floats |= {item.name for item in source.initializer if item.data_type == FLOAT}
        self._scales = {node.input[1] for node in source.node if node.op_type in (QUANTISE, DEQUANTISE)}
        self._dequantise = {node.output[0]: node for node in source.node if node.op_type == DEQUANTISE}
        self._home: dict[str, int] = {item.name: FLOAT for item in ends}
        self._written = {item.name for item in source.input}
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[TensorProto] = []

    def rewrite(self) -> onnx.GraphProto:
        for node in self._source.node:
            if node.op_type != DEQUANTISE:  # those are written where they are read
                self._write_node(node, self._precision(node), node.name)
        for item in self._source.output:
            self._read(item.name, FLOAT)
        inputs, outputs = map(_bare, self._source.input), map(_bare, self._source.output)
        return helper.make_graph(self._nodes, self._source.name, list(inputs), list(outputs), self._initializers)

    def _precision(self, node: onnx.NodeProto) -> int:
        if node.op_type in (QUANTISE, "Cast"):  # which take either as it comes
            return self._home.get(node.input[0], FLOAT16)
        return FLOAT if node.name in self._kept else FLOAT16

    def _write_node(self, node: onnx.NodeProto, precision: int, name: str) -> None:
        inputs = [
            self._read(tensor, precision if _may_be_half(node, position) else FLOAT)
            for position, tensor in enumerate(node.input)
        ]
        outputs = [self._name(tensor, precision) for tensor in node.output]
        self._written.update(outputs)
        written = helper.make_node(node.op_type, inputs, outputs, name)
        written.attribute.extend(node.attribute)
        if node.op_type == "Cast" and node.output[0] in self._floats:
            written.attribute[0].i = precision
        self._nodes.append(written)

    def _read(self, tensor: str, precision: int) -> str:
        """The name of `tensor` in a precision, in which it is written first if it has not been."""
        name = self._name(tensor, precision)
        if not tensor or name in self._written:
            return name
        self._written.add(name)
        if tensor in self._weights:
            self._initializers.append(self._converted(self._weights[tensor], precision, name))
        elif tensor in self._dequantise:
            node = self._dequantise[tensor]
            self._write_node(node, precision, node.name if name == tensor else f"{node.name}_{_SUFFIX[precision]}")
        else:
            other = self._name(tensor, FLOAT if precision == FLOAT16 else FLOAT16)
            self._nodes.append(helper.make_node("Cast", [other], [name], name=f"{name}_Cast", to=precision))
        return name

    def _name(self, tensor: str, precision: int) -> str:
        if tensor not in self._floats:
            return tensor
        home = self._home.setdefault(tensor, precision)
        return tensor if precision == home else f"{tensor}_{_SUFFIX[precision]}"

    def _converted(self, weight: TensorProto, precision: int, name: str) -> TensorProto:
        values = numpy_helper.to_array(weight)
        if weight.data_type == FLOAT and precision == FLOAT16:
            values = _exact_scale(weight.name, values) if weight.name in self._scales else _half(weight.name, values)
        return numpy_helper.from_array(values, name)


def _exact_scale(name: str, scale: npt.NDArray[Any]) -> npt.NDArray[np.float16]:
    half = _half(name, scale)
    changed = (half != scale) | (scale < SMALLEST_SCALE)
    if changed.any():
        raise ModelError(
            f"the scale {name} holds {float(scale[changed].flat[0]):.9g}; a number wanted that FP16 holds exactly, "
            f"2^-14 or more: round scales before quantising with them."
        )
    return half


def _half(name: str, values: npt.NDArray[Any]) -> npt.NDArray[np.float16]:
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if not np.isfinite(half).all():
        raise ModelError(
            f"{name} holds {float(values[~np.isfinite(half)].flat[0]):.4g}, which FP16 cannot; the node that reads it "
            "must stay in float (keep_float)."
        )
    return half


def _may_be_half(node: onnx.NodeProto, position: int) -> bool:
    """Whether an operator takes FP16 there: the scales of Resize, for one, are always float32."""
    inputs = onnx.defs.get_schema(node.op_type, OPSET).inputs
    return "tensor(float16)" in inputs[min(position, len(inputs) - 1)].types


def _bare(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    """The value's name and type, without what else a file may say of it."""
    bare = onnx.ValueInfoProto(name=value.name)
    bare.type.CopyFrom(value.type)
    return bare
