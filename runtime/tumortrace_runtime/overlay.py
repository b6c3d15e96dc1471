"""Masks drawn as outlines over a slice, for people to look at. RGB throughout."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from tumortrace_runtime.errors import OutputError

Array = npt.NDArray[np.generic]
Rgb = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

# Okabe and Ito 2008: told apart with every kind of colour vision.
PREDICTION: Colour = (230, 159, 0)
TRUTH: Colour = (86, 180, 233)

MIN_SIDE_PX = 512
WINDOW_PERCENTILES = (1.0, 99.5)

_LEGEND_PX = 28
_TEXT: Colour = (235, 235, 235)


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
        image: (slices, rows, columns) of any numeric dtype; one intensity window serves all.
        prediction: (slices, rows, columns), non-zero for lesion.
        truth: the same for the expert's mask.
        caption: plain ASCII words for the legend's right end.
        count: slices to show at most; the scan's own slices are spread where no slice has a lesion.

    Returns:
        (rows', columns', 3) uint8: three tiles in a row, each enlarged as in `draw_overlay`.
    """
    masks = [prediction] if truth is None else [prediction, truth]
    window = intensity_window(image)
    tiles = []
    for index in spread_slices(masks, count):
        tile = outline(image[index], prediction[index], None if truth is None else truth[index], window)
        _write(tile, f"slice {index}", (8, 20))
        tiles.append(tile)
    grid = _tile(tiles, min(3, len(tiles)))
    return np.concatenate([grid, _legend(grid.shape[1], caption, with_truth=truth is not None)])


def outline(image: Array, prediction: Array, truth: Array | None, window: tuple[float, float]) -> Rgb:
    """One slice in grey between the two intensities of `window`, enlarged, with outlines; see `draw_overlay`."""
    factor = max(1, math.ceil(MIN_SIDE_PX / max(image.shape)))
    grey = cv2.resize(_grey(image, window), None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    canvas: Rgb = np.ascontiguousarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), np.uint8)
    if truth is not None:
        _draw_outline(canvas, truth, factor, TRUTH, thickness_px=2)
    _draw_outline(canvas, prediction, factor, PREDICTION, thickness_px=1)
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


def encode_png(picture: Rgb) -> bytes:
    """A (rows, columns, 3) RGB or (rows, columns) grey uint8 picture as PNG.

    Raises:
        OutputError: the picture cannot be encoded.
    """
    stored = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR) if picture.ndim == 3 else picture
    done, data = cv2.imencode(".png", stored)
    if not done:
        raise OutputError(f"picture of shape {picture.shape}: cannot be encoded as PNG.")
    return data.tobytes()


def _areas(masks: tuple[Array, ...] | list[Array]) -> npt.NDArray[np.intp]:
    union = np.logical_or.reduce([mask != 0 for mask in masks])
    areas: npt.NDArray[np.intp] = np.count_nonzero(union, axis=(1, 2))
    return areas


def _grey(image: Array, window: tuple[float, float]) -> npt.NDArray[np.uint8]:
    low, high = window
    shown = np.nan_to_num(image.astype(np.float32), nan=low).clip(low, high)
    return ((shown - low) * (255.0 / max(high - low, 1e-6))).round().astype(np.uint8)


def _draw_outline(canvas: Rgb, mask: Array, factor: int, colour: Colour, *, thickness_px: int) -> None:
    enlarged = cv2.resize((mask != 0).astype(np.uint8), None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(enlarged, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, contours, -1, colour, thickness_px)


def _legend(width_px: int, caption: str, *, with_truth: bool) -> Rgb:
    strip = np.zeros((_LEGEND_PX, width_px, 3), np.uint8)
    left = 10
    for name, colour in [("prediction", PREDICTION), ("truth", TRUTH)][: 1 + with_truth]:
        cv2.line(strip, (left, _LEGEND_PX // 2), (left + 20, _LEGEND_PX // 2), colour, 2)
        left = _write(strip, name, (left + 26, 19)) + 18
    _write(strip, caption, (width_px - 10 - _text_width(caption), 19))
    return strip


def _write(canvas: Rgb, text: str, position: tuple[int, int]) -> int:
    cv2.putText(canvas, text, position, cv2.FONT_HERSHEY_SIMPLEX, 0.45, _TEXT, 1, cv2.LINE_AA)
    return position[0] + _text_width(text)


def _text_width(text: str) -> int:
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.45, 1)
    return int(width)


def _tile(tiles: list[Rgb], columns: int) -> Rgb:
    blank = [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    filled = tiles + blank
    return np.concatenate([np.concatenate(filled[i : i + columns], axis=1) for i in range(0, len(filled), columns)])
