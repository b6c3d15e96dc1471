"""The plain reading of the definition of preprocessing, value by value, and the golden arrays made by it.

Nothing of the product but its spec and its errors is used here. `python -m tests.runtime.preprocess.plain` writes
`tests/golden/preprocess.npz` anew; a change of that file is a change of what every trained model sees.
"""

from __future__ import annotations

import json
import math
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np

from tumortrace_runtime.preprocess import Preprocessing
from tumortrace_runtime.settings import to_dict

GOLDEN = Path(__file__).parents[2] / "golden" / "preprocess.npz"
SEQUENCES = ("t1", "flair", "t1ce")


def levels_slowly(slices):
    """Levels in the shape of `slices`, nested lists; and the value of level 0 and the step between levels."""
    values = slices.ravel().tolist()
    if slices.dtype.kind in "iu" and max(values) - min(values) < 65536:
        origin, step = min(values), 1
        found = [value - origin for value in values]
    else:
        values = [float(np.float32(value)) for value in values]
        origin = min(values)
        step = (max(values) - origin) / 65535
        found = [math.floor((value - origin) / step + 0.5) if step else 0 for value in values]
    return np.reshape(found, slices.shape).tolist(), origin, step or 1


def nearest_rank(levels, percentile):
    return sorted(levels)[max(1, math.ceil(percentile * len(levels) / 100)) - 1]


def border_slowly(levels):
    return [
        level
        for image in levels
        for y, row in enumerate(image)
        for x, level in enumerate(row)
        if not (4 <= y < len(image) - 4 and 4 <= x < len(row) - 4)
    ]


def statistics_slowly(slices, spec):
    """(background, low, high, mean, scale) as float32, or None where there is nothing to normalise by."""
    levels, origin, step = levels_slowly(slices)
    every = [level for image in levels for row in image for level in row]
    background = nearest_rank(border_slowly(levels), 50.0)
    if spec.foreground == "not-border":
        foreground = [level for level in every if level != background]
    else:
        reach = spec.foreground_fraction * (nearest_rank(every, 99.5) - background)
        foreground = [level for level in every if level > background + reach]
    if not foreground:
        return None
    low, high = (nearest_rank(foreground, percentile) for percentile in spec.clip_percentiles)
    clipped = [min(max(level, low), high) for level in foreground]
    mean = Fraction(sum(clipped), len(clipped))
    variance = Fraction(sum(level * level for level in clipped), len(clipped)) - mean**2
    if variance == 0:
        return None
    values = (background, low, high, low + float(mean - low))
    return *(np.float32(origin + step * level) for level in values), np.float32(1 / (step * math.sqrt(variance)))


def normalise_slowly(slices, statistics):
    _, low, high, mean, scale = statistics
    flat = [(min(max(np.float32(value), low), high) - mean) * scale for value in slices.ravel()]
    return np.array(flat, np.float32).reshape(slices.shape)


def placement_slowly(scan_px, spec):
    """(rows, columns) of the slices on the grid, and (top, left)."""
    scaled = scan_px
    if spec.fit == "resize":
        factor = min(Fraction(grid, size) for grid, size in zip(spec.grid_px, scan_px, strict=True))
        scaled = tuple(max(1, math.floor(size * factor + Fraction(1, 2))) for size in scan_px)
    return scaled, tuple((grid - size) // 2 for grid, size in zip(spec.grid_px, scaled, strict=True))


@cache
def triangle(before, after):
    """For each of `after` samples, the samples of `before` that it is made of, as {index: weight}.

    The triangle is as wide as a sample of either side, the wider of them.
    """
    ratio = Fraction(before, after)
    support = max(Fraction(1), ratio)
    samples = []
    for number in range(after):
        centre = (number + Fraction(1, 2)) * ratio - Fraction(1, 2)
        heights = {index: height for index in range(before) if (height := 1 - abs(index - centre) / support) > 0}
        total = sum(heights.values())
        samples.append({index: np.float32(float(height / total)) for index, height in heights.items()})
    return samples


def resample_slowly(line, size):
    """One line of float32 values, from the lowest index up."""
    if len(line) == size:
        return line
    result = []
    for weights in triangle(len(line), size):
        first, *others = (line[index] * weight for index, weight in weights.items())
        for product in others:
            first = first + product
        result.append(first)
    return result


def resize_slowly(image, size_px):
    """(rows, columns) float32 to `size_px`: every row, then every column."""
    rows = np.array([resample_slowly(list(row), size_px[1]) for row in image], np.float32)
    return np.array([resample_slowly(list(column), size_px[0]) for column in rows.T], np.float32).T


def preprocess_slowly(voxels, spec):
    """(slices, channels, grid rows, grid columns) float32."""
    scaled, (top, left) = placement_slowly(voxels.shape[1:3], spec)
    planes = np.zeros((len(voxels), len(spec.channels), *spec.grid_px), np.float32)
    for number, name in enumerate(spec.channels):
        slices = voxels[..., number]
        if name != "flair" and "flair" in spec.channels:
            flair = voxels[..., spec.channels.index("flair")]
            if slices.tolist() == flair.tolist():
                continue
        statistics = statistics_slowly(slices, spec)
        planes[:, number] = normalise_slowly(np.array([statistics[0]]), statistics)[0]
        for position, image in enumerate(normalise_slowly(slices, statistics)):
            planes[position, number, top : top + scaled[0], left : left + scaled[1]] = resize_slowly(image, scaled)
    return planes


def from_grid_slowly(logits, scan_px, spec):
    """(slices, grid rows, grid columns) float32 on the scan's own grid."""
    scaled, (top, left) = placement_slowly(scan_px, spec)
    window = logits[:, top : top + scaled[0], left : left + scaled[1]]
    return np.stack([resize_slowly(image, scan_px) for image in window])


def batch_slowly(planes, start, stop, context):
    last = len(planes) - 1
    stacks = [
        [planes[min(max(slice_ + step, 0), last)] for step in range(-context, context + 1)]
        for slice_ in range(start, stop)
    ]
    return np.array([np.concatenate(stack) for stack in stacks], np.float32)


def head(rng, shape, *, background, brain, skull):
    """(slices, rows, columns, 3) float64: an ellipse of tissue with a brighter rim, on a noisy background."""
    count, rows, columns = shape
    y, x = np.ogrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    distance = np.hypot(y / 0.8, x / 0.7)[None, ..., None]
    noise = rng.standard_normal((count, rows, columns, len(SEQUENCES)))
    background = np.asarray(background)
    level = np.where(distance < 0.8, brain, np.where(distance < 1, skull, background))
    return level + noise * np.where(distance < 1, 0.1 * (brain - background), 0.02 * (brain - background))


def golden_scans():
    """(voxels, spec) of every golden case: dtypes, backgrounds, rules, ways onto the grid."""
    rng = np.random.default_rng(20_151_018)
    noisy = np.clip(head(rng, (3, 22, 19), background=(80, 5, 12), brain=120, skull=190), 0, 255).astype(np.uint8)
    yield noisy, Preprocessing(SEQUENCES, grid_px=(24, 24))

    replaced = np.clip(head(rng, (2, 16, 20), background=0, brain=90, skull=200), 0, 255).astype(np.uint8)
    replaced[..., 2] = replaced[..., 1]
    yield replaced, Preprocessing(SEQUENCES, grid_px=(28, 25), fit="resize")

    wide = np.clip(head(rng, (2, 41, 33), background=300, brain=21_000, skull=60_000), 0, 65535).astype(np.uint16)
    yield wide, Preprocessing(SEQUENCES, grid_px=(24, 32), fit="resize", clip_percentiles=(1, 98))

    signed = head(rng, (2, 24, 24), background=-1000, brain=40, skull=900).astype(np.int16)
    yield signed, Preprocessing(SEQUENCES, grid_px=(32, 24), foreground_fraction=0.25)

    scored = head(rng, (2, 23, 21), background=0, brain=1, skull=-2).astype(np.float32)
    scored[:, :6] = scored[:, -6:] = scored[:, :, :5] = scored[:, :, -5:] = -0.5
    yield scored, Preprocessing(SEQUENCES, grid_px=(23, 24), foreground="not-border")
    yield scored, Preprocessing(SEQUENCES, grid_px=(31, 29), fit="resize", foreground="not-border")
    yield scored, Preprocessing(SEQUENCES, grid_px=(16, 17), fit="resize", clip_percentiles=(0, 100))


def write_golden(path):
    arrays, specs = {}, []
    for number, (voxels, spec) in enumerate(golden_scans()):
        logits = np.random.default_rng(number).standard_normal((2, *spec.grid_px)).astype(np.float32)
        arrays[f"voxels_{number}"] = voxels
        arrays[f"planes_{number}"] = preprocess_slowly(voxels, spec)
        arrays[f"logits_{number}"] = logits
        arrays[f"back_{number}"] = from_grid_slowly(logits, voxels.shape[1:3], spec)
        specs.append(to_dict(spec))
    np.savez_compressed(path, specs=json.dumps(specs), **arrays)


if __name__ == "__main__":
    write_golden(GOLDEN)
