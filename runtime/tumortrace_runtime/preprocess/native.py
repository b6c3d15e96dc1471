"""The definition in the native core: from stored voxels to batches, without an image of floats in between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tumortrace_runtime import _native
from tumortrace_runtime.errors import NoContrastError, ScanError
from tumortrace_runtime.io.scan import Scan
from tumortrace_runtime.preprocess.grid import Placement, place
from tumortrace_runtime.preprocess.packing import IntegerInput, Integers, packed_shape
from tumortrace_runtime.preprocess.pipeline import REFERENCE_CHANNEL, Prepared, check_voxels
from tumortrace_runtime.preprocess.spec import Preprocessing
from tumortrace_runtime.preprocess.statistics import ChannelStatistics

_READABLE = frozenset("bBhHiIlLqQfd")
"""Type characters of what the core reads as it is stored."""


@dataclass(frozen=True)
class Coverage:
    """Where a scan has foreground, on its own grid.

    Attributes:
        slices: (slices,) bool, whether there is any in one of the channels.
        rows, columns: first one with foreground, and one past the last.
    """

    slices: npt.NDArray[np.bool_]
    rows: tuple[int, int]
    columns: tuple[int, int]


class Preprocessor:
    """Prepares one scan after the other, in buffers that are allocated for the first and used again.

        preprocessor = Preprocessor(spec)
        preprocessor.open(scan)
        batch = preprocessor.network_batch(0, 4)

    To the bit what `preprocess`, `network_batch` and `packed_batch` give. The voxels of the scan that is open are read
    where they are, and must not change until its last batch. Threads wait for each other.

    Args:
        spec: the model's preprocessing.
        vectors: "baseline", "avx2" or "avx512", the instructions to use; None for the widest that this CPU has.
        threads: that share the slices while statistics are taken, and sleep in between. Results do not depend on them.

    Attributes:
        spec: as given.
        slices: of the scan that is open.
        placement: the way back to its grid.
        replaced: its channels that held a copy of FLAIR in place of a missing sequence.
    """

    slices: int
    placement: Placement
    replaced: tuple[str, ...]

    def __init__(self, spec: Preprocessing, vectors: str | None = None, threads: int = 1) -> None:
        self.spec = spec
        self._checked: IntegerInput | None = None  # of a scan's many batches the first is
        reference = spec.channels.index(REFERENCE_CHANNEL) if REFERENCE_CHANNEL in spec.channels else None
        self._core = _native.Preprocessor(
            grid_px=spec.grid_px,
            resize=spec.fit == "resize",
            not_border=spec.foreground == "not-border",
            foreground_fraction=spec.foreground_fraction,
            clip_percentiles=spec.clip_percentiles,
            reference=reference,
            vectors=vectors,
            threads=threads,
        )

    def open(self, scan: Scan | npt.NDArray[np.generic]) -> None:
        """Take the statistics of a scan, of which batches are made from now on.

        Args:
            scan: as `preprocess` takes it.

        Raises:
            ScanError: as `preprocess` raises it, or a channel has 2^32 voxels.
        """
        if not isinstance(scan, Scan):
            self._open(scan)
            return
        voxels = scan.select(self.spec.channels)
        try:
            self._open(voxels, scan.replaced)
        except ScanError as problem:
            raise type(problem)(f"{scan.files.folder}: {problem}") from problem

    def statistics(self) -> tuple[ChannelStatistics | None, ...]:
        """The statistics of each channel of the scan that is open; None of a replaced one."""
        return tuple(values and ChannelStatistics(*values) for values in self._core.statistics())

    def coverage(self) -> Coverage:
        """Where the scan that is open has foreground in a channel that is not replaced."""
        slices, rows, columns = self._core.coverage()
        return Coverage(np.array(slices, bool), rows, columns)

    def planes(self) -> npt.NDArray[np.float32]:
        """Every plane, (slices, channels, grid rows, grid columns) float32."""
        planes = np.empty((self.slices, len(self.spec.channels), *self.spec.grid_px), np.float32)
        self._core.write(0, self.slices, 0, planes)
        return planes

    def network_batch(self, start: int, stop: int, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """The network's input for slices `start` to `stop` - 1, as `network_batch` gives it of the planes.

        Args:
            start: first slice of the batch.
            stop: one past its last slice.
            out: (stop - start, in_channels, grid rows, grid columns) float32 or float16, C-contiguous, to write; None
                for a new one in float32.

        Raises:
            ValueError: no scan is open, it has no such slices, or `out` has another shape.
            TypeError: `out` has another dtype, is not C-contiguous, or read-only.
        """
        if out is None:
            out = np.empty((stop - start, self.spec.in_channels, *self.spec.grid_px), np.float32)
        self._core.write(start, stop, self.spec.context, out)
        return out

    def packed_batch(self, start: int, stop: int, integers: IntegerInput, out: Integers | None = None) -> Integers:
        """The network's input for slices `start` to `stop` - 1 as integers, as `packed_batch` gives it of the planes.

        Args:
            start: first slice of the batch.
            stop: one past its last slice.
            integers: how the network takes them.
            out: `packed_shape`, of the dtype of `integers`, C-contiguous, to write; None for a new one.

        Raises:
            SpecError: rows or columns of the grid do not divide into blocks.
            ValueError, TypeError: as `network_batch` raises them.
        """
        if out is None or integers is not self._checked:
            shape = packed_shape(stop - start, self.spec.in_channels, self.spec.grid_px, integers)
            self._checked = integers
            out = np.empty(shape, integers.dtype) if out is None else out
        self._core.pack(start, stop, self.spec.context, integers.block_px, integers.scale, integers.zero_point, out)
        return out

    def _open(self, voxels: npt.NDArray[np.generic], known: tuple[str, ...] = ()) -> None:
        check_voxels(voxels, self.spec)
        replaced = [name in known for name in self.spec.channels]
        problem, channel, not_finite, only_value = self._core.open(_readable(voxels), replaced)
        if problem == "not-finite":
            raise ScanError(f"{not_finite} voxels are NaN, infinite or beyond float32; finite values wanted.")
        if problem == "too-large":
            raise ScanError(f"voxels of shape {voxels.shape}; fewer than 2^32 in a channel wanted.")
        self.placement = place((voxels.shape[1], voxels.shape[2]), self.spec)
        if problem:
            name = self.spec.channels[channel]
            raise NoContrastError(f"channel {name}: {_REFUSALS[problem].format(only_value)}")
        self.slices = len(voxels)
        statistics = self._core.statistics()
        self.replaced = tuple(name for name, found in zip(self.spec.channels, statistics, strict=True) if found is None)


_REFUSALS = {
    "no-foreground": "no foreground: the whole channel looks like background.",
    "one-value": "the foreground has one value, {:g}.",
}


def prepare(scan: Scan | npt.NDArray[np.generic], spec: Preprocessing) -> Prepared:
    """What `preprocess` gives, by the native core.

    Raises:
        ScanError: as `preprocess` raises it, or a channel has 2^32 voxels.
    """
    preprocessor = Preprocessor(spec)
    preprocessor.open(scan)
    return Prepared(preprocessor.planes(), preprocessor.placement, preprocessor.replaced)


def _readable(voxels: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """The same values as the core reads them: aligned, in the machine's byte order, floats of 32 or 64 bits."""
    if voxels.dtype.char not in _READABLE:
        with np.errstate(over="ignore"):
            voxels = voxels.astype(np.float32)
    return np.require(voxels, voxels.dtype.newbyteorder("="), "A")
