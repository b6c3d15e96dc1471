"""The lesions of a mask: connected components in 3-D, measured."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
import numpy.typing as npt

from tumortrace_runtime.metrics import MM3_PER_ML
from tumortrace_runtime.postprocess import Connectivity, label_lesions

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Lesion:
    """One connected component.

    Attributes:
        label: 1 for the largest lesion, 2 for the next, and so on.
        voxels: size.
        volume_ml: size in millilitres, or None where the spacing is not known.
        centroid: mean (slice, row, column) index of its voxels, which may lie outside a curved lesion.
        bounding_box: least (slice, row, column) index inside, and the greatest plus one.
        confidence: mean calibrated probability of its voxels, the share of them that is expected to be tumour; None
            where probabilities are not to be had.
    """

    label: int
    voxels: int
    volume_ml: float | None
    centroid: tuple[float, float, float]
    bounding_box: tuple[Triple, Triple]
    confidence: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Every field by name, as JSON stores it."""
        return dataclasses.asdict(self)


def measure_lesions(
    mask: npt.NDArray[np.uint8],
    spacing_mm: tuple[float, float, float] | None = None,
    connectivity: Connectivity = 26,
    probability: Callable[[npt.NDArray[np.bool_]], npt.NDArray[np.float32]] | None = None,
) -> list[Lesion]:
    """Every lesion of a mask, the largest first; of equal ones, the one whose first voxel comes first.

    Args:
        mask: (slices, rows, columns), non-zero for lesion.
        spacing_mm: distance between (slices, rows, columns), or None where it is not known.
        connectivity: which voxels belong together: 6 share a face, 18 an edge too, 26 a corner too.
        probability: gives those of the voxels of a (slices, rows, columns) selection, in their order; None where there
            are none.
    """
    if not mask.any():
        return []
    labels = label_lesions((mask != 0).astype(np.uint8), connectivity)
    statistics = cc3d.statistics(labels)
    components, first = np.unique(labels[labels > 0], return_index=True)
    order = components[np.lexsort((first, -statistics["voxel_counts"][components].astype(np.int64)))]
    voxel_ml = math.prod(spacing_mm) / MM3_PER_ML if spacing_mm else None
    inside = labels > 0
    sums = None if probability is None else np.bincount(labels[inside], probability(inside))
    return [
        _lesion(label, component, statistics, voxel_ml, None if sums is None else float(sums[component]))
        for label, component in enumerate(order.tolist(), start=1)
    ]


def _lesion(
    label: int, component: int, statistics: Mapping[str, Any], voxel_ml: float | None, probabilities: float | None
) -> Lesion:
    voxels = int(statistics["voxel_counts"][component])
    box = statistics["bounding_boxes"][component]
    slices, rows, columns = statistics["centroids"][component].tolist()
    return Lesion(
        label=label,
        voxels=voxels,
        volume_ml=None if voxel_ml is None else voxels * voxel_ml,
        centroid=(slices, rows, columns),
        confidence=None if probabilities is None else probabilities / voxels,
        bounding_box=((box[0].start, box[1].start, box[2].start), (box[0].stop, box[1].stop, box[2].stop)),
    )
