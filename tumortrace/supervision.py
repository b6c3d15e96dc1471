"""Deep supervision: while a network is trained, its coarser decoder features must tell the tumour too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tumortrace.losses import Loss
from tumortrace.model import ModelConfig, build_model, initialise_head


class Supervised(nn.Module):
    """A U-Net with a 1x1 head on every decoder level but the finest (Dou et al. 2017), or without.

    Its first logits are the network's own, the others coarser; `network` alone is what is evaluated and kept.
    """

    def __init__(self, config: ModelConfig, *, deep: bool) -> None:
        super().__init__()
        self.network: nn.Module = build_model(config)
        self.heads = nn.ModuleList()
        self._features: dict[int, Tensor] = {}
        coarser = config.widths[-2:0:-1] if deep else ()
        for number, (level, width) in enumerate(zip(cast(nn.ModuleList, self.network.decoder), coarser, strict=False)):
            level.register_forward_hook(self._keep(number))
            self.heads.append(initialise_head(nn.Conv2d(width, config.classes, 1)))

    def forward(self, batch: Tensor) -> list[Tensor]:
        """Logits (n, classes, rows, columns) of a batch (n, in_channels, rows, columns); in training, coarser too."""
        logits = self.network(batch)
        if not self.training:
            return [logits]
        return [logits, *(head(self._features.pop(number)) for number, head in enumerate(self.heads))]

    def _keep(self, number: int) -> Callable[[nn.Module, Any, Tensor], None]:
        def keep(level: nn.Module, _inputs: Any, features: Tensor) -> None:
            if level.training:  # not the moving average, a copy that has this hook too
                self._features[number] = features

        return keep


def supervised_loss(logits: Sequence[Tensor], truth: Tensor, loss: Loss, weight: float) -> Tensor:
    """The loss of the first logits plus `weight` times the mean loss of the coarser ones.

    Coarser logits are enlarged to the truth's (n, classes, rows, columns): every loss means there what it means here.
    """
    value = loss(logits[0], truth)
    if len(logits) == 1:
        return value
    enlarged = (F.interpolate(one.float(), truth.shape[-2:], mode="bilinear") for one in logits[1:])
    return value + weight * torch.stack([loss(one, truth) for one in enlarged]).mean()
