"""A scan that comes slice by slice, while the scanner is at work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.errors import InputError, NoContrastError, ScanError
from tumortrace_runtime.postprocessor import Spacing, checked_spacing
from tumortrace_runtime.result import Result

if TYPE_CHECKING:
    from tumortrace_runtime.segmenter import Segmenter

_FIRST_ROOM = 16
"""Slices that there is room for at first; it is doubled where more come."""


@dataclass(frozen=True)
class Provisional:
    """What can be said of a slice before the scan is complete; the result of `Stream.close` may differ.

    Intensities are normalised by the slices so far, the slice is its own next neighbour, and small lesions are left in.

    Attributes:
        slice: its number, from 0 on.
        mask: (rows, columns) uint8, 1 for tumour; None while nothing can be said.
        reason: why not; "" where there is a mask.
    """

    slice: int
    mask: npt.NDArray[np.uint8] | None
    reason: str


class Stream:
    """Takes slices in their order, gives a provisional mask of each, and at last the result of the whole scan.

        stream = segmenter.stream(spacing_mm=(5.0, 0.9, 0.9))
        for image in scanner:
            show(stream.add(image).mask)
        result = stream.close()

    `Segmenter.stream` makes it; with mode "latency" a provisional mask comes the soonest.
    """

    def __init__(self, segmenter: Segmenter, spacing_mm: Spacing | None) -> None:
        self._segmenter, self._spacing_mm = segmenter, checked_spacing(spacing_mm)
        self._voxels: npt.NDArray[Any] | None = None
        self._count = 0
        self._closed = False

    def add(self, image: npt.NDArray[np.generic]) -> Provisional:
        """Take the next slice.

        Args:
            image: (rows, columns, channels) of any real dtype, the channels in the bundle's order; copied.

        Raises:
            ScanError: another shape or dtype than the slices before, or not what the bundle's input contract asks for;
                the stream is as if the slice had not been given.
            InputError: the stream has been closed.
        """
        if self._closed:
            raise InputError("stream: it has been closed; begin another with Segmenter.stream().")
        voxels = self._with(image)
        mask, reason = None, ""
        try:
            mask = self._segmenter.segment_newest(voxels)
        except NoContrastError as problem:  # which later slices may have
            reason = str(problem)
        self._count = len(voxels)
        return Provisional(self._count - 1, mask, reason)

    def close(self) -> Result:
        """The result of all slices, as `Segmenter.segment` gives it of them. After an error the stream stays open.

        Raises:
            ScanError: there are no slices, or they are not what the bundle's input contract asks for.
            InputError: the stream has been closed.
        """
        if self._closed:
            raise InputError("stream: it has been closed, and gave its result.")
        if self._voxels is None or self._count == 0:
            raise ScanError("stream: closed without a slice; at least one wanted.")
        result = self._segmenter.segment_voxels(self._voxels[: self._count], self._spacing_mm)
        self._closed = True
        return result

    def _with(self, image: npt.NDArray[np.generic]) -> npt.NDArray[Any]:
        """The slices so far and one more, which the next call may overwrite."""
        if self._voxels is None or self._count == 0:
            if image.ndim != 3:
                raise ScanError(f"slice of shape {image.shape} given; (rows, columns, channels) wanted.")
            self._voxels = np.empty((_FIRST_ROOM, *image.shape), image.dtype.newbyteorder("="))
        if image.shape != self._voxels.shape[1:] or image.dtype.newbyteorder("=") != self._voxels.dtype:
            wanted = f"{self._voxels.dtype} of shape {self._voxels.shape[1:]}, as the slices before,"
            raise ScanError(f"slice {self._count}: {image.dtype} of shape {image.shape} given; {wanted} wanted.")
        if self._count == len(self._voxels):
            self._voxels = np.concatenate([self._voxels, np.empty_like(self._voxels)])
        self._voxels[self._count] = image
        return self._voxels[: self._count + 1]
