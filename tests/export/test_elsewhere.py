from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from tumortrace_export.elsewhere import agreement
from tumortrace_export.onnx_model import save_onnx
from tumortrace_export.tensorrt_model import to_strongly_typed

Batches = Callable[[], Iterator[npt.NDArray[np.float32]]]


def test_fp16_and_int8_for_tensorrt_give_the_masks_of_fp32(
    onnx_file: Path, int8_file: Path, calibration: Batches, tmp_path: Path
) -> None:
    slices = list(calibration())
    for source in (onnx_file, int8_file):
        to_strongly_typed(source, tmp_path / source.name)
        assert agreement(onnx_file, tmp_path / source.name, slices, 0.0) > 0.97


def test_a_collapsed_model_agrees_with_nothing(onnx_file: Path, calibration: Batches, tmp_path: Path) -> None:
    model = onnx.load(onnx_file)
    (bias,) = (item for item in model.graph.initializer if item.name == "head.bias")
    bias.CopyFrom(numpy_helper.from_array(np.full(bias.dims, -100, np.float32), bias.name))
    save_onnx(model, tmp_path / "dead.onnx")
    assert agreement(onnx_file, tmp_path / "dead.onnx", list(calibration()), 0.0) == 0.0
