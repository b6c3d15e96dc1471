"""A workload that never changes: what latencies are divided by, so that two runs of one machine can be compared."""

from __future__ import annotations

import numpy as np

_SIDE = 768
_MEMORY_BYTES = 1 << 25


class Reference:
    """Matrix products in float32, which keep all processors busy as a network does, and a pass through memory.

    NumPy does both; nothing of it is this project's, so that a change of the project cannot move it.
    """

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self._left, self._right = (random.standard_normal((_SIDE, _SIDE), np.float32) for _ in range(2))
        self._product = np.empty((_SIDE, _SIDE), np.float32)
        self._memory = random.integers(0, 255, _MEMORY_BYTES, np.uint8)
        self._copy = np.empty_like(self._memory)

    def run(self) -> None:
        """Once; some tens of milliseconds on a laptop's processor."""
        for _ in range(4):
            np.matmul(self._left, self._right, out=self._product)
        np.add(self._memory, 1, out=self._copy)
