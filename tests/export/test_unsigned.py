"""The copy for ONNX Runtime computes with the integers of its signed source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from tumortrace_export.graph import constants, producers
from tumortrace_export.unsigned import to_unsigned

Floats = npt.NDArray[np.float32]
ROOM = 1.25
"""Rounding adds up to more than FP32 gives: with ranges so much wider no integer is cut off."""


def behind_a_relu(model: onnx.ModelProto) -> dict[str, bool]:
    """For each quantised activation, whether it comes out of a ReLU, by way of nothing but moves."""
    made_by = producers(model.graph)
    sources = {}
    for node in (each for each in model.graph.node if each.op_type == "QuantizeLinear"):
        name = node.input[0].removesuffix("_dequantised")
        while name in made_by and made_by[name].op_type in ("Resize", "MaxPool"):
            name = made_by[name].input[0].removesuffix("_dequantised")
        sources[node.name] = name in made_by and made_by[name].op_type == "Relu"
    return sources


@pytest.mark.parametrize("name", ["unet-xs", "classic"])
def test_zero_is_0_behind_a_relu_and_128_elsewhere(name: str, specimen: Callable[[str], Any]) -> None:
    model = to_unsigned(specimen(name).quantised())
    values, relu = constants(model.graph), behind_a_relu(model)
    assert {False, True} == set(relu.values())
    for node in (each for each in model.graph.node if each.op_type == "QuantizeLinear"):
        zero_point = values[node.input[2]]
        assert zero_point.dtype == np.uint8
        assert zero_point == (0 if relu[node.name] else 128), node.name


@pytest.mark.parametrize("name", ["unet-xs", "classic"])
def test_only_zero_points_change(name: str, specimen: Callable[[str], Any]) -> None:
    source = specimen(name).quantised()
    before, model = source.SerializeToString(deterministic=True), to_unsigned(source)
    assert source.SerializeToString(deterministic=True) == before
    onnx.checker.check_model(model, full_check=True)

    assert list(model.graph.node) == list(source.graph.node)
    zero_points = {node.input[2] for node in source.graph.node if node.op_type == "QuantizeLinear"}
    old, new = constants(source.graph), constants(model.graph)
    assert list(old) == list(new)
    for name_of, values in old.items():
        if name_of not in zero_points:
            assert new[name_of].dtype == values.dtype
            np.testing.assert_array_equal(new[name_of], values)


@pytest.mark.parametrize("name", ["unet-xs", "three classes", "classic"])
def test_in_range_the_logits_are_the_signed_models_to_the_bit(
    name: str, specimen: Callable[[str], Any], run_model: Callable[..., Floats]
) -> None:
    source, batch = specimen(name).quantised(ROOM), specimen(name).batch
    logits = run_model(source, batch)
    assert np.ptp(logits) > 2
    np.testing.assert_array_equal(run_model(to_unsigned(source), batch), logits)


@pytest.mark.parametrize("name", ["unet-xs", "three classes", "classic"])
def test_in_range_they_agree_as_the_engine_fuses_them(
    name: str, specimen: Callable[[str], Any], run_model: Callable[..., Floats]
) -> None:
    """Within 2 % of the logits' spread at every pixel, 0.01 % in the mean: sums that lie between two steps may differ.

    Weights of 7 bits, so that no CPU saturates sums of products.
    """
    source, batch = specimen(name).quantised(ROOM, weight_bits=7), specimen(name).batch
    signed, unsigned = (run_model(each, batch, optimised=True) for each in (source, to_unsigned(source)))
    error = np.abs(unsigned - signed)
    assert error.max() < 0.02 * np.ptp(signed)
    assert error.mean() < 1e-4 * np.ptp(signed)


def test_the_trained_network_agrees_with_its_signed_source(
    int8_file: Path, slices: Floats, run_model: Callable[..., Floats]
) -> None:
    """On slices beyond the calibrated ones, fused or not, within 2 % of the logits' spread at every pixel."""
    source = onnx.load(int8_file)
    logits = run_model(source, slices)
    for optimised in (False, True):
        error = np.abs(run_model(to_unsigned(source), slices, optimised=optimised) - logits)
        assert error.max() < 0.02 * np.ptp(logits)


def test_behind_a_relu_values_saturate_later(specimen: Callable[[str], Any], run_model: Callable[..., Floats]) -> None:
    """Ranges of half the width clip bright features in the signed model, and in the unsigned one none of those."""
    sample = specimen("unet-xs")
    expected = run_model(sample.model, sample.batch)
    source = sample.quantised(0.5)
    signed, unsigned = (np.abs(run_model(each, sample.batch) - expected) for each in (source, to_unsigned(source)))
    assert unsigned.mean() < 0.9 * signed.mean()
