"""The copies for CPUs: finer behind a ReLU than their signed source, and everywhere else the same integers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from tumortrace_export.graph import constants, producers
from tumortrace_export.unsigned import to_unsigned, unsigned_behind_relu

Floats = npt.NDArray[np.float32]
EACH_COPY = pytest.mark.parametrize("copy", [unsigned_behind_relu, to_unsigned])
ROOM = 1.25
"""Rounding adds up to more than FP32 gives: with ranges so much wider no integer is cut off."""

Copy = Callable[[onnx.ModelProto], onnx.ModelProto]


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


@EACH_COPY
@pytest.mark.parametrize("name", ["unet-xs", "classic"])
def test_zero_and_step_are_those_of_the_integers(name: str, copy: Copy, specimen: Callable[[str], Any]) -> None:
    source = specimen(name).quantised()
    model = copy(source)
    old, new, relu = constants(source.graph), constants(model.graph), behind_a_relu(model)
    assert {False, True} == set(relu.values())
    for node in (each for each in model.graph.node if each.op_type == "QuantizeLinear"):
        scale, zero_point = (new[name] for name in node.input[1:])
        if relu[node.name]:
            assert (zero_point.dtype, zero_point) == (np.uint8, 0), node.name
            assert scale * 255 == pytest.approx(old[node.input[1]] * 127, rel=1e-6)  # clipped where it was
        else:
            assert zero_point == (128 if copy is to_unsigned else 0), node.name
            assert zero_point.dtype == (np.uint8 if copy is to_unsigned else np.int8)
            assert scale == old[node.input[1]]


@EACH_COPY
@pytest.mark.parametrize("name", ["unet-xs", "classic"])
def test_nothing_else_changes(name: str, copy: Copy, specimen: Callable[[str], Any]) -> None:
    source = specimen(name).quantised()
    before, model = source.SerializeToString(deterministic=True), copy(source)
    assert source.SerializeToString(deterministic=True) == before
    onnx.checker.check_model(model, full_check=True)

    assert list(model.graph.node) == list(source.graph.node)
    changed = {name for node in source.graph.node if node.op_type == "QuantizeLinear" for name in node.input[1:]}
    old, new = constants(source.graph), constants(model.graph)
    assert list(old) == list(new)
    for name_of in old.keys() - changed:
        assert new[name_of].dtype == old[name_of].dtype
        np.testing.assert_array_equal(new[name_of], old[name_of])


@pytest.mark.parametrize("name", ["unet-xs", "three classes", "classic"])
def test_both_copies_compute_the_same_to_the_bit(
    name: str, specimen: Callable[[str], Any], run_model: Callable[..., Floats]
) -> None:
    source, batch = specimen(name).quantised(ROOM), specimen(name).batch
    logits = run_model(unsigned_behind_relu(source), batch)
    assert np.ptp(logits) > 2
    np.testing.assert_array_equal(run_model(to_unsigned(source), batch), logits)


@pytest.mark.parametrize("name", ["unet-xs", "three classes", "classic"])
def test_they_are_nearer_to_fp32_than_their_source(
    name: str, specimen: Callable[[str], Any], run_model: Callable[..., Floats]
) -> None:
    sample = specimen(name)
    expected, source = run_model(sample.model, sample.batch), sample.quantised()
    signed, unsigned = (np.abs(run_model(each, sample.batch) - expected) for each in (source, to_unsigned(source)))
    assert unsigned.mean() < 0.9 * signed.mean()


@pytest.mark.parametrize("name", ["unet-xs", "three classes", "classic"])
def test_both_agree_as_the_engine_fuses_them(
    name: str, specimen: Callable[[str], Any], run_model: Callable[..., Floats]
) -> None:
    """Within 2 % of the logits' spread at every pixel, 0.01 % in the mean: sums that lie between two steps may differ.

    Weights of 7 bits, so that no CPU saturates sums of products.
    """
    source, batch = specimen(name).quantised(ROOM, weight_bits=7), specimen(name).batch
    mixed, unsigned = (run_model(copy(source), batch, optimised=True) for copy in (unsigned_behind_relu, to_unsigned))
    error = np.abs(unsigned - mixed)
    assert error.max() < 0.02 * np.ptp(mixed)
    assert error.mean() < 1e-4 * np.ptp(mixed)


def test_the_trained_network_agrees_with_its_signed_source(
    int8_file: Path, slices: Floats, run_model: Callable[..., Floats]
) -> None:
    """On slices beyond the calibrated ones, fused or not, within 2 % of the logits' spread at every pixel."""
    source = onnx.load(int8_file)
    logits = run_model(source, slices)
    for optimised in (False, True):
        error = np.abs(run_model(to_unsigned(source), slices, optimised=optimised) - logits)
        assert error.max() < 0.02 * np.ptp(logits)
