"""How far a result can be trusted: calibrated probabilities, and whether a scan is like those that were trained on.

Both are read from what the network gives anyway: its logits, and the statistics of its bottleneck. Neither changes a
mask.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.errors import InputError
from tumortrace_runtime.settings import require

Doubles = npt.NDArray[np.float64]

BINS = 15
"""Of the expected calibration error, as many as Guo et al. 2017 take."""

UNFAMILIAR = "unfamiliar"
"""The name of being unlike training scans in no way that was foreseen."""


def probabilities(logits: npt.NDArray[np.float32], temperature: float) -> npt.NDArray[np.float32]:
    """Calibrated probabilities of tumour, sigmoid(logit / temperature), in the shape of `logits`."""
    scaled = logits * np.float32(1 / temperature)
    calibrated: npt.NDArray[np.float32] = np.float32(0.5) * (1 + np.tanh(np.float32(0.5) * scaled))  # never overflows
    return calibrated


@dataclass(frozen=True, eq=False)
class Reliability:
    """Probabilities held against the truth, bin by bin; those of several cases add up.

    Attributes:
        voxels: how many fell into each bin.
        predicted: sum of their probabilities.
        tumour: how many of them are tumour.
    """

    voxels: Doubles
    predicted: Doubles
    tumour: Doubles

    def __add__(self, other: Reliability) -> Reliability:
        return Reliability(self.voxels + other.voxels, self.predicted + other.predicted, self.tumour + other.tumour)

    @property
    def error(self) -> float:
        """Expected calibration error: mean over voxels of |mean probability - share of tumour| of their bin.

        Naeini et al. 2015 (AAAI), of the probability of tumour. 0 without voxels.
        """
        return float(np.abs(self.predicted - self.tumour).sum() / max(1.0, self.voxels.sum()))


def reliability(probability: npt.NDArray[np.float32], truth: npt.NDArray[Any], bins: int = BINS) -> Reliability:
    """Count probabilities of tumour against the truth in bins of equal width.

    Air is most of a scan and easily told: give the voxels of the head alone, or the error is flattered.

    Args:
        probability: 0 to 1, of any shape.
        truth: of the same shape, non-zero for tumour.
        bins: how many.

    Raises:
        InputError: the shapes differ.
    """
    if probability.shape != truth.shape:
        raise InputError(
            f"calibration: probabilities {probability.shape}, truth {truth.shape} given; one shape wanted."
        )
    values, tumour = probability.ravel(), truth.ravel() != 0
    places = np.minimum((values * np.float32(bins)).astype(np.int64), bins - 1)
    return Reliability(
        voxels=np.bincount(places, minlength=bins).astype(np.float64),
        predicted=np.bincount(places, values, minlength=bins).astype(np.float64),
        tumour=np.bincount(places[tumour], minlength=bins).astype(np.float64),
    )


def expected_calibration_error(
    probability: npt.NDArray[np.float32], truth: npt.NDArray[Any], bins: int = BINS
) -> float:
    """The expected calibration error of one set of voxels; see `reliability`, whose results add up over cases.

    >>> expected_calibration_error(np.full(4, 0.9, np.float32), np.array([1, 1, 1, 0]))  # 0.9 said, 0.75 true
    0.15000000000000002
    """
    return reliability(probability, truth, bins).error


@dataclass(frozen=True)
class Direction:
    """A way in which scans are spoiled, as seen in a scan's mean statistics: evidence is weights x statistics + offset.

    Attributes:
        weights: of each statistic.
        offset: what is added.
    """

    weights: tuple[float, ...]
    offset: float


@dataclass(frozen=True)
class Distance:
    """How far a scan's mean statistics lie from those of training scans: evidence is weight x distance + offset.

    Attributes:
        mean: of each statistic over training scans.
        scale: by which each is divided before the distance is taken.
        components: orthonormal directions in which training scans differ most.
        variances: along them.
        residual_variance: in every other direction.
        weight: of the distance.
        offset: what is added.
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    components: tuple[tuple[float, ...], ...]
    variances: tuple[float, ...]
    residual_variance: float
    weight: float
    offset: float

    def __post_init__(self) -> None:
        width, many = len(self.mean), len(self.variances)
        require(width > 0, "ood.distance.mean", self.mean, "a number for each statistic")
        rows = (self.scale, *self.components)
        fits = len(self.components) == many and all(len(row) == width for row in rows)
        require(fits, "ood.distance", [len(row) for row in rows], f"scale and {many} components of {width} numbers")
        divisors = (*self.scale, *self.variances, self.residual_variance)
        require(min(divisors) > 0, "ood.distance", min(divisors), "positive scales and variances")

    @cached_property
    def _arrays(self) -> tuple[Doubles, Doubles, Doubles, Doubles]:
        components = np.array(self.components).reshape(-1, len(self.mean))
        return np.array(self.mean), np.array(self.scale), components, np.array(self.variances)

    def of(self, scan: Doubles) -> float:
        """Mahalanobis's distance of one scan's mean statistics."""
        mean, scale, components, variances = self._arrays
        return component_distance((scan - mean) / scale, components, variances, self.residual_variance)


def component_distance(centred: Doubles, components: Doubles, variances: Doubles, residual_variance: float) -> float:
    """Mahalanobis's distance from 0, with `variances` along `components` and one variance in all other directions.

    The covariance is that of probabilistic principal components (Tipping and Bishop 1999, J R Stat Soc B 61(3)).

    Args:
        centred: (n,).
        components: (k, n), orthonormal rows.
        variances: (k,).
        residual_variance: in every direction that no component has.
    """
    along = components @ centred
    rest = max(0.0, float(centred @ centred - along @ along))
    return math.sqrt(float((along**2 / variances).sum()) + rest / residual_variance)


@dataclass(frozen=True)
class OodReference:
    """What tells scans that a network was not made for, by the mean over slices of their bottleneck's statistics.

    Two kinds of evidence, each in standard deviations of scans like those trained on. How far a scan lies in the
    direction that copies of training scans take when they are spoiled in one of several ways: Fisher's linear
    discriminant, learned on outliers as Hendrycks et al. 2019 ("Deep anomaly detection with outlier exposure") learn.
    And how far it lies from training scans in whatever direction. The largest of all counts.

    Attributes:
        ways: of being spoiled, by name.
        distance: from training scans.
        absences: what statistics change by where sequences are missing, by their names with spaces between; it is taken
            off a scan that lacks them.
        limit: what the largest evidence exceeds in about one of 20 scans like those trained on.
    """

    ways: dict[str, Direction]
    distance: Distance
    absences: dict[str, tuple[float, ...]]
    limit: float

    def __post_init__(self) -> None:
        lengths = {len(way.weights) for way in self.ways.values()} | set(map(len, self.absences.values()))
        wanted = f"rows of {self.statistics} numbers"
        require(lengths <= {self.statistics}, "ood.ways and ood.absences", sorted(lengths), wanted)
        require(self.limit > 0, "ood.limit", self.limit, "a positive number")

    @property
    def statistics(self) -> int:
        """How many statistics of the bottleneck it wants of each slice."""
        return len(self.distance.mean)

    @cached_property
    def _directions(self) -> tuple[Doubles, Doubles]:
        weights = np.array([way.weights for way in self.ways.values()]).reshape(-1, self.statistics)
        return weights, np.array([way.offset for way in self.ways.values()])

    def evidence(self, statistics: npt.NDArray[np.float32], replaced: Sequence[str] = ()) -> dict[str, float]:
        """What speaks against a scan, by way and as `UNFAMILIAR`: 0 is the mean of training scans, 1 the limit.

        Args:
            statistics: (slices, 2 x channels) float32, mean and standard deviation of each channel of the bottleneck.
            replaced: sequences that are missing, in the model's order.

        Raises:
            InputError: another number of statistics.
        """
        if statistics.ndim != 2 or statistics.shape[1] != self.statistics or not len(statistics):
            raise InputError(f"bottleneck statistics: {statistics.shape} given; (slices, {self.statistics}) wanted.")
        scan = statistics.mean(axis=0, dtype=np.float64)
        if absence := self.absences.get(" ".join(replaced)):
            scan = scan - np.array(absence)
        weights, offsets = self._directions
        values = dict(zip(self.ways, (weights @ scan + offsets).tolist(), strict=True))
        values[UNFAMILIAR] = self.distance.weight * self.distance.of(scan) + self.distance.offset
        return {name: value / self.limit for name, value in values.items()}

    def score(self, statistics: npt.NDArray[np.float32], replaced: Sequence[str] = ()) -> float:
        """The largest `evidence`: above 1, the scan is unlike those that the network was trained on."""
        return max(self.evidence(statistics, replaced).values())


@dataclass(frozen=True)
class Confidence:
    """What a checkpoint and a bundle carry so that results can say how far to trust them.

    Attributes:
        temperature: what logits are divided by before they become probabilities (Guo et al. 2017).
        ood: what tells scans that the network was not made for; None where there were too few scans to learn it from.
    """

    temperature: float
    ood: OodReference | None = None

    def __post_init__(self) -> None:
        require(self.temperature > 0, "confidence.temperature", self.temperature, "a positive number")
