"""INT8 as explicit Q/DQ, quantised once: per-channel symmetric weights, symmetric activations, float bias."""

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
    path.write_bytes(model.SerializeToString(deterministic=True))
