"""What engines make of quantised models: how much of them really runs in integers, and how near it comes to FP32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from tumortrace.checkpoint import Checkpoint
from tumortrace.predict import TorchNetwork
from tumortrace_export.lowering import block_head, take_integers
from tumortrace_export.quantise import layers
from tumortrace_export.unsigned import to_unsigned, unsigned_behind_relu
from tumortrace_runtime.backends import Backend, load_backend
from tumortrace_runtime.backends.backend import mac_share

Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def reference(checkpoint: Checkpoint, slices: Floats) -> Floats:
    return TorchNetwork(checkpoint.network()).run(slices)


@pytest.fixture(scope="module")
def by_onnxruntime(int8_file: Path, slices: Floats) -> Floats:
    with load_backend("onnxruntime", int8_file, precision="int8") as backend:
        return backend.run(slices)


@pytest.fixture
def load_lowered(specimen: Callable[[str], Any], load_model: Callable[..., Backend]) -> Callable[[str, str], Backend]:
    """Loads a specimen into an engine in the form in which a bundle has it."""

    def load(engine: str, name: str) -> Backend:
        model = specimen(name).quantised()
        model = block_head(unsigned_behind_relu(model)) if engine == "openvino" else to_unsigned(model)
        taken = take_integers(model, specimen(name).config.stem)
        assert taken is not None
        return load_model(engine, *taken)

    return load


def in_float(backend: Backend) -> list[str]:
    return [layer.name for layer in backend.layers if layer.precision != "int8"]


@pytest.mark.parametrize("name", ["unet-xs", "unet-s", "unet-m"])
def test_engines_run_our_networks_in_int8(
    name: str, specimen: Callable[[str], Any], load_lowered: Callable[[str, str], Backend]
) -> None:
    """By what the loaded engines report. ONNX Runtime computes in integers only what becomes integers again."""
    on_openvino, on_onnxruntime = (load_lowered(engine, name) for engine in ("openvino", "onnxruntime"))
    assert [layer.name for layer in on_openvino.layers] == layers(specimen(name).model)
    assert mac_share(on_openvino.layers, "int8") == 1
    assert mac_share(on_onnxruntime.layers, "int8") >= 0.95
    assert in_float(on_onnxruntime) == ["head"]


def test_onnxruntime_alone_leaves_transposed_convolutions_in_float(
    load_lowered: Callable[[str, str], Backend],
) -> None:
    on_openvino, on_onnxruntime = (load_lowered(engine, "unet-l") for engine in ("openvino", "onnxruntime"))
    assert mac_share(on_openvino.layers, "int8") == 1
    transposed = [layer.name for layer in on_onnxruntime.layers if layer.kind == "ConvTranspose"]
    assert len(transposed) == 4
    assert in_float(on_onnxruntime) == [*transposed, "head"]


def test_engines_run_the_float_layers_in_float(
    specimen: Callable[[str], Any], load_model: Callable[..., Backend]
) -> None:
    """ONNX Runtime, which computes in integers only what becomes integers again, also the layer before."""
    model = specimen("three classes").quantised(float_layers=["encoder.1.1.0"])
    assert in_float(load_model("openvino", model)) == ["encoder.1.1.0"]
    assert in_float(load_model("onnxruntime", to_unsigned(model))) == ["encoder.1.0.0", "encoder.1.1.0", "head"]


def test_int8_logits_are_near_those_of_fp32(by_onnxruntime: Floats, reference: Floats) -> None:
    spread = float(np.ptp(reference))
    error = np.abs(by_onnxruntime - reference)
    assert spread > 3
    assert error.mean() < 0.01 * spread
    assert error.max() < 0.1 * spread
    assert ((by_onnxruntime > 0) != (reference > 0)).mean() < 0.005


def test_both_engines_compute_the_same_int8(
    int8_file: Path, slices: Floats, by_onnxruntime: Floats, reference: Floats, load_model: Callable[..., Backend]
) -> None:
    """Within 2 % of the logits' spread at every pixel."""
    by_openvino = load_model("openvino", onnx.load(int8_file)).run(slices)
    assert np.abs(by_openvino - by_onnxruntime).max() < 0.02 * np.ptp(reference)
