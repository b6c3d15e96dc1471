"""How fast logits become labelled lesions: the native core against a chain of OpenCV and cc3d, and one of SciPy.

python benchmarks/postprocess.py --repeats 15

Candidates take turns on one thread; every one gives the same mask and the same lesions, or the script fails. The logits
are made from a phantom's truth: the distance to its border, with noise as smooth as a network's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cc3d
import click
import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from tumortrace.phantom import generate_case
from tumortrace_runtime.bench import measure_interleaved
from tumortrace_runtime.command import run
from tumortrace_runtime.postprocess import Postprocessing
from tumortrace_runtime.postprocessor import Postprocessor
from tumortrace_runtime.table import format_table

SHAPE = (155, 240, 240)
SPEC = Postprocessing(opening_px=1, closing_px=1, fill_holes=True, min_lesion_voxels=20)

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.uint8]


@click.command()
@click.option("--repeats", type=click.IntRange(min=1), default=15, show_default=True)
@click.option("--scipy/--no-scipy", "with_scipy", default=True, show_default=True, help="Measure the slowest, too.")
def command(repeats: int, with_scipy: bool) -> None:
    """Measure post-processing of a scan and of one slice, and print a table of ratios."""
    cv2.setNumThreads(1)
    scan = make_logits()
    largest = int((scan > 0).sum(axis=(1, 2)).argmax())
    for name, logits in {"scan": scan, "slice": np.ascontiguousarray(scan[largest : largest + 1])}.items():
        candidates = make_candidates(logits, with_scipy)
        wanted = candidates["tuned chain"]()
        for candidate, call in candidates.items():
            if candidate != "read once" and not np.array_equal(call(), wanted):
                raise AssertionError(f"{candidate} gives another mask than OpenCV and cc3d.")
        timings = measure_interleaved(candidates, repeats=repeats)
        base = timings["native"].median_ms
        rows = [
            (candidate, f"{timing.median_ms:.3f}", f"{timing.min_ms:.3f}", f"{timing.median_ms / base:.2f}")
            for candidate, timing in timings.items()
        ]
        click.echo(f"{name} of {logits.shape}, {np.count_nonzero(wanted)} voxels in lesions")
        click.echo(format_table(("candidate", "median ms", "least ms", "of native"), rows))


def make_logits() -> Floats:
    """(slices, rows, columns) like a network's logits of a phantom."""
    truth = generate_case(7, 1, size_px=SHAPE[1]).truth
    assert truth is not None
    depth = np.linspace(0, len(truth) - 1, SHAPE[0]).round().astype(int)
    inside = truth[depth] != 0
    distance = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    noise = ndimage.gaussian_filter(np.random.default_rng(7).standard_normal(SHAPE), 1.5)
    return np.asarray(np.clip(distance, -9, 9) + 1.5 * noise / noise.std(), np.float32)


def make_candidates(logits: Floats, with_scipy: bool) -> dict[str, Callable[[], Any]]:
    """What is timed, by name: each gives a mask, and measures its lesions."""
    native = Postprocessor(SPEC)
    candidates: dict[str, Callable[[], Any]] = {
        "read once": lambda: logits.max(),
        "native": lambda: native.segment_logits(logits).mask,
        "tuned chain": lambda: tuned_chain(logits),
    }
    return candidates | ({"scipy": lambda: scipy_chain(logits)} if with_scipy else {})


def tuned_chain(logits: Floats) -> Mask:
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
    keep = cc3d.statistics(labels)["voxel_counts"] >= SPEC.min_lesion_voxels
    keep[0] = False
    return np.asarray(keep[labels], np.uint8)


def scipy_chain(logits: Floats) -> Mask:
    """The same with scipy.ndimage."""
    mask = logits > SPEC.threshold_logit
    cross = ndimage.generate_binary_structure(2, 1)
    for index, image in enumerate(mask):
        opened = ndimage.binary_dilation(ndimage.binary_erosion(image, cross, border_value=1), cross)
        closed = ndimage.binary_erosion(ndimage.binary_dilation(opened, cross), cross, border_value=1)
        mask[index] = ndimage.binary_fill_holes(closed)
    labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
    keep = np.bincount(labels.ravel(), minlength=count + 1) >= SPEC.min_lesion_voxels
    keep[0] = False
    kept = np.asarray(keep[labels], np.uint8)
    ndimage.center_of_mass(kept, labels, np.flatnonzero(keep))
    ndimage.find_objects(labels)
    return kept


if __name__ == "__main__":
    run(command, "postprocess")
