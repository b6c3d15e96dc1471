"""How far a threshold alone can get: the score that a segmenter has to beat."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.errors import ScanError


def oracle_threshold_dice(channel: npt.NDArray[np.generic], truth: npt.NDArray[np.generic]) -> float:
    """The best Dice that any threshold on one channel reaches, chosen with the truth in hand.

    Every threshold is tried, on both sides: all voxels at or above a value, and all at or below it. Choosing none is
    allowed too, so that an empty truth scores 1, as an empty mask against it does.

    Args:
        channel: intensities, of any shape and numeric dtype, without NaN.
        truth: the same shape; voxels other than 0 are the target.

    Returns:
        Dice, 0 to 1.

    Raises:
        ScanError: the shapes differ, or an intensity is NaN.

    Example:
        >>> oracle_threshold_dice(np.array([0, 1, 5, 9]), np.array([0, 0, 1, 1]))
        1.0
    """
    if channel.shape != truth.shape:
        raise ScanError(f"The channel has shape {channel.shape}; the truth has {truth.shape}; the same is wanted.")
    if np.issubdtype(channel.dtype, np.inexact) and np.isnan(channel).any():
        raise ScanError("The channel holds NaN; intensities that can be compared are wanted.")
    target = truth.ravel() != 0
    if not target.any():
        return 1.0
    _, place = np.unique(channel.ravel(), return_inverse=True)
    chosen = np.bincount(place)
    hits = np.bincount(place[target], minlength=len(chosen))
    total = int(target.sum())
    return max(_best_from(chosen, hits, total), _best_from(chosen[::-1], hits[::-1], total))


def _best_from(chosen: npt.NDArray[np.intp], hits: npt.NDArray[np.intp], total: int) -> float:
    """The best Dice of any run of counts from the first on; Dice is 2 |A and B| / (|A| + |B|)."""
    return float((2 * np.cumsum(hits) / (np.cumsum(chosen) + total)).max())
