"""A copy of an INT8 model for CPUs: the same integers, activations stored unsigned.

ONNX Runtime's fast kernels take unsigned activations and signed weights, and so do OpenVINO's where there is no VNNI.
Scales and weights stay; only the zero points of activations change, to 128, or to 0 behind a ReLU: its negative half is
empty, and a type that begins at 0 lets ONNX Runtime fold the ReLU into the convolution. Behind a ReLU values beyond the
signed range then saturate later.
"""

from __future__ import annotations

import numpy as np
import onnx

from tumortrace_export.graph import producers, set_constant
from tumortrace_export.quantise import MOVING


def to_unsigned(model: onnx.ModelProto) -> onnx.ModelProto:
    """The Q/DQ model with uint8 activations, as a new model.

    Args:
        model: as `quantise` makes it: int8, every zero point 0.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    made_by = producers(graph)
    for node in [node for node in graph.node if node.op_type == "QuantizeLinear"]:
        zero = 0 if _never_negative(node.input[0], made_by) else 128
        set_constant(graph, node.input[2], np.array(zero, np.uint8))
    return result


def _never_negative(name: str, made_by: dict[str, onnx.NodeProto]) -> bool:
    node = made_by.get(name)
    while node is not None and node.op_type in (*MOVING, "QuantizeLinear", "DequantizeLinear"):
        node = made_by.get(node.input[0])
    return node is not None and node.op_type == "Relu"
