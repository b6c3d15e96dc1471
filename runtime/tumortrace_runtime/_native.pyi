"""TumorTrace's native core."""

from typing import Annotated, overload

import numpy
from numpy.typing import NDArray


def threshold_logits(logits: Annotated[NDArray[numpy.float32], dict(order='C', device='cpu', writable=False)], threshold: float, mask: Annotated[NDArray[numpy.uint8], dict(order='C', device='cpu')]) -> tuple[int, int]:
    """
    Write 1 to `mask` where a logit is greater than `threshold`, and 0 elsewhere; NaN gives 0.

    Args:
        logits: float32, C-contiguous, any shape.
        threshold: the logit that a foreground value exceeds; log(p / (1 - p)) for a probability p.
        mask: uint8, C-contiguous, with as many voxels as `logits`; written.

    Returns:
        The number of voxels above the threshold, and the number of NaNs.

    Raises:
        ValueError: `mask` and `logits` differ in size.
        TypeError: an array has another dtype, is not C-contiguous, or `mask` is read-only.
    """

@overload
def pack_batch(planes: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None, None), order='C', device='cpu', writable=False)], start: int, stop: int, context: int, block: int, scale: float, zero_point: int, out: Annotated[NDArray[numpy.int8], dict(shape=(None, None, None, None), order='C', device='cpu')]) -> None: ...

@overload
def pack_batch(planes: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None, None), order='C', device='cpu', writable=False)], start: int, stop: int, context: int, block: int, scale: float, zero_point: int, out: Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None, None), order='C', device='cpu')]) -> None:
    """
    Write slices and their neighbours to `out` as a network takes them that begins with integers.

    An integer is clamp(round(plane / scale) + zero_point), ties to even, the quotient in float32; NaN gives the lowest.
    The channels of `out` are those of `network_batch` after space to depth: (neighbour, channel, row in the block, column
    in the block), the last one running fastest.

    Args:
        planes: (slices, channels, rows, columns) float32, C-contiguous.
        start: first slice of the batch.
        stop: one past its last slice.
        context: neighbours on each side; beyond the scan's ends the end slice is repeated.
        block: 1, 2 or 4; divides rows and columns.
        scale: positive; rounded to float32.
        zero_point: the integer that 0.0 becomes.
        out: (stop - start, rows / block, columns / block, (2 x context + 1) x channels x block x block), int8 or uint8,
            C-contiguous; written.

    Raises:
        ValueError: the shape of `out` or another value is not as said above.
        TypeError: an array has another dtype, another number of axes, is not C-contiguous, or `out` is read-only; start,
            stop, context or block is negative, or context above 65535.
    """

def cpu_features() -> list[str]:
    """
    Names, as /proc/cpuinfo spells them, of this CPU's instruction sets that matter to a network.

    Among avx2, avx512f, avx512_vnni, avx_vnni, avx512_bf16, amx_int8, amx_bf16 on x86-64, and asimdhp, asimddp, i8mm,
    bf16 on aarch64; empty on another architecture.
    """
