"""What tells scans that a network was not made for, learned from its training scans and from spoiled copies of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.confidence import Direction, Distance, OodReference, component_distance
from tumortrace_runtime.errors import SpecError

Floats = npt.NDArray[np.float64]

COMPONENTS = 4
"""Principal components of the distance."""

FALSE_ALARMS = 0.05
"""The share of scans like those trained on that may be flagged, where there are enough to set such a limit."""

LEAST_SCALE = 0.3
"""Of the median standard deviation: statistics that hardly vary in training are not let count for more."""

FEWEST_SCANS = 10
"""With fewer the limit would say nothing."""

DIGITS = 5
"""Significant ones of what is stored."""


@dataclass(frozen=True)
class _Fit:
    """A reference whose evidence is not yet comparable: directions by way, in rows, and the parts of the distance."""

    weights: Floats
    mean: Floats
    scale: Floats
    components: Floats
    variances: Floats
    residual_variance: float

    def raw(self, scan: Floats) -> Floats:
        """Projection on each direction, then the distance, of one scan's mean statistics."""
        centred = scan - self.mean
        distance = component_distance(centred / self.scale, self.components, self.variances, self.residual_variance)
        return np.array([*(self.weights @ centred), distance])


def fit_reference(
    scans: Floats, changes: Mapping[str, Floats], absences: Mapping[str, Floats], unseen: Sequence[Floats]
) -> OodReference:
    """Learn a reference, and set its limit on scans that had no part in learning.

    Each training scan is judged by what the others teach. That makes evidence comparable between ways, and sets the
    limit together with the validation scans: conformal, so that another scan like them exceeds it with a probability of
    at most `false_alarm_share` (Laxhammar and Falkman 2015), as far as so few scans can tell.

    Args:
        scans: (training scans, statistics), the mean over each scan's slices; no sequence is missing.
        changes: by way, what these means change by where the scans are spoiled in it, of the same shape.
        absences: by the names of missing sequences, what the means change by where they are missing, (statistics,).
        unseen: (statistics,) of each scan that is like them and has no other part in this; what `absences` says is
            already taken off those that lack sequences.

    Raises:
        SpecError: fewer than `FEWEST_SCANS` training scans.
    """
    if len(scans) < FEWEST_SCANS:
        raise SpecError(f"out-of-distribution: {len(scans)} training scans given; at least {FEWEST_SCANS} wanted.")
    fit = _fit(scans, changes)
    left_out = np.stack([_left_out(scans, changes, number) for number in range(len(scans))])
    centre, gain = left_out.mean(axis=0), 1 / left_out.std(axis=0, ddof=1)
    judged = np.concatenate([left_out, [fit.raw(scan) for scan in unseen]]) if len(unseen) else left_out
    return OodReference(
        ways={way: _direction(fit, number, centre[number], gain[number]) for number, way in enumerate(changes)},
        distance=Distance(
            mean=_row(fit.mean),
            scale=_row(fit.scale),
            components=tuple(_row(component) for component in fit.components),
            variances=_row(fit.variances),
            residual_variance=fit.residual_variance,
            weight=float(gain[-1]),
            offset=float(-gain[-1] * centre[-1]),
        ),
        absences={names: _row(change) for names, change in absences.items()},
        limit=_conformal(((judged - centre) * gain).max(axis=1)),
    )


def _direction(fit: _Fit, number: int, centre: float, gain: float) -> Direction:
    weights = gain * fit.weights[number]
    return Direction(_row(weights), float(-weights @ fit.mean - gain * centre))


def _left_out(scans: Floats, changes: Mapping[str, Floats], number: int) -> Floats:
    """What the other scans teach of one."""
    others = {way: np.delete(change, number, axis=0) for way, change in changes.items()}
    return _fit(np.delete(scans, number, axis=0), others).raw(scans[number])


def _fit(scans: Floats, changes: Mapping[str, Floats]) -> _Fit:
    mean, deviation = scans.mean(axis=0), scans.std(axis=0, ddof=1)
    scale = np.maximum(deviation, LEAST_SCALE * np.median(deviation[deviation > 0]))
    centred = (scans - mean) / scale
    covariance = ledoit_wolf(centred)
    directions = np.linalg.solve(covariance, np.stack([change.mean(axis=0) / scale for change in changes.values()]).T).T
    directions /= np.sqrt(np.einsum("ki,ij,kj->k", directions, covariance, directions))[:, None]
    _, lengths, axes = np.linalg.svd(centred, full_matrices=False)
    variances = lengths**2 / (len(scans) - 1)
    kept = min(COMPONENTS, len(scans) - 2)
    return _Fit(
        weights=directions / scale,
        mean=mean,
        scale=scale,
        components=axes[:kept],
        variances=variances[:kept],
        residual_variance=float(variances[kept:].sum() / (len(mean) - kept)),
    )


def false_alarm_share(judged: int) -> float:
    """The share of scans like those trained on that may be flagged, of a limit set by so many: fewer allow more."""
    return max(FALSE_ALARMS, 1 / (judged + 1))


def ledoit_wolf(centred: Floats) -> Floats:
    """The covariance of (samples, features) with mean 0, shrunk towards a multiple of the identity.

    Ledoit and Wolf 2004 (Journal of Multivariate Analysis 88): well-conditioned with fewer samples than features.
    """
    samples, features = centred.shape
    covariance: Floats = centred.T @ centred / samples
    mean_variance = np.trace(covariance) / features
    target = mean_variance * np.eye(features)
    distance = float(((covariance - target) ** 2).sum())
    noise = float(((centred**2).sum(axis=1) ** 2).sum() / samples - (covariance**2).sum()) / samples
    shrinkage = min(1.0, noise / distance) if distance else 1.0
    shrunk: Floats = (1 - shrinkage) * covariance + shrinkage * target
    return shrunk


def _conformal(scores: Floats) -> float:
    """What a new score like these exceeds with a probability of at most `false_alarm_share`; of few the largest."""
    rank = math.ceil((1 - FALSE_ALARMS) * (len(scores) + 1))
    return float(np.sort(scores)[min(rank, len(scores)) - 1])


def _row(values: Floats) -> tuple[float, ...]:
    return tuple(float(f"{value:.{DIGITS}g}") for value in values.tolist())
