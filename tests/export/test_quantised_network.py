"""That what is trained is what is exported."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from tumortrace.model import build_model, family_config
from tumortrace_export.graph import constants
from tumortrace_export.onnx_model import onnx_model
from tumortrace_export.quantise import activations, layers, quantise, scale_owners
from tumortrace_export.quantised_network import QuantisedNetwork

Floats = npt.NDArray[np.float32]
BOTH_ARCHITECTURES = pytest.mark.parametrize("name", ["unet-xs", "classic"])
CLIPPED = 0.8
"""What the magnitudes are of the largest values: some are clipped."""


@pytest.fixture(scope="module")
def network_of(specimen: Callable[[str], Any]) -> Callable[..., QuantisedNetwork]:
    def make(name: str, weight_bits: int = 8) -> QuantisedNetwork:
        sample = specimen(name)
        clipped = {each: CLIPPED * size for each, size in sample.magnitudes.items()}
        return QuantisedNetwork(sample.model, clipped, weight_bits)

    return make


def run(network: torch.nn.Module, batch: Floats) -> Floats:
    with torch.no_grad():
        logits: Tensor = network(torch.from_numpy(batch))
    return logits.numpy()


def disagreement(one: Floats, two: Floats) -> float:
    """The median difference of logits, in units of their spread."""
    return float(np.median(np.abs(one - two)) / one.std())


@pytest.mark.parametrize("name", ["unet-xs", "unet-s", "classic", "three classes"])
@pytest.mark.parametrize("bits", [8, 7])
def test_its_logits_are_those_of_the_exported_model(
    name: str, bits: int, specimen: Callable[[str], Any], network_of: Callable[..., Any], run_model: Callable[..., Any]
) -> None:
    """But for slices in which the sum of products, each engine's in an order of its own, was about half a step."""
    sample = specimen(name)
    exported = sample.quantised(CLIPPED, weight_bits=bits)
    expected, found = run_model(exported, sample.batch), run(network_of(name, bits), sample.batch)
    assert disagreement(expected, found) < 1e-6
    assert disagreement(expected, run_model(sample.model, sample.batch)) > 1e-2  # what INT8 itself costs


@BOTH_ARCHITECTURES
def test_a_pair_elsewhere_would_show(
    name: str, specimen: Callable[[str], Any], network_of: Callable[..., Any], run_model: Callable[..., Any]
) -> None:
    """With a single layer in float logits differ by thousands of times as much."""
    sample = specimen(name)
    found = run(network_of(name), sample.batch)
    for layer in layers(sample.model):
        assert disagreement(run_model(sample.quantised(CLIPPED, float_layers=[layer]), sample.batch), found) > 5e-3


@BOTH_ARCHITECTURES
@pytest.mark.parametrize("bits", [8, 7])
def test_what_it_has_learned_is_exported_to_the_bit(
    name: str, bits: int, specimen: Callable[[str], Any], network_of: Callable[..., Any]
) -> None:
    """Integers and scales of the model that is made of its weights and magnitudes are those that it computes with."""
    network = network_of(name, bits)
    nudge(network)
    model = specimen(name).model
    for node in model.graph.node:
        if node.name in network.layers:
            for initializer, tensor in zip(node.input[1:], network.layers[node.name], strict=True):
                (stored,) = (item for item in model.graph.initializer if item.name == initializer)
                stored.raw_data = tensor.numpy().tobytes()
    exported = constants(quantise(model, network.magnitudes, weight_bits=bits).graph)
    computed = dict(network.learned())
    assert {key for key in exported if key.endswith(("_quantised", "_scale"))} <= set(computed)
    for key, tensor in computed.items():
        np.testing.assert_array_equal(tensor.detach().numpy(), exported[key], err_msg=key)


def nudge(network: QuantisedNetwork) -> None:
    """Train it a little, on nothing."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape))


@BOTH_ARCHITECTURES
def test_everything_is_learned(name: str, specimen: Callable[[str], Any], network_of: Callable[..., Any]) -> None:
    network = network_of(name)
    logits = network(torch.from_numpy(specimen(name).batch))
    logits.square().mean().backward()
    assert len(network.weights) == len(network.biases) == len(layers(specimen(name).model))
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())


def test_magnitudes_that_clip_too_much_grow(specimen: Callable[[str], Any]) -> None:
    """Learned towards what the network says in float, a step of the optimizer for each alike."""
    sample = specimen("unet-xs")
    clipped = {each: 0.3 * size for each, size in sample.magnitudes.items()}
    network = QuantisedNetwork(sample.model, clipped)
    batch = torch.from_numpy(sample.batch)
    with torch.no_grad():
        expected = network.float_values(batch)["logits"]
    optimizer = torch.optim.Adam(network.log_magnitudes.parameters(), lr=0.1)
    errors = []
    for _ in range(12):
        error = (network(batch) - expected).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < 0.5 * errors[0]
    grown = [network.magnitudes[each] / clipped[each] for each in clipped]
    assert np.median(grown) > 1.5


@BOTH_ARCHITECTURES
def test_what_is_only_moved_has_no_magnitude_of_its_own(
    name: str, specimen: Callable[[str], Any], network_of: Callable[..., Any]
) -> None:
    network, owners = network_of(name), scale_owners(specimen(name).model)
    moved = {each for each, owner in owners.items() if owner != each}
    assert moved and set(network.log_magnitudes) == set(owners) - moved
    assert list(network.magnitudes) == activations(specimen(name).model)
    for each, magnitude in network.magnitudes.items():
        assert magnitude == network.magnitudes[owners[each]]
        assert magnitude == pytest.approx(CLIPPED * specimen(name).magnitudes[owners[each]], rel=1e-6)


@BOTH_ARCHITECTURES
def test_in_float_it_is_the_network_as_it_was(
    name: str, specimen: Callable[[str], Any], network_of: Callable[..., Any], run_model: Callable[..., Any]
) -> None:
    sample = specimen(name)
    with torch.no_grad():
        values = network_of(name).float_values(torch.from_numpy(sample.batch))
    for each in (*activations(sample.model), "logits"):
        expected = run_model(sample.model, sample.batch, each) if each != "input" else sample.batch
        np.testing.assert_allclose(values[each].numpy(), expected, rtol=1e-4, atol=1e-4)


def test_a_layer_whose_batch_norm_adds_nothing_can_learn_to_add() -> None:
    model = onnx_model(build_model(family_config("unet-xs", 9)), 9, (32, 32))
    magnitudes = dict.fromkeys(activations(model), math.pi)
    assert any(len(node.input) == 2 for node in model.graph.node if node.op_type == "Conv")
    network = QuantisedNetwork(model, magnitudes)
    assert set(network.layers) == set(layers(model))
    assert not network.layers["encoder.0.0.0"][1].any()
