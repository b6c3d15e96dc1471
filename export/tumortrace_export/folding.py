"""Weights with batch norm folded into them, in a network that has batch norm still."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tumortrace_export.quantised_network import Layers


def store_folded(network: nn.Module, layers: Layers) -> dict[str, Tensor]:
    """The weights of `network` with each layer's own in place, and batch norms that only add its bias.

    Args:
        network: of `tumortrace.model`, in which a layer without a bias stands right before its batch norm.
        layers: folded weights and bias by the module's name.
    """
    weights = dict(network.state_dict())
    for name, (layer_weights, bias) in layers.items():
        weights[f"{name}.weight"] = layer_weights
        weights[_bias_of(network, name)] = bias
        if network.get_submodule(name).bias is None:
            weights |= _identity(network, _norm_of(name))
    return weights


def _bias_of(network: nn.Module, name: str) -> str:
    return f"{name if network.get_submodule(name).bias is not None else _norm_of(name)}.bias"


def _norm_of(name: str) -> str:
    """The module after `name` in its `Sequential`."""
    parent, _, place = name.rpartition(".")
    return f"{parent}.{int(place) + 1}"


def _identity(network: nn.Module, name: str) -> dict[str, Tensor]:
    norm = network.get_submodule(name)
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None
    ones = torch.ones_like(norm.running_var)
    return {f"{name}.weight": ones, f"{name}.running_mean": 0 * ones, f"{name}.running_var": ones - norm.eps}
