"""Masks drawn as outlines over a slice, for people to look at. RGB throughout."""

from __future__ import annotations

import math
from functools import reduce

import numpy as np
import numpy.typing as npt

from tumortrace_runtime import font
from tumortrace_runtime.preprocess.grid import resize

Array = npt.NDArray[np.generic]
Rgb = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

# Okabe and Ito 2008: told apart with every kind of colour vision.
PREDICTION: Colour = (230, 159, 0)
TRUTH: Colour = (86, 180, 233)

MIN_SIDE_PX = 512
WINDOW_PERCENTILES = (1.0, 99.5)

_LEGEND_PX = 28
_MARGIN_PX = 10
_TEXT: Colour = (235, 235, 235)
_LETTER_SCALE = 2


def draw_overlay(image: Array, prediction: Array, truth: Array | None = None, caption: str = "") -> Rgb:
    """One slice with the outline of the prediction, that of the truth if there is one, and a legend below.

    Args:
        image: (rows, columns) of any numeric dtype.
        prediction: (rows, columns), non-zero for lesion.
        truth: the same for the expert's mask.
        caption: plain ASCII words for the legend's right end.

    Returns:
        (rows', columns', 3) uint8, enlarged by a whole factor until its longer side has at least 512 px.
    """
    outlined = outline(image, prediction, truth, intensity_window(image))
    return np.concatenate([outlined, _legend(outlined.shape[1], caption, with_truth=truth is not None)])


def draw_montage(image: Array, prediction: Array, truth: Array | None = None, caption: str = "", count: int = 6) -> Rgb:
    """Up to `count` slices of a scan side by side, spread evenly over those with a lesion, with one legend below.

    Args:
        image: (slices, rows, columns) of any numeric dtype; one intensity window serves all that are shown.
        prediction: (slices, rows, columns), non-zero for lesion.
        truth: the same for the expert's mask.
        caption: plain ASCII words for the legend's right end.
        count: slices to show at most; the scan's own slices are spread where no slice has a lesion.

    Returns:
        (rows', columns', 3) uint8: three tiles in a row, each enlarged as in `draw_overlay`.
    """
    masks = [prediction] if truth is None else [prediction, truth]
    shown = spread_slices(masks, count)
    window = intensity_window(image[shown])
    tiles = []
    for index in shown:
        tile = outline(image[index], prediction[index], None if truth is None else truth[index], window)
        _write(tile[_MARGIN_PX:, _MARGIN_PX:], f"slice {index}")
        tiles.append(tile)
    grid = _tile(tiles, min(3, len(tiles)))
    return np.concatenate([grid, _legend(grid.shape[1], caption, with_truth=truth is not None)])


def mark(picture: Rgb, words: str) -> Rgb:
    """A (rows, columns, 3) picture with a strip above it that says `words`; widened where they need more room."""
    letters = _letters(words)
    width_px = max(picture.shape[1], letters.shape[1] + 2 * _MARGIN_PX)
    strip = np.zeros((_LEGEND_PX, width_px, 3), np.uint8)
    _write(strip[(_LEGEND_PX - letters.shape[0]) // 2 :, (width_px - letters.shape[1]) // 2 :], words)
    return np.concatenate([strip, np.pad(picture, ((0, 0), (0, width_px - picture.shape[1]), (0, 0)))])


def outline(image: Array, prediction: Array, truth: Array | None, window: tuple[float, float]) -> Rgb:
    """One slice in grey between the two intensities of `window`, enlarged, with outlines; see `draw_overlay`."""
    factor = max(1, math.ceil(MIN_SIDE_PX / max(image.shape)))
    rows, columns = image.shape
    grey = resize(_grey(image, window), (rows * factor, columns * factor)).round().astype(np.uint8)
    canvas = np.stack([grey] * 3, axis=-1)
    if truth is not None:
        _draw_outline(canvas, truth, factor, TRUTH, width_px=2)
    _draw_outline(canvas, prediction, factor, PREDICTION, width_px=1)
    return canvas


def intensity_window(image: Array) -> tuple[float, float]:
    """The intensities shown as black and as white: the 1st and the 99.5th percentile of finite values."""
    values = image[np.isfinite(image)] if image.dtype.kind == "f" else image
    if not values.size:
        return 0.0, 1.0
    low, high = np.percentile(values.astype(np.float64), WINDOW_PERCENTILES)
    return float(low), float(high)


def largest_slice(*masks: Array) -> int:
    """The index of the slice where the union of (slices, rows, columns) masks is largest; the middle one if empty."""
    areas = _areas(masks)
    return int(areas.argmax()) if areas.any() else len(areas) // 2


def spread_slices(masks: list[Array], count: int) -> list[int]:
    """At most `count` indices, spread evenly over the slices where any of the masks has a voxel, else over all."""
    areas = _areas(masks)
    candidates = np.flatnonzero(areas) if areas.any() else np.arange(len(areas))
    chosen = np.linspace(0, len(candidates) - 1, min(count, len(candidates))).round().astype(np.intp)
    indices: list[int] = candidates[chosen].tolist()
    return indices


def _areas(masks: tuple[Array, ...] | list[Array]) -> npt.NDArray[np.intp]:
    union = reduce(np.logical_or, (mask != 0 for mask in masks))
    return np.array([np.count_nonzero(each) for each in union])


def _grey(image: Array, window: tuple[float, float]) -> npt.NDArray[np.float32]:
    """0 to 255, not yet rounded."""
    low, high = window
    shown = np.nan_to_num(image.astype(np.float32), nan=low).clip(low, high)
    grey: npt.NDArray[np.float32] = (shown - np.float32(low)) * np.float32(255.0 / max(high - low, 1e-6))
    return grey


def _draw_outline(canvas: Rgb, mask: Array, factor: int, colour: Colour, *, width_px: int) -> None:
    canvas[_border(_enlarge(mask != 0, factor), width_px)] = colour


def _enlarge(mask: npt.NDArray[np.bool_], factor: int) -> npt.NDArray[np.bool_]:
    return mask.repeat(factor, axis=0).repeat(factor, axis=1)


def _border(mask: npt.NDArray[np.bool_], width_px: int) -> npt.NDArray[np.bool_]:
    """The outermost pixels of a (rows, columns) mask; what lies outside the picture is background."""
    inner = mask
    for _ in range(width_px):
        around = np.pad(inner, 1)
        inner = inner & around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    return mask & ~inner


def _legend(width_px: int, caption: str, *, with_truth: bool) -> Rgb:
    """Names in their colours on the left, the caption on the right; it is cut where there is no room for it."""
    strip = np.zeros((_LEGEND_PX, width_px, 3), np.uint8)
    line = strip[(_LEGEND_PX - font.ROWS_PX * _LETTER_SCALE) // 2 :]
    left = _MARGIN_PX
    for name, colour in [("prediction", PREDICTION), ("truth", TRUTH)][: 1 + with_truth]:
        strip[_LEGEND_PX // 2 - 1 : _LEGEND_PX // 2 + 1, left : left + 20] = colour
        left += 26 + _write(line[:, left + 26 :], name) + 18
    room = line[:, left : width_px - _MARGIN_PX]
    _write(room[:, max(0, room.shape[1] - _letters(caption).shape[1]) :], caption)
    return strip


def _write(canvas: Rgb, text: str) -> int:
    """Write from the upper left corner on, as far as there is room; the line's whole width."""
    letters = _letters(text)
    rows, columns = letters.shape
    place = canvas[:rows, :columns]
    place[letters[: place.shape[0], : place.shape[1]]] = _TEXT
    return int(columns)


def _letters(text: str) -> npt.NDArray[np.bool_]:
    return _enlarge(font.draw(text), _LETTER_SCALE)


def _tile(tiles: list[Rgb], columns: int) -> Rgb:
    blank = [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    filled = tiles + blank
    return np.concatenate([np.concatenate(filled[i : i + columns], axis=1) for i in range(0, len(filled), columns)])
