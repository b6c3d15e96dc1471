"""Rewrites of a Q/DQ model that change how fast an engine runs it, and nothing of what it computes.

Each is exact: the rewritten model does the same integer arithmetic, in another order of memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper

from tumortrace_export.graph import (
    DEQUANTISE,
    QUANTISE,
    attribute,
    constants,
    consumers,
    copied,
    producers,
    replace_nodes,
    set_constant,
)
from tumortrace_runtime.preprocess import IntegerInput

HEAD_BLOCK = 2
"""A blocked head computes this many pixels a side at once."""


def take_integers(model: onnx.ModelProto, block_px: int) -> tuple[onnx.ModelProto, IntegerInput] | None:
    """A copy that takes its first layer's own integers, (batch, rows / block, columns / block, channels x block²).

    What it leaves out, space-to-depth, quantisation and the change to channels-last, takes engines up to a third of
    the whole network's time, and preprocessing next to none.

    Args:
        model: Q/DQ, its input (batch, channels, rows, columns) float32.
        block_px: factor of the space-to-depth that the network begins with; 1 for none.

    Returns:
        The copy, and what it takes; None where the first layer is not quantised.
    """
    result = copied(model)
    graph = result.graph
    quantise = _first_quantisation(graph)
    if quantise is None:
        return None
    dequantise = consumers(graph)[quantise.output[0]][0]
    batch, channels, rows, columns = (_size(item) for item in graph.input[0].type.tensor_type.shape.dim)
    zero_point = constants(graph)[quantise.input[2]]
    shape = [batch, rows // block_px, columns // block_px, channels * block_px**2]
    name, kind = graph.input[0].name, helper.np_dtype_to_tensor_dtype(zero_point.dtype)
    graph.input[0].CopyFrom(helper.make_tensor_value_info(name, kind, shape))
    left_out = _upstream(graph, quantise)
    floats = f"{name}_channels_last"
    entry = [  # in this order: behind a Transpose OpenVINO takes the integers for floats
        helper.make_node(DEQUANTISE, [name, *quantise.input[1:]], [floats], dequantise.name),
        helper.make_node("Transpose", [floats], dequantise.output, f"{name}_Transpose", perm=[0, 3, 1, 2]),
    ]
    rest = [node for node in graph.node if node.name not in left_out | {quantise.name, dequantise.name}]
    scale = float(constants(graph)[quantise.input[1]])
    replace_nodes(graph, [*entry, *rest])
    return result, IntegerInput("int8" if zero_point.dtype == np.int8 else "uint8", scale, int(zero_point), block_px)


def block_head(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose last convolution computes a block of 2 x 2 pixels at a time.

    The last 3 x 3 convolution of a compact U-Net has 4 or 16 outputs a pixel, of the 16 that a vector register holds.
    As a 4 x 4 convolution with stride 2 it has four times as many, of which each sees a 3 x 3 window; a larger
    depth-to-space puts them where they belong. A model that does not end so comes back as it is.
    """
    result = copied(model)
    graph = result.graph
    shuffle = producers(graph)[graph.output[0].name]
    head = producers(graph).get(shuffle.input[0]) if shuffle.op_type == "DepthToSpace" else None
    if head is None or not _is_plain_3x3(head) or attribute(shuffle, "mode") != b"CRD":
        return result
    stem = attribute(shuffle, "blocksize")
    assert isinstance(stem, int)
    order = _block_order(constants(graph)[head.input[2]].size // stem**2, stem)
    _block_weights(graph, head, order)
    _set(head, kernel_shape=[4, 4], strides=[HEAD_BLOCK] * 2, pads=[1] * 4)
    _set(shuffle, blocksize=HEAD_BLOCK * stem, mode="CRD")
    replace_nodes(graph, graph.node)
    return result


def _first_quantisation(graph: onnx.GraphProto) -> onnx.NodeProto | None:
    """The node that quantises the network's input, if all that takes the input takes it quantised."""
    taken_by = consumers(graph)
    name = graph.input[0].name
    while len(users := taken_by.get(name, [])) == 1 and users[0].op_type in ("Reshape", "Transpose", "SpaceToDepth"):
        name = users[0].output[0]
    return users[0] if len(users) == 1 and users[0].op_type == QUANTISE else None


def _upstream(graph: onnx.GraphProto, node: onnx.NodeProto) -> set[str]:
    made_by = producers(graph)
    names: set[str] = set()
    while (before := made_by.get(node.input[0])) is not None:
        names.add(before.name)
        node = before
    return names


def _size(dimension: Any) -> Any:
    return dimension.dim_value if dimension.HasField("dim_value") else dimension.dim_param


def _is_plain_3x3(node: onnx.NodeProto) -> bool:
    wanted = {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [1, 1, 1, 1], "dilations": [1, 1], "group": 1}
    plain = node.op_type == "Conv" and len(node.input) == 3  # with a bias
    return plain and all(attribute(node, name) in (value, None) for name, value in wanted.items())


def _block_order(classes: int, stem: int) -> list[tuple[int, int, int]]:
    """For each output of the blocked head, (row, column) of its pixel in the block and the output of the head it is."""
    side = HEAD_BLOCK * stem
    return [
        (row // stem, column // stem, (number * stem + row % stem) * stem + column % stem)
        for number in range(classes)
        for row in range(side)
        for column in range(side)
    ]


def _block_weights(graph: onnx.GraphProto, head: onnx.NodeProto, order: list[tuple[int, int, int]]) -> None:
    """Give the head a 4 x 4 kernel for each pixel of the block, each with its 3 x 3 window at another place."""
    values = constants(graph)
    dequantise = producers(graph).get(head.input[1])
    name, *per_channel = dequantise.input if dequantise else [head.input[1]]
    weights = values[name]
    blocked = np.zeros((len(order), weights.shape[1], 4, 4), weights.dtype)
    for place, (row, column, output) in enumerate(order):
        blocked[place, :, row : row + 3, column : column + 3] = weights[output]
    set_constant(graph, name, blocked)
    for vector in [*per_channel, head.input[2]]:
        set_constant(graph, vector, values[vector][[output for _, _, output in order]])


def _set(node: onnx.NodeProto, **attributes: Any) -> None:
    kept = [item for item in node.attribute if item.name not in attributes]
    del node.attribute[:]
    node.attribute.extend([*kept, *(helper.make_attribute(name, value) for name, value in attributes.items())])
