from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tumortrace.model import FAMILY, ModelConfig, build_model
from tumortrace_export.folding import store_folded
from tumortrace_export.graph import constants
from tumortrace_export.onnx_model import onnx_model
from tumortrace_export.quantised_network import QuantisedNetwork

CLASSIC = ModelConfig("classic", in_channels=9, classes=1, widths=(16, 32), stem=1)


@pytest.mark.parametrize("name", ["unet-xs", "classic"])
def test_an_export_of_folded_weights_gives_them_back(name: str, specimen: Callable[[str], Any]) -> None:
    sample = specimen(name)
    network = build_model(sample.config)
    shake(network)
    folded = QuantisedNetwork(sample.model, sample.magnitudes).layers
    network.load_state_dict(store_folded(network, folded))

    exported, stored = (constants(model.graph) for model in (onnx_model(network, 9, (32, 32)), sample.model))
    assert set(exported) == set(stored)
    for key, values in stored.items():
        np.testing.assert_allclose(np.asarray(exported[key], float), np.asarray(values, float), rtol=1e-6, err_msg=key)


@pytest.mark.parametrize("config", [FAMILY["unet-xs"], CLASSIC], ids=["unet-xs", "classic"])
def test_in_float_the_folded_network_is_the_one_that_was_folded(config: ModelConfig) -> None:
    network = build_model(config)
    shake(network)
    model = onnx_model(network, 9, (32, 32))
    ones = {node.output[0]: 1.0 for node in model.graph.node} | {"input": 1.0}
    folded = build_model(config)
    folded.load_state_dict(store_folded(network, QuantisedNetwork(model, ones).layers))

    batch = torch.randn(2, 9, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, found = network.eval()(batch), folded.eval()(batch)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def shake(network: nn.Module) -> None:
    """Give each batch norm statistics and weights as training does, and the head something to say."""
    torch.manual_seed(3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.bias, std=0.3)
    assert isinstance(network.head, nn.Conv2d)
    nn.init.normal_(network.head.weight, std=0.1)
