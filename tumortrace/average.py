"""The exponential moving average of a network's weights, which generalises better than any one step's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def average_weights(network: nn.Module, decay: float) -> AveragedModel:
    """A copy of `network` whose `update_parameters` follows it (Polyak and Juditsky 1992), batch norms included.

    Args:
        network: the network that is trained.
        decay: of the average; after n steps it is at most (1 + n) / (10 + n), so that the first weights are forgotten.
    """
    return AveragedModel(network, multi_avg_fn=_follow(decay), use_buffers=True)


def _follow(decay: float) -> Callable[[Any, Any, Any], None]:
    @torch.no_grad()
    def follow(averaged: Sequence[Tensor], current: Sequence[Tensor], steps: Tensor) -> None:
        done = int(steps)
        share = 1 - min(decay, (1 + done) / (10 + done))
        for mean, value in zip(averaged, current, strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, share)
            else:
                mean.copy_(value)

    return follow
