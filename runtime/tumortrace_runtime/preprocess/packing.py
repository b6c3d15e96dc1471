"""The network's batches as integers, for a network that takes them without a conversion of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from tumortrace_runtime import _native
from tumortrace_runtime.settings import require

IntegerName = Literal["int8", "uint8"]
Integers = npt.NDArray[np.int8] | npt.NDArray[np.uint8]


@dataclass(frozen=True)
class IntegerInput:
    """How prepared planes become the integers that a quantised network begins with.

    Attributes:
        dtype: of the integers, "int8" or "uint8".
        scale: the step from one integer to the next, in units of the planes; rounded to float32.
        zero_point: the integer that 0.0 becomes.
        block_px: side of the square of pixels whose values become channels of one pixel: 1, 2 or 4.
    """

    dtype: IntegerName
    scale: float
    zero_point: int
    block_px: int

    def __post_init__(self) -> None:
        require(self.dtype in ("int8", "uint8"), "dtype", self.dtype, "int8 or uint8")
        steps = np.finfo(np.float32)
        require(float(steps.tiny) <= self.scale <= float(steps.max), "scale", self.scale, "a positive, normal float32")
        integers = np.iinfo(self.dtype)
        wanted = f"{integers.min} to {integers.max}"
        require(integers.min <= self.zero_point <= integers.max, "zero_point", self.zero_point, wanted)
        require(self.block_px in (1, 2, 4), "block_px", self.block_px, "1, 2 or 4")


def packed_shape(
    batch: int, in_channels: int, grid_px: tuple[int, int], spec: IntegerInput
) -> tuple[int, int, int, int]:
    """The shape of a packed batch: (batch, rows / block, columns / block, in_channels x block x block).

    Args:
        batch: number of slices.
        in_channels: every sequence of the slice and of its neighbours, `Preprocessing.in_channels`.
        grid_px: (rows, columns).
        spec: the integers.

    Raises:
        SpecError: the grid does not divide into blocks.

    >>> packed_shape(4, 9, (256, 256), IntegerInput("int8", 0.02, 0, block_px=2))
    (4, 128, 128, 36)
    """
    block = spec.block_px
    require(all(size % block == 0 for size in grid_px), "grid_px", grid_px, f"multiples of {block} px")
    return batch, grid_px[0] // block, grid_px[1] // block, in_channels * block * block


def packed_batch(planes: npt.NDArray[np.float32], start: int, stop: int, context: int, spec: IntegerInput) -> Integers:
    """The network's input for slices `start` to `stop` - 1 as integers, channels last.

    What `network_batch` gives, quantised with the dither that README.md defines, its blocks of pixels made channels
    as `torch.nn.PixelUnshuffle` does it. Infinities become the outermost integers, NaN the lowest.

    Args:
        planes: (slices, channels, rows, columns) float32, C-contiguous, as `preprocess` gives them.
        start: first slice of the batch.
        stop: one past its last slice; may exceed neither the scan nor be below `start`.
        context: neighbours on each side; beyond the scan's ends the end slice is repeated.
        spec: the integers.

    Returns:
        `packed_shape` of them.

    Raises:
        SpecError: rows or columns do not divide into blocks.
    """
    _, channels, rows, columns = planes.shape
    shape = packed_shape(stop - start, (2 * context + 1) * channels, (rows, columns), spec)
    batch: Integers = np.empty(shape, spec.dtype)
    _native.pack_batch(planes, start, stop, context, spec.block_px, spec.scale, spec.zero_point, batch)
    return batch
