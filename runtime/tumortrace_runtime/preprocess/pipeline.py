"""A whole scan onto the network's grid, and the network's batches out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.errors import ScanError
from tumortrace_runtime.io.scan import Scan
from tumortrace_runtime.preprocess.grid import Placement, place, to_grid
from tumortrace_runtime.preprocess.spec import Preprocessing
from tumortrace_runtime.preprocess.statistics import channel_statistics, normalise

REFERENCE_CHANNEL = "flair"


@dataclass(frozen=True)
class Prepared:
    """A scan as the network sees it.

    Attributes:
        planes: (slices, channels, grid rows, grid columns) float32; a replaced channel is 0, the foreground's mean.
        placement: the way back to the scan's grid.
        replaced: channels that held a copy of FLAIR in place of a missing sequence.
    """

    planes: npt.NDArray[np.float32]
    placement: Placement
    replaced: tuple[str, ...]


def preprocess(scan: Scan | npt.NDArray[np.generic], spec: Preprocessing) -> Prepared:
    """Normalise every channel of a scan and bring it onto the network's grid.

    Args:
        scan: a scan, whose channels are picked by name, or voxels (slices, rows, columns, channels), any real dtype,
            finite, the channels in the order of `spec.channels`.
        spec: the model's preprocessing.

    Raises:
        ScanError: a channel is missing, the shape, the dtype or a value is not as wanted, or a channel holds nothing to
            normalise by.
    """
    if not isinstance(scan, Scan):
        return _prepare(scan, spec)
    voxels = scan.select(spec.channels)
    try:
        return _prepare(voxels, spec, scan.replaced)
    except ScanError as problem:
        raise ScanError(f"{scan.files.folder}: {problem}") from problem


def _prepare(voxels: npt.NDArray[np.generic], spec: Preprocessing, known: tuple[str, ...] = ()) -> Prepared:
    """What `preprocess` gives of voxels; `known` are channels that their reader found replaced."""
    check_voxels(voxels, spec)
    if voxels.dtype.kind == "f" and (unusable := _not_finite(voxels)):
        raise ScanError(f"{unusable} voxels are NaN, infinite or beyond float32; finite values wanted.")
    placement = place((voxels.shape[1], voxels.shape[2]), spec)
    found = {*known, *replaced_channels(voxels, spec.channels)}
    replaced = tuple(name for name in spec.channels if name in found)
    planes = np.zeros((len(voxels), len(spec.channels), *spec.grid_px), np.float32)
    for number, name in enumerate(spec.channels):
        if name not in replaced:
            planes[:, number] = _prepare_channel(voxels[..., number], name, placement, spec)
    return Prepared(planes, placement, replaced)


def network_batch(planes: npt.NDArray[np.float32], start: int, stop: int, context: int) -> npt.NDArray[np.float32]:
    """The network's input for slices `start` to `stop` - 1.

    Args:
        planes: (slices, channels, rows, columns).
        start: first slice of the batch.
        stop: one past its last slice; may exceed neither the scan nor be below `start`.
        context: neighbours on each side; beyond the scan's ends the end slice is repeated.

    Returns:
        (stop - start, (2 x context + 1) x channels, rows, columns), the lowest neighbour's channels first.
    """
    neighbours = np.arange(start, stop)[:, None] + np.arange(-context, context + 1)
    batch: npt.NDArray[np.float32] = planes[np.clip(neighbours, 0, len(planes) - 1)]
    return batch.reshape(stop - start, -1, *planes.shape[2:])


def replaced_channels(voxels: npt.NDArray[np.generic], channels: tuple[str, ...]) -> tuple[str, ...]:
    """The channels that equal FLAIR in every voxel, as data sets store them where the sequence is missing.

    Args:
        voxels: (slices, rows, columns, channels).
        channels: their names.
    """
    if REFERENCE_CHANNEL not in channels:
        return ()
    reference = voxels[..., channels.index(REFERENCE_CHANNEL)]
    return tuple(
        name
        for number, name in enumerate(channels)
        if name != REFERENCE_CHANNEL and all(map(np.array_equal, voxels[..., number], reference))
    )


def reference_number(channels: Sequence[str]) -> int:
    """The number of the channel that shows the lesion best: FLAIR, or the first where there is none."""
    return channels.index(REFERENCE_CHANNEL) if REFERENCE_CHANNEL in channels else 0


def check_voxels(voxels: npt.NDArray[np.generic], spec: Preprocessing) -> None:
    """Whether voxels have the shape and a dtype that `preprocess` takes.

    Raises:
        ScanError: they have not.
    """
    wanted = f"(slices, rows, columns, {len(spec.channels)}: {', '.join(spec.channels)})"
    if voxels.ndim != 4 or voxels.shape[-1] != len(spec.channels) or 0 in voxels.shape:
        raise ScanError(f"voxels of shape {voxels.shape}; {wanted} wanted, none of them empty.")
    if voxels.dtype.kind not in "iuf":
        raise ScanError(f"voxels of dtype {voxels.dtype}; integers or floats wanted.")


def _prepare_channel(
    slices: npt.NDArray[np.generic], name: str, placement: Placement, spec: Preprocessing
) -> npt.NDArray[np.float32]:
    try:
        statistics = channel_statistics(slices, spec)
    except ScanError as problem:
        raise ScanError(f"channel {name}: {problem}") from problem
    fill = normalise(np.array([statistics.background], np.float32), statistics)[0]
    return to_grid(normalise(slices, statistics), placement, float(fill))


def _not_finite(voxels: npt.NDArray[np.generic]) -> int:
    with np.errstate(over="ignore"):
        return voxels.size - int(np.isfinite(voxels.astype(np.float32, copy=False)).sum())
