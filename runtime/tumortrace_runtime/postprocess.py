"""What is done to logits to make a mask: one definition, driven by a spec that checkpoint and bundle carry.

The steps run in this order, and each is defined to the bit; `tumortrace_runtime.postprocessor` does them:

1. Threshold. A voxel is foreground where its logit exceeds `Postprocessing.threshold_logit` in float32.
2. Opening, then closing, in each slice by itself, with a disk of radius r: the pixels at (dy, dx) with
   dy² + dx² ≤ r². Pixels outside the slice take no part: they neither erode nor dilate.
3. Hole filling, in each slice by itself: background from which no path of 4-connected background pixels leads out of
   the slice becomes foreground.
4. Small-lesion removal, in 3-D: connected components of fewer than `min_lesion_voxels` voxels become background.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.settings import require, require_between

Mask = npt.NDArray[np.uint8]

Connectivity = Literal[6, 18, 26]


@dataclass(frozen=True)
class Postprocessing:
    """How logits become a mask.

    Attributes:
        threshold: probability, strictly between 0 and 1, above which a voxel is foreground.
        opening_px: radius of the disk that opens each slice; 0 for none.
        closing_px: radius of the disk that closes each slice; 0 for none.
        fill_holes: whether holes in each slice are filled.
        min_lesion_voxels: connected components with fewer voxels are removed; 0 for none.
        connectivity: which voxels belong together in 3-D: 6 share a face, 18 an edge too, 26 a corner too.

    Raises:
        SpecError: a value is out of range.
    """

    threshold: float = 0.5
    opening_px: int = 0
    closing_px: int = 0
    fill_holes: bool = False
    min_lesion_voxels: int = 0
    connectivity: Connectivity = 26

    def __post_init__(self) -> None:
        require(0.0 < self.threshold < 1.0, "Postprocessing.threshold", self.threshold, "a probability inside (0, 1)")
        require_between(self, 0, math.inf, "opening_px", "closing_px", "min_lesion_voxels")
        known = self.connectivity in get_args(Connectivity)
        require(known, "Postprocessing.connectivity", self.connectivity, "6, 18 or 26")

    @property
    def threshold_logit(self) -> np.float32:
        """ln(p / (1 - p)), computed in float64 and rounded once."""
        return np.float32(math.log(self.threshold / (1.0 - self.threshold)))
