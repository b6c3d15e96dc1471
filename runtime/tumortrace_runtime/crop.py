"""A network on the part of its grid that has head in it: less to compute, and the margins are background."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.backends import Backend
from tumortrace_runtime.backends.request import aligned
from tumortrace_runtime.preprocess import Placement
from tumortrace_runtime.preprocess.native import Coverage

Array = npt.NDArray[Any]

STEP_PX = 64
"""Windows are this large or a multiple of it, so that few sizes are loaded and every U-Net can halve them."""

MARGIN_PX = 8
"""What a window keeps around the head at least, where the grid has it."""


@dataclass(frozen=True)
class Window:
    """Rows and columns of the network's grid: the first, and one past the last."""

    rows: tuple[int, int]
    columns: tuple[int, int]

    @property
    def size_px(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.rows[1] - self.rows[0], self.columns[1] - self.columns[0]


def whole_grid(placement: Placement) -> Window:
    """The window that leaves nothing out."""
    rows, columns = placement.grid_px
    return Window((0, rows), (0, columns))


def head_window(coverage: Coverage, placement: Placement) -> Window:
    """The window of the grid around a head; the whole grid where slices are resampled onto it.

    >>> covered = Coverage(np.array([True]), rows=(40, 190), columns=(60, 170))
    >>> head_window(covered, Placement((240, 240), (240, 240), (8, 8), (256, 256)))
    Window(rows=(27, 219), columns=(59, 187))
    """
    if placement.scaled_px != placement.scan_px:
        return whole_grid(placement)
    rows, columns = placement.grid_px
    top, left = placement.offset_px
    return Window(_widened(coverage.rows, top, rows), _widened(coverage.columns, left, columns))


def _widened(covered: tuple[int, int], offset: int, grid: int) -> tuple[int, int]:
    """`covered`, moved by `offset`, with its margins and up to a multiple of the step, as far as the grid goes."""
    first, last = covered[0] + offset - MARGIN_PX, covered[1] + offset + MARGIN_PX
    size = min(grid, -(-(last - first) // STEP_PX) * STEP_PX)
    start = min(max(0, (first + last - size) // 2), grid - size)
    return start, start + size


class Crop:
    """Runs windows of a network's grid on models of their size, each of which is loaded once.

    Args:
        load: gives the network for slices of (rows, columns).
        whole: the network for the whole grid.
    """

    def __init__(self, load: Callable[[tuple[int, int]], Backend], whole: Backend) -> None:
        self._load, self._whole = load, whole
        self._block_px = whole.integer_input.block_px if whole.integer_input else None
        self._loaded: dict[tuple[int, int], Backend] = {}
        request = whole.requests[0]
        self._input = aligned(request.input.shape, request.input.dtype)
        self._output = np.empty_like(next(iter(request.outputs.values())))

    def backend(self, window: Window) -> Backend:
        """The network for a window of this size.

        Raises:
            BackendError: the engine cannot give it this size.
        """
        if window.size_px not in self._loaded:
            self._loaded[window.size_px] = self._load(window.size_px)
        return self._loaded[window.size_px]

    def fill(self, window: Window, images: Array, write: Callable[[Array], object]) -> None:
        """Write to `images` the window of what `write` writes for the whole grid."""
        whole = self._input[: len(images)]
        write(whole)
        if self._block_px is None:
            np.copyto(images, whole[:, :, slice(*window.rows), slice(*window.columns)])
        else:
            rows, columns = (slice(*(end // self._block_px for end in ends)) for ends in (window.rows, window.columns))
            np.copyto(images, whole[:, rows, columns])

    def on_grid(self, window: Window, output: Array) -> Array:
        """What a network gave for a window, as it were for the whole grid; holds until the next call."""
        whole = self._output[: len(output)]
        _clear(whole)
        whole[..., slice(*window.rows), slice(*window.columns)] = output
        return whole

    def close(self) -> None:
        """Give back what was loaded."""
        for backend in self._loaded.values():
            backend.close()
        self._loaded = {}


def _clear(output: Array) -> None:
    """Make background of masks, of logits of one class, or of logits of several, of which the first is background."""
    output[...] = 0
    if output.ndim == 4:
        output[:, min(1, output.shape[1] - 1) :] = np.finfo(output.dtype).min
