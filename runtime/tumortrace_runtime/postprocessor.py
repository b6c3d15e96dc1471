"""From logits, or a mask, to a cleaned mask and its lesions, as `postprocess` defines it: one native pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tumortrace_runtime import _native
from tumortrace_runtime.contours import Contour
from tumortrace_runtime.errors import InputError
from tumortrace_runtime.lesions import Diameters, Lesion
from tumortrace_runtime.metrics import MM3_PER_ML
from tumortrace_runtime.postprocess import Postprocessing
from tumortrace_runtime.preprocess.grid import Placement

Spacing = tuple[float, float, float]

_Found = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint32] | None, list[_native.Lesion], _native.LesionRuns]


@dataclass(frozen=True)
class Segmentation:
    """A scan's mask and what is in it.

    Attributes:
        mask: (slices, rows, columns) uint8, 1 for lesion and 0 for background, on the scan's own grid.
        lesions: connected components in 3-D, largest first; of equal ones that whose first voxel comes first.
        runs: the lesions as runs of voxels, for `contours` and `run_lengths`.
    """

    mask: npt.NDArray[np.uint8]
    lesions: list[Lesion]
    runs: _native.LesionRuns = field(repr=False, compare=False)

    def contours(self, index: int) -> list[Contour]:
        """The borders of the lesions in a slice, as `contours` describes them.

        Pixels of a lesion that share a corner have one border unless its voxels must share a face to belong together.

        Raises:
            InputError: the scan has no such slice.
        """
        _require_count(index)
        with _refused("contours"):
            found = self.runs.contours(index)
        return [Contour(*values) for values in found]

    def run_lengths(self) -> npt.NDArray[np.int64]:
        """The mask as lengths of background and lesion in turns, (n,) int64, as JSON can store it.

        Those of COCO's uncompressed `counts`, but through columns first, then rows, then slices. Background comes
        first, with length 0 where the first voxel is a lesion's, and the sum is the number of voxels:
        `np.repeat(np.arange(len(lengths)) % 2, lengths).reshape(shape)` is the mask again.
        """
        return self.runs.lengths()


class Postprocessor:
    """Segments one scan after the other, in buffers that are used again.

        found = postprocessor.segment_logits(logits)            # a whole scan, on its own grid

        postprocessor.begin(slices, placement)                  # or batch by batch, as the network gives them
        postprocessor.add(output)
        postprocessor.skip(3)
        found = postprocessor.finish()

    Of a slice that was added, its cleaned runs of pixels are kept and nothing else. There is one scan at a time: calls
    from several threads wait for each other, but a scan that another thread begins takes the place of this one's. After
    an error, begin anew.

    Args:
        spec: what to do.
        threads: that share the slices of every call, the caller's among them; they sleep in between. Results do not
            depend on it.

    Raises:
        InputError: there are not so many threads.
    """

    def __init__(self, spec: Postprocessing, threads: int = 1) -> None:
        if threads < 1:
            raise InputError(f"threads: {threads} given; 1 or more wanted.")
        with _refused("postprocessor"):
            self._core = _native.Postprocessor(
                threshold_logit=spec.threshold_logit.item(),
                opening_px=spec.opening_px,
                closing_px=spec.closing_px,
                fill_holes=spec.fill_holes,
                min_lesion_voxels=spec.min_lesion_voxels,
                connectivity=spec.connectivity,
                threads=threads,
            )
        self._spacing_mm: Spacing | None = None

    def segment_logits(
        self,
        logits: npt.NDArray[np.float32] | npt.NDArray[np.float16],
        spacing_mm: Spacing | None = None,
        temperature: float | None = None,
    ) -> Segmentation:
        """The mask of a whole scan, and its lesions.

        Args:
            logits: (slices, rows, columns) float32 or float16, one foreground class.
            spacing_mm: distance between (slices, rows, columns), or None where it is not known.
            temperature: what logits are divided by for confidence; None where there is none.

        Raises:
            InputError: another shape or dtype, an extent of 0 or above 65535, or a logit is NaN.
        """
        if logits.ndim != 3 or logits.dtype not in _FLOATS:
            raise InputError(
                f"logits: {logits.dtype} of shape {logits.shape} given; float32 or float16 (slices, rows, columns) "
                "wanted."
            )
        spacing_mm = checked_spacing(spacing_mm)
        with _refused("logits"):
            found = self._core.segment_logits(_readable(logits), temperature=temperature, pixel_mm=_pixel(spacing_mm))
        return _segmentation(found, spacing_mm)

    def segment_mask(self, mask: npt.NDArray[np.uint8], spacing_mm: Spacing | None = None) -> Segmentation:
        """The same of a mask that an engine gives, (slices, rows, columns) uint8, not 0 for foreground.

        Raises:
            InputError: another shape or dtype, or an extent of 0 or above 65535.
        """
        if mask.ndim != 3 or mask.dtype != np.uint8:
            raise InputError(f"mask: {mask.dtype} of shape {mask.shape} given; uint8 (slices, rows, columns) wanted.")
        spacing_mm = checked_spacing(spacing_mm)
        with _refused("mask"):
            found = self._core.segment_mask(_readable(mask), pixel_mm=_pixel(spacing_mm))
        return _segmentation(found, spacing_mm)

    def begin(
        self,
        slices: int,
        placement: Placement,
        spacing_mm: Spacing | None = None,
        temperature: float | None = None,
    ) -> None:
        """Begin a scan whose slices are added in their order, by `add` and `skip`.

        Args:
            slices: how many it has.
            placement: where they lie on the network's grid.
            spacing_mm: distance between (slices, rows, columns), or None where it is not known.
            temperature: what logits are divided by for confidence; None where there is none, as of masks and of logits
                of several classes.

        Raises:
            InputError: an extent is 0 or above 65535, the slices do not lie on the grid, or a number is not positive.
        """
        _require_count(slices)
        spacing_mm = checked_spacing(spacing_mm)
        with _refused("scan"):
            self._core.begin(
                slices,
                placement.scan_px,
                placement.scaled_px,
                placement.offset_px,
                placement.grid_px,
                temperature=temperature,
                pixel_mm=_pixel(spacing_mm),
            )
        self._spacing_mm = spacing_mm

    def add(self, output: npt.NDArray[Any]) -> None:
        """Add the next n slices as the network gives them: decided, cleaned, and brought back to the scan's grid.

        Logits are resampled as `preprocess.from_grid` does it where the slices have another size on the network's grid.
        Those of one class are foreground above the threshold; of several, the first is the background's, and foreground
        is where another one is the greatest.

        Args:
            output: logits (n, classes, grid rows, grid columns) float32 or float16, or a mask (n, grid rows, grid
                columns) uint8, not 0 for foreground. Read where it is if it is C-contiguous, and not kept.

        Raises:
            InputError: no scan is begun, another shape or dtype, more slices than begun, a logit is NaN (of the
                window that the slices cover), or a mask would have to be resampled.
        """
        if (output.ndim, output.dtype) not in _OUTPUTS:
            raise InputError(
                f"output: {output.dtype} of shape {output.shape} given; logits (n, classes, rows, columns) float32 or "
                "float16, or a mask (n, rows, columns) uint8 wanted."
            )
        with _refused("output"):
            self._core.add(_readable(output))

    def skip(self, n: int) -> None:
        """Add the next n slices as background.

        Raises:
            InputError: no scan is begun, or it has fewer slices left.
        """
        _require_count(n)
        with _refused("output"):
            self._core.skip(n)

    def provisional(self, index: int) -> npt.NDArray[np.uint8]:
        """The mask of a slice that was added, (rows, columns) 0 or 1, before small lesions of the scan are removed.

        Raises:
            InputError: no such slice was added.
        """
        _require_count(index)
        with _refused("provisional mask"):
            return self._core.provisional(index)

    def finish(self) -> Segmentation:
        """What there is in the scan, all of whose slices were added.

        Raises:
            InputError: no scan is begun, or slices are missing.
        """
        with _refused("scan"):
            found = self._core.finish()
        return _segmentation(found, self._spacing_mm)


_FLOATS = (np.dtype(np.float32), np.dtype(np.float16))
"""Dtypes of logits."""

_OUTPUTS = ((4, np.dtype(np.float32)), (4, np.dtype(np.float16)), (3, np.dtype(np.uint8)))
"""Axes and dtypes of what a network gives."""


class _refused:  # noqa: N801, used as a function; a class, for contextlib's takes a tenth of a slice's time
    """What the core refuses becomes an InputError of `what`."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ValueError):
            raise InputError(f"{self._what}: {error}") from None


def checked_spacing(spacing_mm: Sequence[float] | None) -> Spacing | None:
    """The same, as three floats.

    Raises:
        InputError: other than three positive, finite numbers.
    """
    if spacing_mm is None:
        return None
    try:
        slices, rows, columns = map(float, spacing_mm)
    except (TypeError, ValueError):
        slices = rows = columns = math.nan
    if not all(0 < each < math.inf for each in (slices, rows, columns)):
        raise InputError(
            f"spacing_mm: {spacing_mm!r} given; three positive distances wanted, between slices, rows and columns."
        )
    return slices, rows, columns


def _require_count(number: int) -> None:
    if number < 0:
        raise InputError(f"slices: {number} given; 0 or more wanted.")


def _readable(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same, as the core reads it."""
    if values.flags.c_contiguous and values.flags.aligned:
        return values
    return np.require(values, requirements=["C", "A"])


def _pixel(spacing_mm: Spacing | None) -> tuple[float, float]:
    return (1.0, 1.0) if spacing_mm is None else spacing_mm[1:]


def _segmentation(found: _Found, spacing_mm: Spacing | None) -> Segmentation:
    mask, _, measured, runs = found
    voxel_ml = math.prod(spacing_mm) / MM3_PER_ML if spacing_mm else None
    lesions = [_lesion(label, lesion, voxel_ml) for label, lesion in enumerate(measured, start=1)]
    return Segmentation(mask, lesions, runs)


def _lesion(label: int, measured: _native.Lesion, voxel_ml: float | None) -> Lesion:
    found = measured.diameters
    assert found is not None
    scaled = voxel_ml is not None
    return Lesion(
        label=label,
        voxels=measured.voxels,
        volume_ml=measured.voxels * voxel_ml if voxel_ml is not None else None,
        centroid=measured.centroid,
        bounding_box=(measured.low, measured.high),
        diameters=Diameters(
            slice=found.slice,
            longest_mm=found.longest_mm if scaled else None,
            perpendicular_mm=found.perpendicular_mm if scaled else None,
            longest_ends=found.ends,
            perpendicular_ends=found.perpendicular_ends,
        ),
        confidence=measured.confidence,
        highest_confidence=measured.highest_confidence,
    )
