"""Small readings of an ONNX graph that more than one part of the export needs."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

WEIGHT_AXES = {"Conv": 0, "ConvTranspose": 1}
"""Operators with weights, and which axis of theirs is the output channels."""

WEIGHTED = tuple(WEIGHT_AXES)
"""Their multiply-accumulates are what quantisation is for."""

QUANTISE, DEQUANTISE = "QuantizeLinear", "DequantizeLinear"

LARGEST_INT8 = 127
"""Of symmetric integers, whose smallest is its negative."""


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model like this one, to be changed."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    return result


def producers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """Tensor name to the node that makes it."""
    return {name: node for node in graph.node for name in node.output}


def consumers(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """Tensor name to the nodes that take it, in the graph's order."""
    found: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            found.setdefault(name, []).append(node)
    return found


def constants(graph: onnx.GraphProto) -> dict[str, npt.NDArray[np.generic]]:
    """Initializer name to its values."""
    return {item.name: numpy_helper.to_array(item) for item in graph.initializer}


def set_constant(graph: onnx.GraphProto, name: str, values: npt.NDArray[np.generic]) -> None:
    """Write the initializer `name`, anew or in place of the one that is there."""
    tensor = numpy_helper.from_array(np.array(values, order="C"), name)
    for item in graph.initializer:
        if item.name == name:
            item.CopyFrom(tensor)
            return
    graph.initializer.append(tensor)


def replace_nodes(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """Give the graph these nodes, and forget shapes and initializers that nothing uses any more."""
    kept = list(nodes)
    del graph.node[:]
    graph.node.extend(kept)
    del graph.value_info[:]
    used = {name for node in graph.node for name in node.input}
    for item in [item for item in graph.initializer if item.name not in used]:
        graph.initializer.remove(item)


def attribute(node: onnx.NodeProto, name: str) -> object:
    """The value of a node's attribute, or None where it has none of that name."""
    return next((onnx.helper.get_attribute_value(item) for item in node.attribute if item.name == name), None)
