from __future__ import annotations

import pytest
import torch
from torch import nn

from tumortrace.average import average_weights


def linear(value: float) -> nn.Module:
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, value)
    return network


def test_the_average_by_hand() -> None:
    network = linear(0.0)
    average = average_weights(network, 0.5)
    average.update_parameters(network)  # the first one is taken as it is
    expected = 0.0
    for step, value in enumerate((1.0, 3.0, -2.0), start=1):
        nn.init.constant_(network.weight, value)
        average.update_parameters(network)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
        assert average.module.weight.item() == pytest.approx(expected)


def test_late_steps_decay_as_was_asked() -> None:
    network = linear(0.0)
    average = average_weights(network, 0.9)
    average.n_averaged.fill_(10_000)
    nn.init.constant_(network.weight, 1.0)
    average.update_parameters(network)
    assert average.module.weight.item() == pytest.approx(0.1)


def test_batch_norms_are_averaged_and_their_counters_copied() -> None:
    network = nn.BatchNorm2d(1)
    average = average_weights(network, 0.5)
    average.n_averaged.fill_(1000)
    network(torch.full((1, 1, 2, 2), 10.0))
    average.update_parameters(network)
    assert average.module.running_mean.item() == pytest.approx(network.running_mean.item() / 2)
    assert average.module.num_batches_tracked.item() == 1
