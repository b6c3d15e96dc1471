"""INT8 as explicit Q/DQ, quantised once: weights per channel, all scales symmetric; bias and logits stay float."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from tumortrace_export.onnx_model import INPUT

OPERATORS = ["Conv", "ConvTranspose", "Add", "Concat", "MaxPool", "Resize"]

SYMMETRIC = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}
"""What TensorRT's parser takes: zero points of 0, and no int32 DequantizeLinear on the bias."""


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, batches: Iterable[npt.NDArray[np.float32]]) -> None:
        self._batches = iter(batches)

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}


def quantise(source: Path, batches: Iterable[npt.NDArray[np.float32]], path: Path) -> None:
    """Write the FP32 ONNX model `source` as INT8 with Q/DQ pairs.

    Ranges are the minimum and maximum over all calibration batches: averaged ranges clip the activations of rare,
    bright tumours.

    Args:
        source: FP32 model.
        batches: network inputs of training cases, (n, in_channels, rows, columns) float32.
        path: where to write.
    """
    logging.disable(logging.WARNING)  # the quantiser advises a pre-processing that the exporter has done already
    try:
        quantize_static(
            source,
            path,
            _Batches(batches),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=OPERATORS,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options=SYMMETRIC,
        )
    finally:
        logging.disable(logging.NOTSET)
    model = onnx.load(path)
    _scale_as_relu_leaves_it(model.graph)
    _keep_logits_float(model.graph)
    _drop_unused_initializers(model.graph)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _scale_as_relu_leaves_it(graph: onnx.GraphProto) -> None:
    """Quantise what goes into a ReLU by the scale of what comes out.

    What saturates is negative and becomes 0 in the ReLU, and all 127 positive steps serve what is left.
    """
    producers = _producers(graph)
    scales = {node.input[0]: node.input[1] for node in graph.node if node.op_type == "QuantizeLinear"}
    for relu in (node for node in graph.node if node.op_type == "Relu"):
        dequantise = producers[relu.input[0]]
        for node in (dequantise, producers[dequantise.input[0]]):
            node.input[1] = scales[relu.output[0]]


def _keep_logits_float(graph: onnx.GraphProto) -> None:
    """Take away the Q/DQ pair behind the last convolution: nothing integer follows, and it would round the logits."""
    producers = _producers(graph)
    dequantise = producers[graph.output[0].name]
    if dequantise.op_type == "DepthToSpace":
        dequantise = producers[dequantise.input[0]]
    quantise = producers[dequantise.input[0]]
    producers[quantise.input[0]].output[0] = dequantise.output[0]
    graph.node.remove(quantise)
    graph.node.remove(dequantise)


def _drop_unused_initializers(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    for initializer in [item for item in graph.initializer if item.name not in used]:
        graph.initializer.remove(initializer)


def _producers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    return {name: node for node in graph.node for name in node.output}
