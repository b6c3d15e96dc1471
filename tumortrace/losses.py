"""Segmentation losses on logits: binary cross-entropy, soft Dice, Jaccard and Tversky, boundary, and weighted sums."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from tumortrace_runtime.settings import require

Loss = Callable[[Tensor, Tensor], Tensor]

SMOOTHING = 1.0
MISSES = 0.7
"""What a missed pixel weighs in the Tversky loss; a false one weighs the rest of 1."""


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


def tversky_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """1 - soft Tversky index (Salehi et al. 2017) with misses weighing 0.7 and false pixels 0.3, as they found best."""
    overlap, sizes = _overlap_and_sizes(logits, truth)
    missed = truth.sum((0, 2, 3)) - overlap
    false = sizes - truth.sum((0, 2, 3)) - overlap
    return (1 - (overlap + SMOOTHING) / (overlap + MISSES * missed + (1 - MISSES) * false + SMOOTHING)).mean()


def boundary_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Mean probability times signed distance to the truth's boundary (Kervadec et al. 2019).

    Distances are in units of the slice's rows, negative inside, and 0 throughout where a slice has no truth, so the
    loss says nothing there: it goes with one that does.
    """
    slices = truth.detach().flatten(0, 1).cpu().numpy().astype(np.uint8)
    distance = torch.from_numpy(np.stack([_signed_distance_px(one) for one in slices])).to(truth.device)
    return (logits.sigmoid() * distance.view_as(truth)).mean() / truth.shape[-2]


LOSSES: dict[str, Loss] = {
    "bce": bce_loss,
    "dice": dice_loss,
    "jaccard": jaccard_loss,
    "tversky": tversky_loss,
    "boundary": boundary_loss,
}


def build_loss(weights: Mapping[str, float]) -> Loss:
    """The weighted sum of losses by name, such as {"bce": 1, "dice": 1}.

    Raises:
        SpecError: a name is unknown, a weight is not positive, or there is none, or none but the boundary's.
    """
    require(len(weights) > 0, "loss", dict(weights), "at least one")
    require(set(weights) != {"boundary"}, "loss", "boundary", "another beside it, which alone says what has no tumour")
    for name, weight in weights.items():
        require(name in LOSSES, "loss", name, f"one of {', '.join(LOSSES)}")
        require(weight > 0, f"loss.{name}", weight, "a positive weight")

    def loss(logits: Tensor, truth: Tensor) -> Tensor:
        terms = [weight * LOSSES[name](logits, truth) for name, weight in weights.items()]
        return sum(terms[1:], start=terms[0])

    return loss


def _signed_distance_px(truth: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    if not truth.any():
        return np.zeros(truth.shape, np.float32)
    outside, inside = (cv2.distanceTransform(part, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) for part in (1 - truth, truth))
    farthest = max(truth.shape)  # and not infinitely far, where truth fills the slice
    signed: npt.NDArray[np.float32] = np.clip(outside - inside, -farthest, farthest)
    return signed


def _overlap_and_sizes(logits: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Per class: the sum of probability on the truth, and the sum of both."""
    probability = logits.sigmoid()
    axes = (0, 2, 3)
    return (probability * truth).sum(axes), probability.sum(axes) + truth.sum(axes)
