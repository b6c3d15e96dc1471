"""A network that computes in float what its INT8 model computes in integers, and so can be trained to."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from tumortrace_export.graph import LARGEST_INT8, WEIGHT_AXES, WEIGHTED, constants, copied, set_constant
from tumortrace_export.onnx_model import INPUT, OUTPUT
from tumortrace_export.quantise import fp16_scale, quantise, scale_owners
from tumortrace_export.torch_graph import along, compute, straight_through, to_integers

Layers = dict[str, tuple[Tensor, Tensor]]
"""Weights and bias of each layer, by the name of its node, which is that of the network's module."""


class QuantisedNetwork(nn.Module):
    """The graph that `quantise` makes of a model, its weights, biases and magnitudes to be learned.

    Each pass rounds the weights anew, with the scales that an export would give them. Magnitudes are learned by their
    logarithm, so that a step of the optimizer means the same for all, as in Jain et al. 2020, "Trained quantization
    thresholds" (arXiv:1903.08066).

    Attributes:
        weights: by layer, its dots replaced by slashes.
        biases: the same.
        log_magnitudes: natural logarithm of what an activation is clipped at, by its name in the model; none for what
            is only moved.
    """

    def __init__(self, model: onnx.ModelProto, magnitudes: Mapping[str, float], weight_bits: int = 8) -> None:
        """Build the network.

        Args:
            model: FP32, as `onnx_model` gives it.
            magnitudes: of each of `activations(model)`, to begin with.
            weight_bits: 8 or 7.

        Raises:
            CheckpointError: a weight is not finite, or weights or activations are too large for an FP16 scale.
        """
        super().__init__()
        source = _with_biases(model)
        quantised = quantise(source, magnitudes, weight_bits=weight_bits)
        self._float_nodes, self._nodes = list(source.graph.node), list(quantised.graph.node)
        self._layers = {node.name: node for node in source.graph.node if node.op_type in WEIGHTED}
        self._owners = scale_owners(source)
        self._last = 2 ** (weight_bits - 1) - 1
        values = {name: torch.tensor(array) for name, array in constants(source.graph).items()}
        self._constants = {name: torch.tensor(array) for name, array in constants(quantised.graph).items()}
        self.weights = nn.ParameterDict({_key(name): values[node.input[1]] for name, node in self._layers.items()})
        self.biases = nn.ParameterDict({_key(name): values[node.input[2]] for name, node in self._layers.items()})
        logarithms = {name: math.log(magnitudes[name]) for name in dict.fromkeys(self._owners.values())}
        self.log_magnitudes = nn.ParameterDict({name: torch.tensor(value) for name, value in logarithms.items()})

    def forward(self, batch: Tensor) -> Tensor:
        """The logits (n, classes, rows, columns) of a batch (n, in_channels, rows, columns), as INT8 gives them."""
        return compute(self._nodes, {**self._constants, **self.learned(), INPUT: batch})[OUTPUT]

    def learned(self) -> dict[str, Tensor]:
        """Integers, scales and biases as the INT8 model stores them, by their names there, with their gradients."""
        return {**dict(self._rounded_weights()), **dict(self._scales()), **dict(self._biases())}

    def float_values(self, batch: Tensor) -> dict[str, Tensor]:
        """All values of the same network in float, by their names in the model."""
        weights = {node.input[1]: self.weights[_key(name)] for name, node in self._layers.items()}
        return compute(self._float_nodes, {**self._constants, **weights, **dict(self._biases()), INPUT: batch})

    @property
    def magnitudes(self) -> dict[str, float]:
        """What each activation of the model is clipped at."""
        return {name: math.exp(self.log_magnitudes[owner].item()) for name, owner in self._owners.items()}

    @property
    def layers(self) -> Layers:
        """What the layers have learned."""
        return {
            name: (self.weights[_key(name)].detach().clone(), self.biases[_key(name)].detach().clone())
            for name in self._layers
        }

    def _biases(self) -> Iterator[tuple[str, Tensor]]:
        for name, node in self._layers.items():
            yield node.input[2], self.biases[_key(name)]

    def _rounded_weights(self) -> Iterator[tuple[str, Tensor]]:
        for name, node in self._layers.items():
            weights, axis = self.weights[_key(name)], WEIGHT_AXES[node.op_type]
            others = [place for place in range(weights.ndim) if place != axis]
            magnitudes = weights.detach().abs().amax(others).cpu().numpy()
            scale = torch.as_tensor(fp16_scale(magnitudes, self._last), device=weights.device)
            steps = along(scale, axis, weights.ndim)
            yield f"{node.input[1]}_scale", scale
            yield f"{node.input[1]}_quantised", to_integers(weights, steps, -self._last, self._last)

    def _scales(self) -> Iterator[tuple[str, Tensor]]:
        for name, owner in self._owners.items():
            logarithm = self.log_magnitudes[owner]
            exact = torch.as_tensor(fp16_scale(math.exp(logarithm.item())), device=logarithm.device)
            yield f"{name}_scale", straight_through(logarithm.exp() / LARGEST_INT8, exact)


def _with_biases(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which the layers that have no bias, as their batch norm adds nothing, have one of zeros to learn."""
    result = copied(model)
    weights = constants(result.graph)
    for node in result.graph.node:
        if node.op_type in WEIGHTED and len(node.input) == 2:
            channels = weights[node.input[1]].shape[WEIGHT_AXES[node.op_type]]
            node.input.append(f"{node.input[1]}_bias")
            set_constant(result.graph, node.input[2], np.zeros(channels, np.float32))
    return result


def _key(layer: str) -> str:
    """PyTorch allows no dot in a parameter's name."""
    return layer.replace(".", "/")
