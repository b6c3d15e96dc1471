"""How fast logits become labelled lesions: the native core against a chain of OpenCV and cc3d, and one of SciPy.

python benchmarks/postprocess.py --repeats 15

Candidates take turns, on one thread unless they say otherwise. Every one gives the same mask, and of each lesion the
same voxels, centroid and bounding box, or the script fails; the core measures diameters besides. Unless others are
given, logits are made from a phantom's truth: the distance to its border, with noise as smooth as a network's.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cc3d
import click
import cv2
import numpy as np
import numpy.typing as npt
from scans import SHAPE, phantom_scan
from scipy import ndimage

from tumortrace_runtime.bench.timing import measure_interleaved
from tumortrace_runtime.command import run
from tumortrace_runtime.errors import InputError
from tumortrace_runtime.postprocess import Postprocessing
from tumortrace_runtime.postprocessor import Postprocessor, Segmentation
from tumortrace_runtime.table import format_table

SLICE_PX = 256
SPEC = Postprocessing(opening_px=1, closing_px=1, fill_holes=True, min_lesion_voxels=20)
HEADINGS = ("candidate", "median ms", "p90 ms", "least ms", "of native")

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Found:
    """What a candidate makes of logits.

    Attributes:
        mask: (slices, rows, columns) 0 or 1.
        voxels: of each lesion.
        centroids: (lesions, 3) slice, row, column.
        boxes: (lesions, 6) the least slice, row, column inside, and the greatest plus one.
    """

    mask: Mask
    voxels: npt.NDArray[np.int64]
    centroids: npt.NDArray[np.float64]
    boxes: npt.NDArray[np.int64]

    def agrees(self, other: Found) -> bool:
        """Whether it is the same, lesions in any order, centroids to a millionth of a pixel."""
        if not np.array_equal(self.mask, other.mask) or len(self.voxels) != len(other.voxels):
            return False
        ours, theirs = (np.column_stack([each.voxels, each.boxes, each.centroids]) for each in (self, other))
        ours, theirs = (rows[np.lexsort(rows.T[::-1])] for rows in (ours, theirs))
        return np.allclose(ours, theirs, rtol=0, atol=1e-6)


Candidates = dict[str, Callable[[], Any]]


@click.command()
@click.option("--logits", "path", type=click.Path(path_type=Path), help="Logits as .npy instead of a phantom's.")
@click.option("--repeats", type=click.IntRange(min=1), default=15, show_default=True)
@click.option("--scipy/--no-scipy", "with_scipy", default=True, show_default=True, help="Measure the slowest, too.")
def command(path: Path | None, repeats: int, with_scipy: bool) -> None:
    """Measure post-processing of a scan and of one slice, and print tables of ratios."""
    cv2.setNumThreads(1)
    scan = read_logits(path) if path else make_logits()
    for name, logits in {"scan": scan, "slice": fullest_slice(scan)}.items():
        candidates = make_candidates(logits, with_scipy)
        wanted = require_agreement(candidates)
        readers = make_readers(logits) if name == "scan" else {}
        timings = measure_interleaved(readers | candidates, repeats=repeats)
        base = timings["native"].median_ms
        rows = [
            (candidate, f"{t.median_ms:.4f}", f"{t.p90_ms:.4f}", f"{t.min_ms:.4f}", f"{t.median_ms / base:.2f}")
            for candidate, t in timings.items()
        ]
        click.echo(f"{name} of {logits.shape}: {len(wanted.voxels)} lesions of {wanted.voxels.sum()} voxels")
        click.echo(format_table(HEADINGS, rows))


def read_logits(path: Path) -> Floats:
    """(slices, rows, columns) float32 from a .npy file.

    Raises:
        InputError: it holds something else.
    """
    logits = np.load(path, allow_pickle=False)
    if logits.ndim != 3 or logits.dtype != np.float32:
        raise InputError(f"{path}: {logits.dtype} of shape {logits.shape}; float32 (slices, rows, columns) wanted.")
    return np.ascontiguousarray(logits)


def make_logits() -> Floats:
    """(slices, rows, columns) like a network's logits of a phantom."""
    truth = phantom_scan().truth
    assert truth is not None
    inside = truth != 0
    distance = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    noise = ndimage.gaussian_filter(np.random.default_rng(7).standard_normal(SHAPE), 1.5)
    return np.asarray(np.clip(distance, -9, 9) + 1.5 * noise / noise.std(), np.float32)


def fullest_slice(logits: Floats) -> Floats:
    """(1, rows, columns), the slice with the most foreground, with at least `SLICE_PX` rows and columns."""
    fullest = logits[(logits > SPEC.threshold_logit).sum(axis=(1, 2)).argmax()]
    missing = [max(0, SLICE_PX - size) for size in fullest.shape]
    return np.pad(fullest, [(size // 2, size - size // 2) for size in missing], mode="edge")[None]


def make_readers(logits: Floats) -> dict[str, Callable[[], Any]]:
    """What does no more than read the logits, by name."""
    pool, halves = ThreadPoolExecutor(2), np.array_split(logits, 2)
    return {"read once": logits.max, "read once, 2 threads": lambda: list(pool.map(np.max, halves))}


def make_candidates(logits: Floats, with_scipy: bool) -> Candidates:
    """What is timed, by name."""
    native, paired = Postprocessor(SPEC), Postprocessor(SPEC, threads=2)
    candidates: Candidates = {
        "native": lambda: native.segment_logits(logits),
        "native, 2 threads": lambda: paired.segment_logits(logits),
        "tuned chain": lambda: tuned_chain(logits),
    }
    return candidates | ({"scipy": lambda: scipy_chain(logits)} if with_scipy else {})


def require_agreement(candidates: Candidates) -> Found:
    """What all candidates give.

    Raises:
        AssertionError: one gives something else than the first.
    """
    found = {name: _found(call()) for name, call in candidates.items()}
    first, wanted = next(iter(found.items()))
    for name, given in found.items():
        if not given.agrees(wanted):
            raise AssertionError(f"{name} gives another mask or other lesions than {first}.")
    return wanted


def tuned_chain(logits: Floats) -> Found:
    """OpenCV and cc3d, with as little work as they allow: one labelling, and only slices with foreground."""
    mask = cv2.compare(logits.reshape(-1, logits.shape[2]), SPEC.threshold_logit.item(), cv2.CMP_GT)
    binary = np.asarray(mask, np.uint8).reshape(logits.shape)
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    for image in binary:
        if not cv2.hasNonZero(image):
            continue
        cv2.morphologyEx(image, cv2.MORPH_OPEN, cross, dst=image)
        cv2.morphologyEx(image, cv2.MORPH_CLOSE, cross, dst=image)
        outside = cv2.copyMakeBorder(image, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        cv2.floodFill(outside, None, (0, 0), 128, flags=4)
        cv2.compare(outside[1:-1, 1:-1], 128, cv2.CMP_NE, dst=image)
    labels = cc3d.connected_components(binary, connectivity=26)
    measured = cc3d.statistics(labels, no_slice_conversion=True)
    keep = measured["voxel_counts"] >= SPEC.min_lesion_voxels
    keep[0] = False
    low_high = measured["bounding_boxes"][keep].astype(np.int64)  # least and greatest of each axis in turn
    boxes = np.concatenate([low_high[:, 0::2], low_high[:, 1::2] + 1], axis=1)
    voxels = measured["voxel_counts"][keep].astype(np.int64)
    return Found(np.asarray(keep[labels], np.uint8), voxels, measured["centroids"][keep], boxes)


def scipy_chain(logits: Floats) -> Found:
    """The same with scipy.ndimage."""
    mask = logits > SPEC.threshold_logit
    cross = ndimage.generate_binary_structure(2, 1)
    for index, image in enumerate(mask):
        opened = ndimage.binary_dilation(ndimage.binary_erosion(image, cross, border_value=1), cross)
        closed = ndimage.binary_erosion(ndimage.binary_dilation(opened, cross), cross, border_value=1)
        mask[index] = ndimage.binary_fill_holes(closed)
    labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
    voxels = np.bincount(labels.ravel(), minlength=count + 1)
    keep = voxels >= SPEC.min_lesion_voxels
    keep[0] = False
    kept = np.flatnonzero(keep)
    centroids = np.reshape(ndimage.center_of_mass(mask, labels, kept), (-1, 3))
    places = ndimage.find_objects(labels)
    ends = [[axis.start for axis in places[i - 1]] + [axis.stop for axis in places[i - 1]] for i in kept]
    return Found(np.asarray(keep[labels], np.uint8), voxels[kept], centroids, np.reshape(ends, (-1, 6)))


def _found(result: Found | Segmentation) -> Found:
    if isinstance(result, Found):
        return result
    boxes = np.array([lesion.bounding_box for lesion in result.lesions], np.int64)
    centroids = np.array([lesion.centroid for lesion in result.lesions], np.float64)
    voxels = np.array([lesion.voxels for lesion in result.lesions], np.int64)
    return Found(result.mask, voxels, centroids.reshape(-1, 3), boxes.reshape(-1, 6))


if __name__ == "__main__":
    run(command, "postprocess")
