"""TumorTrace's native core."""

from typing import Annotated

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

def cpu_features() -> list[str]:
    """
    Names, as /proc/cpuinfo spells them, of this CPU's instruction sets that matter to a network.

    Among avx2, avx512f, avx512_vnni, avx_vnni, avx512_bf16, amx_int8, amx_bf16 on x86-64, and asimdhp, asimddp, i8mm,
    bf16 on aarch64; empty on another architecture.
    """
