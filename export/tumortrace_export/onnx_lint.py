"""Refuses ONNX models that an engine could not run, or that say more than they should, before they are shipped."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto, numpy_helper

from tumortrace_export.graph import DEQUANTISE, QUANTISE, WEIGHT_AXES, producers
from tumortrace_runtime.errors import ModelError

OPERATORS = frozenset(
    {
        *("Conv", "ConvTranspose", "Relu", "MaxPool", "Resize", "Add", "Concat"),
        *("Reshape", "Transpose", "DepthToSpace", "SpaceToDepth", "Cast", QUANTISE, DEQUANTISE),
        *("Greater", "ArgMax", "Squeeze"),
        *("GlobalAveragePool", "Mul", "Sub", "Sqrt", "Flatten"),
    }
)
"""What our U-Nets are made of, then what the mask and the statistics of features need; each engine has them all."""


NEWEST_OPSET = 19
"""What TensorRT 10.3 (JetPack 6) is held to here; before it, Q/DQ scales are float32."""

OUTPUT_TYPES = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT32, TensorProto.INT8, TensorProto.UINT8}

_TRACES = re.compile(r"(?<![\w./:])/[\w.+-]+/[\w./+-]*|\b[A-Za-z]:\\\S*|\\\\\w\S*|[\w./-]+\.pyc?\b")
"""Absolute paths of Linux and Windows, and Python's source files."""


def lint(path: Path, *, tensorrt: bool) -> None:
    """Refuse a model that is not whole, portable and clean.

    Args:
        path: an ONNX file.
        tensorrt: whether TensorRT must be able to build it, as a strongly typed network with explicit INT8.

    Raises:
        ModelError: with the first fault, the node or tensor that has it, and what is wanted.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except (OSError, DecodeError) as problem:
        raise ModelError(f"{path}: is not an ONNX model ({problem}).") from problem
    for fault in _faults(model, tensorrt):
        raise ModelError(f"{path}: {fault}")


def _faults(model: onnx.ModelProto, tensorrt: bool) -> Iterator[str]:
    yield from _external_data(model.graph)
    yield from _traces_of_a_machine(model)
    yield from _foreign_operators(model)
    yield from _names(model.graph)
    yield from _shapes(model)
    yield from _invalid(model)
    if tensorrt:
        yield from _opset(model)
        yield from _outputs(model.graph)
        yield from _Quantisation(model).faults()


def _external_data(graph: onnx.GraphProto) -> Iterator[str]:
    for item in graph.initializer:
        if item.data_location == TensorProto.EXTERNAL:
            yield f"tensor {item.name} lies in another file; all data wanted in the model itself."


def _traces_of_a_machine(model: onnx.ModelProto) -> Iterator[str]:
    for place, text in _texts(model):
        if trace := _TRACES.search(text):
            yield f"{place} names {trace.group()!r}; nothing wanted of the machine that made the model."


def _texts(model: onnx.ModelProto) -> Iterator[tuple[str, str]]:
    """Where a model has text that no engine reads, and the text."""
    graph = model.graph
    yield "the producer", f"{model.producer_name} {model.producer_version}"
    carriers: list[tuple[str, Any]] = [("the model", model), ("the graph", graph)]
    carriers += [(f"node {node.name}", node) for node in graph.node]
    carriers += [(f"node {node.name}", attribute) for node in graph.node for attribute in node.attribute]
    values = (*graph.input, *graph.output, *graph.value_info, *graph.initializer)
    carriers += [(f"tensor {value.name}", value) for value in values]
    for place, carrier in carriers:
        yield f"{place} (doc_string)", carrier.doc_string
        for item in getattr(carrier, "metadata_props", ()):
            yield f"{place} (metadata)", f"{item.key} {item.value}"


def _foreign_operators(model: onnx.ModelProto) -> Iterator[str]:
    if model.functions:
        yield f"function {model.functions[0].name}; only ONNX's own operators wanted."
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx"):
            yield f"node {node.name}: {node.op_type} of domain {node.domain!r}; only ONNX's own operators wanted."
        elif node.op_type not in OPERATORS:
            yield f"node {node.name}: operator {node.op_type}; wanted are {', '.join(sorted(OPERATORS))}."


def _names(graph: onnx.GraphProto) -> Iterator[str]:
    seen: set[str] = set()
    for place, node in enumerate(graph.node):
        if not node.name:
            yield f"the {node.op_type} that makes {node.output[0]} (node {place}) has no name; one wanted."
        elif node.name in seen:
            yield f"two nodes are called {node.name}; a name of its own wanted for each."
        seen.add(node.name)


def _shapes(model: onnx.ModelProto) -> Iterator[str]:
    graph = onnx.shape_inference.infer_shapes(model).graph
    for value in graph.input:
        batch, *rest = value.type.tensor_type.shape.dim or [None]
        if batch is None or len(rest) != 3 or not batch.dim_param:
            yield f"input {value.name} has the shape {_shape(value)}; (batch, channels, rows, columns) wanted."
    for value in (*graph.input, *graph.output):
        if any(dimension.dim_value <= 0 for dimension in value.type.tensor_type.shape.dim[1:]):
            yield f"{value.name} has the shape {_shape(value)}; fixed sizes wanted for all but the batch."


def _shape(value: onnx.ValueInfoProto) -> str:
    sizes = [dimension.dim_param or str(dimension.dim_value) for dimension in value.type.tensor_type.shape.dim]
    return f"({', '.join(sizes)})"


def _invalid(model: onnx.ModelProto) -> Iterator[str]:
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as problem:
        yield f"is not valid ONNX ({' '.join(str(problem).split())})."


def _opset(model: onnx.ModelProto) -> Iterator[str]:
    version = _opset_of(model)
    if version > NEWEST_OPSET:
        yield f"opset {version}; at most {NEWEST_OPSET} wanted for TensorRT 10.3."


def _opset_of(model: onnx.ModelProto) -> int:
    return max((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), default=0)


def _outputs(graph: onnx.GraphProto) -> Iterator[str]:
    for value in graph.output:
        kind = value.type.tensor_type.elem_type
        if kind not in OUTPUT_TYPES:
            wanted = ", ".join(TensorProto.DataType.Name(item) for item in sorted(OUTPUT_TYPES))
            yield f"output {value.name} is {TensorProto.DataType.Name(kind)}; one of {wanted} wanted for TensorRT."


class _Quantisation:
    """A model's Q/DQ nodes, held to TensorRT's rules: symmetric int8, weights per channel, activations per tensor."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._opset = _opset_of(model)
        self._graph = model.graph
        self._tensors = {item.name: item for item in model.graph.initializer}
        self._makers = producers(model.graph)
        self._readers: dict[str, list[tuple[onnx.NodeProto, int]]] = defaultdict(list)
        for node in model.graph.node:
            for position, name in enumerate(node.input):
                self._readers[name].append((node, position))

    def faults(self) -> Iterator[str]:
        for node in self._graph.node:
            if node.op_type in (QUANTISE, DEQUANTISE):
                for fault in self._faults_of(node):
                    yield f"node {node.name}: {fault}"

    def _faults_of(self, node: onnx.NodeProto) -> Iterator[str]:
        yield from self._source(node)
        yield from self._zero_point(node)
        yield from self._scale(node)
        if node.op_type == QUANTISE:
            yield from self._pair(node)
        elif node.input[0] in self._tensors:
            yield from self._weights(node)

    def _source(self, node: onnx.NodeProto) -> Iterator[str]:
        stored = self._tensors.get(node.input[0])
        if node.op_type == QUANTISE:
            if stored is not None:
                yield f"quantises the constant {stored.name}; stored int8 wanted."
        elif stored is not None:
            if stored.data_type != TensorProto.INT8:
                kind = TensorProto.DataType.Name(stored.data_type)
                yield f"dequantises {stored.name}, which is {kind}; int8 wanted, and a float bias."
        elif node.input[0] not in self._makers or self._makers[node.input[0]].op_type != QUANTISE:
            yield f"dequantises {node.input[0]}, which no QuantizeLinear made; complete pairs wanted."

    def _zero_point(self, node: onnx.NodeProto) -> Iterator[str]:
        name = node.input[2] if len(node.input) > 2 else ""
        stored = self._tensors.get(name)
        if stored is None or stored.data_type != TensorProto.INT8:
            yield f"the zero point {name!r} is no stored int8; one wanted, of zeros."
        elif numpy_helper.to_array(stored).any():
            yield f"the zero point {name} is not 0 everywhere; symmetric quantisation wanted."

    def _scale(self, node: onnx.NodeProto) -> Iterator[str]:
        stored = self._tensors.get(node.input[1])
        if stored is None or stored.data_type not in (TensorProto.FLOAT, TensorProto.FLOAT16):
            yield f"the scale {node.input[1]} is no stored FLOAT or FLOAT16; one wanted."
            return
        values = numpy_helper.to_array(stored)
        if stored.data_type == TensorProto.FLOAT16 and self._opset < NEWEST_OPSET:
            yield f"the scale {stored.name} is FLOAT16 in opset {self._opset}; FLOAT, or opset {NEWEST_OPSET}, wanted."
        if not (np.isfinite(values) & (values > 0)).all():
            yield f"the scale {stored.name} holds {values.min()}; finite numbers above 0 wanted."
        if node.input[0] not in self._tensors and values.size != 1:
            yield f"the scale {stored.name} has {values.size} numbers; one wanted for activations."

    def _pair(self, node: onnx.NodeProto) -> Iterator[str]:
        readers = [reader for reader, _ in self._readers[node.output[0]]]
        if not readers or any(reader.op_type != DEQUANTISE for reader in readers):
            yield "is not followed by DequantizeLinear alone; complete pairs wanted."
            return
        for reader in readers:
            if not np.array_equal(self._values(node.input[1]), self._values(reader.input[1])):
                yield f"its scale {node.input[1]} is not that of {reader.name}, {reader.input[1]}; the same wanted."

    def _weights(self, node: onnx.NodeProto) -> Iterator[str]:
        stored = self._tensors[node.input[0]]
        for reader, position in self._readers[node.output[0]]:
            axis = WEIGHT_AXES.get(reader.op_type)
            if axis is None or position != 1:
                yield f"feeds {reader.name} ({reader.op_type}); only weights of convolutions wanted as stored int8."
            elif self._values(node.input[1]).shape != (stored.dims[axis],) or _axis(node) % len(stored.dims) != axis:
                yield (
                    f"the scale {node.input[1]} is not one number per output channel of {reader.name}; "
                    f"{stored.dims[axis]} along axis {axis} wanted."
                )

    def _values(self, name: str) -> npt.NDArray[Any]:
        return numpy_helper.to_array(self._tensors[name]) if name in self._tensors else np.empty(0)


def _axis(node: onnx.NodeProto) -> int:
    return next((item.i for item in node.attribute if item.name == "axis"), 1)  # ONNX's default
