"""Temperature scaling: one number that makes a network's probabilities mean what they say."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar

BOUNDS = (0.05, 20.0)


def fit_temperature(logits: npt.NDArray[np.float32], truth: npt.NDArray[np.uint8]) -> float:
    """The temperature T with which sigmoid(logit / T) has the least negative log-likelihood (Guo et al. 2017).

    Dividing logits by a positive number changes no mask whose threshold is a probability of 0.5, and here none at all:
    masks are made of the logits as they are.

    Args:
        logits: of any shape.
        truth: 0 or 1, of the same shape.

    Returns:
        T within `BOUNDS`; an end of it where no voxel contradicts the network, or all do.
    """
    values, tumour = logits.ravel(), truth.ravel().astype(np.float32)

    def loss(log_temperature: float) -> float:
        scaled = values / np.float32(math.exp(log_temperature))
        return float(np.mean(np.logaddexp(np.float32(0), scaled) - tumour * scaled, dtype=np.float64))

    found = minimize_scalar(loss, bounds=tuple(map(math.log, BOUNDS)), method="bounded")
    return math.exp(float(found.x))
