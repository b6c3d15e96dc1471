"""Borders as polygons and masks as run lengths, held against what they were made of."""

from __future__ import annotations

import json
import pickle

import cv2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import ndimage

from tumortrace_runtime.contours import mask_contours
from tumortrace_runtime.errors import InputError
from tumortrace_runtime.postprocess import Postprocessing
from tumortrace_runtime.postprocessor import Postprocessor, Segmentation


@st.composite
def masks(draw: st.DrawFn, axes: int = 2) -> np.ndarray:
    """Noise, smooth or not, sparse or dense, around words of 64 columns."""
    columns = draw(st.one_of(st.integers(1, 12), st.sampled_from([63, 64, 65, 129])))
    shape = (*(draw(st.integers(1, 12)) for _ in range(axes - 1)), columns)
    noise = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).standard_normal(shape)
    smooth = ndimage.gaussian_filter(noise, draw(st.sampled_from([0.0, 0.7])))
    return (smooth >= np.quantile(smooth, draw(st.sampled_from([0.0, 0.1, 0.5, 0.9])))).astype(np.uint8)


def filled(polygons: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """What polygons of upright and level edges enclose by the even-odd rule."""
    crossed = np.zeros((shape[0], shape[1] + 1), np.uint8)
    for corners in polygons:
        for (start, column), (stop, other) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            assert (start == stop) != (column == other)
            if column == other:
                crossed[min(start, stop) : max(start, stop), column] ^= 1
    return np.bitwise_xor.accumulate(crossed, axis=1)[:, :-1]


def area(corners: np.ndarray) -> float:
    """Positive where the polygon runs clockwise, rows pointing down."""
    (rows, columns), (next_rows, next_columns) = corners.T, np.roll(corners, -1, axis=0).T
    return float((columns * next_rows - next_columns * rows).sum()) / 2


def drawn_slowly(mask: np.ndarray, joined: bool) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The parts of a mask with their holes filled, and the holes with the parts in them."""
    corners, edges = np.ones((3, 3)), None
    parts, count = ndimage.label(mask, corners if joined else edges)
    outside = np.pad(mask == 0, 1, constant_values=True)
    gaps, gap_count = ndimage.label(outside, edges if joined else corners)
    solid, holes = [], []
    for gap in {*range(1, gap_count + 1)} - {gaps[0, 0]}:
        around, _ = ndimage.label(gaps != gap, corners if joined else edges)
        holes.append((around != around[0, 0])[1:-1, 1:-1])
    for part in range(1, count + 1):
        around, _ = ndimage.label(np.pad(parts != part, 1, constant_values=True), edges if joined else corners)
        solid.append((around != around[0, 0])[1:-1, 1:-1])
    return solid, holes


def as_set(images: list[np.ndarray]) -> set[bytes]:
    return {np.ascontiguousarray(image, np.uint8).tobytes() for image in images}


@given(masks())
@example(np.array([[1, 0], [0, 1]], np.uint8))
@example(np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.uint8))
@example(np.pad(np.pad(np.pad(np.ones((1, 1), np.uint8), 1), 1, constant_values=1), 1))
def test_every_part_and_every_hole_has_one_border(mask):
    contours = mask_contours(mask)

    around = [corners for corners in contours if area(corners) > 0]
    holes = [corners for corners in contours if area(corners) < 0]
    assert len(around) + len(holes) == len(contours)
    solid, gaps = drawn_slowly(mask, joined=True)
    assert len(around) == len(solid)
    assert as_set([filled([corners], mask.shape) for corners in around]) == as_set(solid)
    assert len(holes) == len(gaps)
    assert as_set([filled([corners], mask.shape) for corners in holes]) == as_set(gaps)
    assert sum(map(area, contours)) == mask.sum()
    np.testing.assert_array_equal(filled(contours, mask.shape), mask)


@given(masks())
def test_there_are_as_many_borders_as_opencv_finds(mask):
    found, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)

    assert len(mask_contours(mask)) == len(found)


@given(masks(axes=3), st.sampled_from([6, 18, 26]), st.sampled_from([0, 4]))
def test_contours_of_a_scan_are_those_of_its_lesions(mask, connectivity, least):
    found = segment(mask, Postprocessing(min_lesion_voxels=least, connectivity=connectivity))

    labels = ndimage.label(found.mask, ndimage.generate_binary_structure(3, {6: 1, 18: 2, 26: 3}[connectivity]))[0]
    for index, image in enumerate(found.mask):
        contours = found.contours(index)
        np.testing.assert_array_equal(filled([each.corners for each in contours], image.shape), image)
        for lesion in found.lesions:
            mine = [each for each in contours if each.label == lesion.label]
            one = filled([each.corners for each in mine], image.shape)
            (low, *_), (high, *_) = lesion.bounding_box
            assert bool(mine) <= (low <= index < high)
            assert len(np.unique(labels[index][one > 0])) <= 1
            solid, holes = drawn_slowly(one, joined=connectivity != 6)
            assert sum(not each.hole for each in mine) == len(solid)
            assert sum(each.hole for each in mine) == len(holes)
            assert all((area(each.corners) < 0) == each.hole for each in mine)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
def test_whatever_is_not_zero_is_lesion(dtype):
    mask = np.zeros((4, 5), dtype)
    mask[1:3, 2:4] = -3 if np.dtype(dtype).kind in "if" else 1

    (corners,) = mask_contours(mask[:, ::-1])

    assert corners.dtype == np.int32
    assert corners.tolist() == [[1, 1], [1, 3], [3, 3], [3, 1]]


def test_nothing_has_no_borders():
    assert mask_contours(np.zeros((4, 5), np.uint8)) == []
    assert segment(np.zeros((2, 4, 5), np.uint8)).contours(1) == []


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4), (0, 4), (4, 0), (1, 65536)])
def test_what_is_no_slice_is_refused(shape):
    with pytest.raises(InputError, match=r"\(rows, columns\) wanted|1 to 65535 of each"):
        mask_contours(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("index", [-1, 2])
def test_a_slice_that_is_not_there_is_refused(index):
    with pytest.raises(InputError, match=rf"-1 given|no slice {index}; the scan has 2"):
        segment(np.zeros((2, 4, 5), np.uint8)).contours(index)


@given(masks(axes=3), st.sampled_from([0, 4]))
@example(np.zeros((2, 3, 4), np.uint8), 0)
@example(np.ones((2, 3, 4), np.uint8), 0)
def test_run_lengths_give_the_mask_again(mask, least):
    found = segment(mask, Postprocessing(min_lesion_voxels=least))

    lengths = np.array(json.loads(json.dumps(found.run_lengths().tolist())))

    assert lengths.sum() == mask.size
    assert (lengths[1:] > 0).all()
    again = np.repeat(np.arange(len(lengths)) % 2, lengths).reshape(mask.shape)
    np.testing.assert_array_equal(again, found.mask)


def test_what_was_found_stays_when_the_next_scan_is_segmented():
    postprocessor = Postprocessor(Postprocessing())
    first = postprocessor.segment_mask(np.ones((2, 3, 4), np.uint8))

    postprocessor.segment_mask(np.zeros((5, 6, 7), np.uint8))
    del postprocessor

    assert first.run_lengths().tolist() == [0, 24]
    assert first.contours(1)[0].corners.tolist() == [[0, 0], [0, 4], [3, 4], [3, 0]]


@given(masks(axes=3))
def test_a_segmentation_goes_to_another_process_and_back(mask):
    found = segment(mask)

    again = pickle.loads(pickle.dumps(found))

    np.testing.assert_array_equal(again.mask, found.mask)
    assert again.lesions == found.lesions
    assert again.run_lengths().tolist() == found.run_lengths().tolist()
    assert [told(again, index) for index in range(len(mask))] == [told(found, index) for index in range(len(mask))]


def told(found: Segmentation, index: int) -> list[tuple]:
    return [(each.label, each.hole, each.corners.tolist()) for each in found.contours(index)]


def segment(mask: np.ndarray, spec: Postprocessing | None = None) -> Segmentation:
    return Postprocessor(spec or Postprocessing()).segment_mask(mask)
