from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from tumortrace.checkpoint import load_checkpoint
from tumortrace.ensemble import Ensemble


def test_several_networks_answer_with_the_mean_of_their_probabilities(tiny_checkpoint: Path) -> None:
    checkpoint = load_checkpoint(tiny_checkpoint)
    scaled = {name: (tensor * 0.9).to(tensor.dtype) for name, tensor in checkpoint.weights.items()}
    other = replace(checkpoint, weights=scaled)
    batch = torch.randn(2, 9, 64, 64, generator=torch.Generator().manual_seed(0))
    alone = [one.network()(batch).sigmoid() for one in (checkpoint, other)]

    ensemble = Ensemble([checkpoint, other]).train()
    torch.testing.assert_close(ensemble(batch), torch.stack(alone).mean(0))
    assert not any(parameter.requires_grad for parameter in ensemble.parameters())
