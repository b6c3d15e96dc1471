"""Segmentation losses on logits: binary cross-entropy, soft Dice, soft Jaccard, and weighted sums of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch.nn.functional as F
from torch import Tensor

from tumortrace_runtime.settings import require

Loss = Callable[[Tensor, Tensor], Tensor]

SMOOTHING = 1.0


def bce_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Mean binary cross-entropy over all pixels; both (n, classes, rows, columns) float, truth 0 or 1."""
    return F.binary_cross_entropy_with_logits(logits, truth)


def dice_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """1 - soft Dice (Milletari et al. 2016, with |p| in place of p squared), the overlap summed over the whole batch.

    Summing over the batch keeps slices without tumour from contributing an all-or-nothing term of their own.
    """
    overlap, sizes = _overlap_and_sizes(logits, truth)
    return (1 - (2 * overlap + SMOOTHING) / (sizes + SMOOTHING)).mean()


def jaccard_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """1 - soft Jaccard index (Rahman and Wang 2016), the overlap summed over the whole batch."""
    overlap, sizes = _overlap_and_sizes(logits, truth)
    return (1 - (overlap + SMOOTHING) / (sizes - overlap + SMOOTHING)).mean()


LOSSES: dict[str, Loss] = {"bce": bce_loss, "dice": dice_loss, "jaccard": jaccard_loss}


def build_loss(weights: Mapping[str, float]) -> Loss:
    """The weighted sum of losses by name, such as {"bce": 1, "dice": 1}.

    Raises:
        SpecError: a name is unknown, a weight is not positive, or there is none.
    """
    require(len(weights) > 0, "loss", dict(weights), "at least one")
    for name, weight in weights.items():
        require(name in LOSSES, "loss", name, f"one of {', '.join(LOSSES)}")
        require(weight > 0, f"loss.{name}", weight, "a positive weight")

    def loss(logits: Tensor, truth: Tensor) -> Tensor:
        terms = [weight * LOSSES[name](logits, truth) for name, weight in weights.items()]
        return sum(terms[1:], start=terms[0])

    return loss


def _overlap_and_sizes(logits: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Per class: the sum of probability on the truth, and the sum of both."""
    probability = logits.sigmoid()
    axes = (0, 2, 3)
    return (probability * truth).sum(axes), probability.sum(axes) + truth.sum(axes)
