"""Copies of an INT8 model for CPUs, whose integers may be unsigned where TensorRT's may not.

What leaves a ReLU is never negative, so half of int8 is empty behind it: uint8 from 0 has steps half as wide between
the same bounds. CPUs multiply uint8 by int8 at least as fast as int8 by int8 (VNNI has no other product), and a type
that begins at 0 lets ONNX Runtime fold the ReLU into the convolution.

ONNX Runtime's fast kernels want unsigned activations everywhere, and so do OpenVINO's without VNNI: there all others
become uint8 with a zero point of 128, the same integers as before.
"""

from __future__ import annotations

import numpy as np
import onnx

from tumortrace_export.graph import DEQUANTISE, LARGEST_INT8, QUANTISE, constants, copied, producers, set_constant
from tumortrace_export.quantise import MOVING

LARGEST_UINT8 = 255


def unsigned_behind_relu(model: onnx.ModelProto) -> onnx.ModelProto:
    """The Q/DQ model with uint8 where values come out of a ReLU, as a new model.

    Args:
        model: as `quantise` makes it: int8, every zero point 0.
    """
    return _unsigned(model, others=False)


def to_unsigned(model: onnx.ModelProto) -> onnx.ModelProto:
    """The Q/DQ model with uint8 activations alone, as a new model.

    Args:
        model: as `quantise` makes it: int8, every zero point 0.
    """
    return _unsigned(model, others=True)


def _unsigned(model: onnx.ModelProto, *, others: bool) -> onnx.ModelProto:
    result = copied(model)
    graph = result.graph
    made_by, values = producers(graph), constants(graph)
    for node in [node for node in graph.node if node.op_type == QUANTISE]:
        _, scale, zero_point = node.input
        if _never_negative(node.input[0], made_by):
            set_constant(graph, scale, np.array(float(values[scale]) * LARGEST_INT8 / LARGEST_UINT8, np.float32))
            set_constant(graph, zero_point, np.array(0, np.uint8))
        elif others:
            set_constant(graph, zero_point, np.array(128, np.uint8))
    return result


def _never_negative(name: str, made_by: dict[str, onnx.NodeProto]) -> bool:
    node = made_by.get(name)
    while node is not None and node.op_type in (*MOVING, QUANTISE, DEQUANTISE):
        node = made_by.get(node.input[0])
    return node is not None and node.op_type == "Relu"
