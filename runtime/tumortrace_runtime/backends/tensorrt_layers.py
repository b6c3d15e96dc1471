"""The layers of a network that TensorRT parsed, and what they run in once it is an engine."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from tumortrace_runtime.backends.backend import (
    CONV,
    CONV_TRANSPOSE,
    MATMUL,
    UNKNOWN_PRECISION,
    Layer,
    count_macs,
    layers_that_ran,
)

# TensorRT names a layer's type by the kernel that it chose: CaskConvolution, CaskGemmConvolution, correlation, gemm.
_ARITHMETIC_KERNEL = re.compile("conv|correlation|gemm|matri|fullyconnected", re.IGNORECASE)
_ONNX_NODE = re.compile(r"\[ONNX Layer: ([^\]]+)\]")
# The first word that is found counts: "bfloat16" has "float" in it.
_PRECISIONS = (
    *(("int8", "int8"), ("bf16", "bf16"), ("bfloat", "bf16")),
    *(("fp16", "fp16"), ("half", "fp16"), ("fp32", "fp32"), ("float", "fp32")),
)


def network_layers(trt: Any, network: Any) -> tuple[Layer, ...]:
    """What multiplies and accumulates in a parsed network, in its order; the precisions are still unknown.

    Args:
        trt: the module that parsed it.
        network: its `INetworkDefinition`; layers have the names of the ONNX nodes.
    """
    return tuple(_network_layers(trt, network))


def _network_layers(trt: Any, network: Any) -> Iterator[Layer]:
    types = {
        trt.LayerType.CONVOLUTION: (CONV, trt.IConvolutionLayer),
        trt.LayerType.DECONVOLUTION: (CONV_TRANSPOSE, trt.IDeconvolutionLayer),
        trt.LayerType.MATRIX_MULTIPLY: (MATMUL, trt.IMatrixMultiplyLayer),
    }
    for layer in map(network.get_layer, range(network.num_layers)):
        if layer.type in types:
            kind, layer.__class__ = types[layer.type]  # from an ILayer to what it is
            image, result = _single(layer.get_input(0).shape), _single(layer.get_output(0).shape)
            macs = count_macs(kind, image, _weights(kind, layer, image[1]), result)
            yield Layer(str(layer.name), kind, UNKNOWN_PRECISION, macs)


def _single(shape: Sequence[int]) -> list[int]:
    return [1, *(int(size) for size in list(shape)[1:])]


def _weights(kind: str, layer: Any, channels: int) -> tuple[int, ...]:
    if kind == MATMUL:
        return ()
    kernel = tuple(int(size) for size in layer.kernel_size_nd)
    return (int(layer.num_output_maps), channels // int(layer.num_groups), *kernel)


def executed_layers(known: Sequence[Layer], information: str) -> tuple[Layer, ...]:
    """The layers with the precisions that an engine runs them in; "unknown" where it does not tell.

    Args:
        known: as `network_layers` gives them.
        information: of the engine's inspector, as JSON.
    """
    names = {layer.name for layer in known}
    return layers_that_ran([(layer.name, layer) for layer in known], list(_kernels(information, names)))


def _kernels(information: str, names: Collection[str]) -> Iterator[tuple[str, str]]:
    """Name and precision of each kernel that multiplies, under the layers that it stands for, where it names them."""
    for kernel in _described(information):
        if _ARITHMETIC_KERNEL.search(str(kernel.get("LayerType", ""))):
            name = str(kernel.get("Name", ""))
            told = [*_ONNX_NODE.findall(str(kernel.get("Metadata", ""))), *name.split(" + ")]
            for origin in [layer for layer in dict.fromkeys(told) if layer in names] or [name]:
                yield origin, _precision(kernel)


def _described(information: str) -> Iterator[Mapping[str, Any]]:
    """The kernels of which there is more than the name, which is all that some engines have."""
    try:
        told = json.loads(information)
    except ValueError:
        return
    if isinstance(told, dict):
        yield from (kernel for kernel in told.get("Layers", ()) if isinstance(kernel, dict))


def _precision(kernel: Mapping[str, Any]) -> str:
    for told in map(str.lower, _types(kernel)):
        if precision := next((precision for word, precision in _PRECISIONS if word in told), ""):
            return precision
    return UNKNOWN_PRECISION


def _types(kernel: Mapping[str, Any]) -> Iterator[str]:
    """How a kernel calls the type of its first input, and that of its weights."""
    for tensor in list(kernel.get("Inputs", ()))[:1]:
        if isinstance(tensor, dict):
            yield str(tensor.get("DataType", ""))  # TensorRT 11
            yield str(tensor.get("Format/Datatype", ""))
    weights = kernel.get("Weights")
    if isinstance(weights, dict):
        yield str(weights.get("Type", ""))
