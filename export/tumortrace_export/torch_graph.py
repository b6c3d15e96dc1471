"""An ONNX graph of our U-Nets, computed by PyTorch operator by operator, so that it can be trained as it stands.

Rounding has the gradient of the identity, and none beyond where it clips (Bengio et al. 2013, arXiv:1308.3432).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import cast

import onnx
import torch
import torch.nn.functional as F
from torch import Tensor

from tumortrace_export.graph import DEQUANTISE, LARGEST_INT8, QUANTISE, attribute
from tumortrace_runtime.errors import CheckpointError

LEAST_INT8 = -128


def compute(nodes: Iterable[onnx.NodeProto], given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All values of a graph by name.

    Args:
        nodes: the graph's, each behind those that it takes from.
        given: its inputs and initializers, in the types of ONNX; but int8 is whole numbers in float32, so that
            gradients pass.

    Raises:
        CheckpointError: a node has an operator that our U-Nets do not have.
    """
    values = dict(given)
    for node in nodes:
        if node.op_type not in _OPERATORS:
            raise CheckpointError(f"node {node.name}: operator {node.op_type}; known are {', '.join(_OPERATORS)}.")
        values[node.output[0]] = _OPERATORS[node.op_type](node, [values[name] for name in node.input if name])
    return values


def to_integers(values: Tensor, scale: Tensor, least: int, largest: int) -> Tensor:
    """`values` / `scale`, clipped and rounded half to even, in float32.

    The gradient for the scale is that of Esser et al. 2020, "Learned step size quantization" (arXiv:1902.08153).
    """
    steps = (values / scale).clamp(least, largest)
    return straight_through(steps, steps.round())


def straight_through(smooth: Tensor, exact: Tensor) -> Tensor:
    """The values of `exact`, to the bit, with the gradient of `smooth`."""
    return exact.detach() + (smooth - smooth.detach())


def along(vector: Tensor, axis: int, dimensions: int) -> Tensor:
    """A vector as a tensor of so many dimensions, with its numbers along one axis."""
    return vector.reshape([-1 if place == axis else 1 for place in range(dimensions)])


def _convolve(node: onnx.NodeProto, inputs: Sequence[Tensor]) -> Tensor:
    values, weights, bias = inputs
    return F.conv2d(values, weights, bias, stride=_pair(node, "strides"), padding=_pair(node, "pads"))


def _convolve_transposed(node: onnx.NodeProto, inputs: Sequence[Tensor]) -> Tensor:
    values, weights, bias = inputs
    return F.conv_transpose2d(values, weights, bias, stride=_pair(node, "strides"), padding=_pair(node, "pads"))


def _pool(node: onnx.NodeProto, inputs: Sequence[Tensor]) -> Tensor:
    size, stride, padding = (_pair(node, name) for name in ("kernel_shape", "strides", "pads"))
    pooled: Tensor = F.max_pool2d(inputs[0], size, stride, padding)
    return pooled


def _pair(node: onnx.NodeProto, name: str) -> tuple[int, int]:
    """An attribute for rows and columns; our U-Nets pad both sides alike, and have neither dilations nor groups."""
    rows, columns, *_ = cast(Sequence[int], attribute(node, name))
    return rows, columns


def _resize(node: onnx.NodeProto, inputs: Sequence[Tensor]) -> Tensor:
    values, factors = inputs
    return F.interpolate(values, scale_factor=factors[2:].tolist(), mode="nearest")


def _concatenate(node: onnx.NodeProto, inputs: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(inputs), dim=1)


def _transpose(node: onnx.NodeProto, inputs: Sequence[Tensor]) -> Tensor:
    return inputs[0].permute(*cast(Sequence[int], attribute(node, "perm")))


def _depth_to_space(node: onnx.NodeProto, inputs: Sequence[Tensor]) -> Tensor:
    return F.pixel_shuffle(inputs[0], cast(int, attribute(node, "blocksize")))


def _quantise(node: onnx.NodeProto, inputs: Sequence[Tensor]) -> Tensor:
    values, scale, _ = inputs
    return to_integers(values, scale, LEAST_INT8, LARGEST_INT8)


def _dequantise(node: onnx.NodeProto, inputs: Sequence[Tensor]) -> Tensor:
    integers, scale, _ = inputs
    return integers * (along(scale, cast(int, attribute(node, "axis")), integers.ndim) if scale.ndim else scale)


_OPERATORS: Mapping[str, Callable[[onnx.NodeProto, Sequence[Tensor]], Tensor]] = {
    "Conv": _convolve,
    "ConvTranspose": _convolve_transposed,
    "Relu": lambda node, inputs: inputs[0].relu(),
    "MaxPool": _pool,
    "Resize": _resize,
    "Add": lambda node, inputs: inputs[0] + inputs[1],
    "Concat": _concatenate,
    "Reshape": lambda node, inputs: inputs[0].reshape(inputs[1].tolist()),
    "Transpose": _transpose,
    "DepthToSpace": _depth_to_space,
    QUANTISE: _quantise,
    DEQUANTISE: _dequantise,
}
