"""How well a predicted mask matches the truth, per case, in 3-D, on the scan's own grid.

Rules where a ratio has no meaning of its own, so that a miss never vanishes into NaN:

- Both masks empty: Dice, Jaccard, precision and surface Dice are 1, HD95 is 0.
- One mask empty: Dice, Jaccard, precision and surface Dice are 0, HD95 is the scan's diagonal.
- Sensitivity and lesion sensitivity with an empty truth, and specificity with a truth that fills the scan, are None:
  not applicable.

A lesion is a connected component in 3-D. One of the truth is found where the prediction covers any voxel of it; one of
the prediction is a false positive where it covers no voxel of the truth; none is too small to count.

Sources: Taha and Hanbury 2015 (BMC Medical Imaging 15:29) for the overlap measures; Nikolov et al. 2021 (J Med Internet
Res 23(7):e26151) for surface Dice and the area-weighted 95th percentile of the surface distance; Kuijf et al. 2019
(IEEE Trans Med Imaging 38(11):2556-2568) for the rule that matches lesions, the WMH challenge's.

Surface distances come from DeepMind's `surface-distance`, the reference code of that paper. It weights every surface
element by its area in the scan's own spacing, so that a thick slice counts for as much surface as it covers. MONAI
counts boundary voxels instead, whatever their size, and needs torch, which a device has not.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.errors import InputError
from tumortrace_runtime.lesions import label_lesions
from tumortrace_runtime.libraries import import_library
from tumortrace_runtime.postprocess import Connectivity

AnyMask = npt.NDArray[np.generic]

DEFAULT_TOLERANCE = 2.0
MM3_PER_ML = 1000.0


@dataclass(frozen=True)
class Overlap:
    """Voxels counted by prediction and truth, and the measures that follow from the four counts alone."""

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int

    @property
    def predicted_voxels(self) -> int:
        """TP + FP."""
        return self.true_positives + self.false_positives

    @property
    def truth_voxels(self) -> int:
        """TP + FN."""
        return self.true_positives + self.false_negatives

    @property
    def dice(self) -> float:
        """2 TP / (2 TP + FP + FN); 1 where both masks are empty."""
        both = self.predicted_voxels + self.truth_voxels
        return 2 * self.true_positives / both if both else 1.0

    @property
    def jaccard(self) -> float:
        """TP / (TP + FP + FN); 1 where both masks are empty."""
        union = self.true_positives + self.false_positives + self.false_negatives
        return self.true_positives / union if union else 1.0

    @property
    def precision(self) -> float:
        """TP / (TP + FP); without any prediction 1 where the truth is empty too, else 0."""
        if not self.predicted_voxels:
            return 0.0 if self.truth_voxels else 1.0
        return self.true_positives / self.predicted_voxels

    @property
    def sensitivity(self) -> float | None:
        """TP / (TP + FN); None where the truth is empty."""
        return self.true_positives / self.truth_voxels if self.truth_voxels else None

    @property
    def specificity(self) -> float | None:
        """TN / (TN + FP); None where the truth fills the scan."""
        negatives = self.true_negatives + self.false_positives
        return self.true_negatives / negatives if negatives else None

    @property
    def accuracy(self) -> float:
        """(TP + TN) / all voxels."""
        every = self.predicted_voxels + self.false_negatives + self.true_negatives
        return (self.true_positives + self.true_negatives) / every


def count_overlap(prediction: AnyMask, truth: AnyMask) -> Overlap:
    """Count two masks of one shape and any dtype against each other; non-zero is foreground.

    Raises:
        InputError: the shapes differ, or the masks have no voxels.
    """
    _check_shapes(prediction, truth)
    predicted, true = prediction != 0, truth != 0
    both = int(np.count_nonzero(predicted & true))
    only_predicted = int(np.count_nonzero(predicted)) - both
    only_true = int(np.count_nonzero(true)) - both
    return Overlap(both, only_predicted, only_true, truth.size - both - only_predicted - only_true)


def dice(prediction: AnyMask, truth: AnyMask) -> float:
    """Dice's overlap of two masks of one shape; 1 where both are empty, 0 where one is.

    Raises:
        InputError: the shapes differ, or the masks have no voxels.
    """
    return count_overlap(prediction, truth).dice


@dataclass(frozen=True)
class LesionMatch:
    """Lesions counted.

    Attributes:
        truth_lesions: of the truth.
        found_lesions: how many of them the prediction touches.
        false_positive_lesions: of the prediction, those that touch no lesion of the truth.
    """

    truth_lesions: int
    found_lesions: int
    false_positive_lesions: int

    @property
    def sensitivity(self) -> float | None:
        """Share of the truth's lesions that are found; None where there are none."""
        return self.found_lesions / self.truth_lesions if self.truth_lesions else None


def match_lesions(prediction: AnyMask, truth: AnyMask, connectivity: Connectivity = 26) -> LesionMatch:
    """Match the lesions of two (slices, rows, columns) masks of any dtype; non-zero is lesion.

    Raises:
        InputError: the shapes differ, or the masks have no voxels.
    """
    _check_shapes(prediction, truth)
    truth_lesions, found = _count_touched(truth, prediction, connectivity)
    predicted_lesions, right = _count_touched(prediction, truth, connectivity)
    return LesionMatch(truth_lesions, found, predicted_lesions - right)


@dataclass(frozen=True)
class CaseMetrics:
    """All measures of one case.

    Attributes:
        case_id: name of the case.
        dice, jaccard, precision, accuracy: see `Overlap`.
        sensitivity: None where the truth is empty.
        specificity: None where the truth fills the scan.
        hd95: 95th percentile of the surface distances, the larger of both directions, in `distance_unit`.
        surface_dice: share of both surfaces that lies within `tolerance` of the other.
        volume_error: predicted minus true volume, in `volume_unit`.
        lesion_sensitivity: share of the truth's lesions that are found; None where it has none.
        false_positive_lesions, truth_lesions, found_lesions: see `LesionMatch`.
        truth_voxels, predicted_voxels: foreground voxels of each mask.
        tolerance: of `surface_dice`, in `distance_unit`.
        distance_unit: "mm" where the spacing is known, else "px", with all three axes counted alike.
        volume_unit: "ml" where the spacing is known, else "voxels".
    """

    case_id: str
    dice: float
    jaccard: float
    sensitivity: float | None
    specificity: float | None
    accuracy: float
    precision: float
    hd95: float
    surface_dice: float
    volume_error: float
    lesion_sensitivity: float | None
    false_positive_lesions: int
    truth_lesions: int
    found_lesions: int
    truth_voxels: int
    predicted_voxels: int
    tolerance: float
    distance_unit: str
    volume_unit: str

    def to_dict(self) -> dict[str, Any]:
        """Every field by name, as JSON stores it."""
        return dataclasses.asdict(self)


def measure_case(
    case_id: str,
    prediction: AnyMask,
    truth: AnyMask,
    spacing_mm: tuple[float, float, float] | None = None,
    tolerance: float = DEFAULT_TOLERANCE,
) -> CaseMetrics:
    """Compare two masks of one case.

    Args:
        case_id: name of the case.
        prediction: (slices, rows, columns), non-zero for lesion.
        truth: the same for the expert's mask.
        spacing_mm: distance between (slices, rows, columns), or None where it is not known.
        tolerance: of surface Dice, in mm, or in px without spacing.

    Raises:
        InputError: the shapes differ, are not three-dimensional, or hold no voxels; or `surface-distance` is not
            installed.
    """
    if truth.ndim != 3:
        raise InputError(f"{case_id}: mask of shape {truth.shape} given; (slices, rows, columns) wanted.")
    overlap = count_overlap(prediction, truth)
    hd95, surface_dice = measure_surfaces(prediction, truth, spacing_mm or (1.0, 1.0, 1.0), tolerance)
    lesions = match_lesions(prediction, truth)
    voxel = math.prod(spacing_mm) / MM3_PER_ML if spacing_mm else 1.0
    return CaseMetrics(
        case_id=case_id,
        dice=overlap.dice,
        jaccard=overlap.jaccard,
        sensitivity=overlap.sensitivity,
        specificity=overlap.specificity,
        accuracy=overlap.accuracy,
        precision=overlap.precision,
        hd95=hd95,
        surface_dice=surface_dice,
        volume_error=(overlap.predicted_voxels - overlap.truth_voxels) * voxel,
        lesion_sensitivity=lesions.sensitivity,
        false_positive_lesions=lesions.false_positive_lesions,
        truth_lesions=lesions.truth_lesions,
        found_lesions=lesions.found_lesions,
        truth_voxels=overlap.truth_voxels,
        predicted_voxels=overlap.predicted_voxels,
        tolerance=tolerance,
        distance_unit="mm" if spacing_mm else "px",
        volume_unit="ml" if spacing_mm else "voxels",
    )


def measure_surfaces(
    prediction: AnyMask, truth: AnyMask, spacing: tuple[float, float, float], tolerance: float
) -> tuple[float, float]:
    """HD95 and surface Dice at `tolerance` of two (slices, rows, columns) masks, in the unit of `spacing`.

    Both empty give (0, 1); one empty gives (the scan's diagonal, 0).

    Raises:
        InputError: `surface-distance` is not installed.
    """
    predicted, true = prediction != 0, truth != 0
    if not predicted.any() or not true.any():
        missed = bool(predicted.any() or true.any())
        return (scan_diagonal(truth.shape, spacing), 0.0) if missed else (0.0, 1.0)
    library = import_library("surface_distance")
    with warnings.catch_warnings():
        # surface-distance 0.1 calls SciPy by names that go away in SciPy 2.0.
        warnings.simplefilter("ignore", DeprecationWarning)
        distances = library.compute_surface_distances(true, predicted, spacing)
    hd95 = library.compute_robust_hausdorff(distances, 95)
    return float(hd95), float(library.compute_surface_dice_at_tolerance(distances, tolerance))


def scan_diagonal(shape: tuple[int, ...], spacing: tuple[float, ...]) -> float:
    """From corner to corner of a grid of `shape` voxels, in the unit of `spacing`."""
    return math.hypot(*(count * step for count, step in zip(shape, spacing, strict=True)))


def _check_shapes(prediction: AnyMask, truth: AnyMask) -> None:
    if prediction.shape != truth.shape or not truth.size:
        raise InputError(
            f"masks: prediction {prediction.shape}, truth {truth.shape} given; one shape with voxels wanted."
        )


def _count_touched(mask: AnyMask, other: AnyMask, connectivity: Connectivity) -> tuple[int, int]:
    """How many lesions `mask` has, and how many of them share a voxel with `other`."""
    labels = label_lesions(mask, connectivity)
    return int(labels.max()), int(np.count_nonzero(np.unique(labels[other != 0])))
