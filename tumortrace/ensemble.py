"""Several trained networks that answer as one: a fold's seeds, or the teachers of a student."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tumortrace.checkpoint import Checkpoint
from tumortrace.model import channels_last


class Ensemble(nn.Module):
    """Several trained networks; their say is the mean of their probabilities."""

    def __init__(self, checkpoints: Sequence[Checkpoint]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(channels_last(checkpoint.network()) for checkpoint in checkpoints)
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(self, batch: Tensor) -> Tensor:
        """Probabilities (n, classes, rows, columns) of a batch (n, in_channels, rows, columns)."""
        return torch.stack([network(batch).float().sigmoid() for network in self.networks]).mean(0)

    def train(self, mode: bool = True) -> Ensemble:
        """Stay in evaluation mode: what was learned does not move."""
        return super().train(False)
