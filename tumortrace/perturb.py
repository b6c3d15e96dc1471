"""Scans spoiled in ways that happen beside a scanner: sequences mixed up, slices turned, noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.preprocess import reference_number

Planes = npt.NDArray[np.float32]
Spoil = Callable[[Planes, np.random.Generator], Planes]

NOISE = (0.5, 1.0)
"""Standard deviations of the noise, in those of the head's intensities."""


def ways_to_spoil(channels: Sequence[str]) -> Mapping[str, Spoil]:
    """By name, what spoils a prepared scan: (slices, channels, rows, columns) planes and a generator to new planes.

    "order t1ce flair t1": what is given in place of the channels, in their order. Orders that leave FLAIR in its place
    are not among them: networks that look for its abnormality hardly change their masks then.

    Args:
        channels: of the planes, in their order.
    """
    ways: dict[str, Spoil] = {
        f"order {' '.join(channels[number] for number in order)}": _reorder(order) for order in wrong_orders(channels)
    }
    ways |= {"turned left": _turn(1), "turned right": _turn(-1), "upside down": _turn_over}
    ways |= {f"noise {level:g}": _add_noise(level) for level in NOISE}
    return ways


def wrong_orders(channels: Sequence[str]) -> list[tuple[int, ...]]:
    """Orders of the channels, each the numbers of those that are given in their place: FLAIR is always misplaced.

    Every swap of FLAIR with another, and every rotation of all.
    """
    count = len(channels)
    reference = reference_number(channels)
    orders = [tuple((number + turn) % count for number in range(count)) for turn in range(1, count)]
    for other in range(count):
        if other != reference:
            swapped = {reference: other, other: reference}
            orders.append(tuple(swapped.get(number, number) for number in range(count)))
    return list(dict.fromkeys(orders))


def on_grid(planes: Planes, grid_px: tuple[int, int]) -> Planes:
    """Planes cut or padded to a grid around their centre; what is padded has the value of the first pixel."""
    grid = np.broadcast_to(planes[:, :, :1, :1], (*planes.shape[:2], *grid_px)).copy()
    here, there = zip(
        *(_overlap(size, wanted) for size, wanted in zip(planes.shape[2:], grid_px, strict=True)), strict=True
    )
    grid[(..., *there)] = planes[(..., *here)]
    return grid


def _overlap(size: int, wanted: int) -> tuple[slice, slice]:
    """Where `size` pixels and `wanted` ones lie over each other, centred, in the one and in the other."""
    shared = min(size, wanted)
    here, there = (size - shared) // 2, (wanted - shared) // 2
    return slice(here, here + shared), slice(there, there + shared)


def _reorder(order: tuple[int, ...]) -> Spoil:
    return lambda planes, rng: planes[:, list(order)]


def _turn(quarters: int) -> Spoil:
    return lambda planes, rng: on_grid(np.rot90(planes, quarters, axes=(2, 3)), (planes.shape[2], planes.shape[3]))


def _turn_over(planes: Planes, rng: np.random.Generator) -> Planes:
    return planes[:, :, ::-1]


def _add_noise(level: float) -> Spoil:
    """Gaussian noise, clipped as preprocessing clips; a sequence that is missing stays so."""

    def add(planes: Planes, rng: np.random.Generator) -> Planes:
        low = planes.min(axis=(0, 2, 3), keepdims=True)
        high = planes.max(axis=(0, 2, 3), keepdims=True)
        noise = rng.standard_normal(planes.shape, dtype=np.float32)
        noise *= np.float32(level)
        noise += planes
        return np.clip(noise, low, high, out=noise)

    return add
