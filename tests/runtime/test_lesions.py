"""Lesions of a mask: which there are, how large, where, and in what order."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tumortrace_runtime.errors import InputError
from tumortrace_runtime.lesions import label_lesions
from tumortrace_runtime.postprocess import Postprocessing
from tumortrace_runtime.postprocessor import Postprocessor

MASKS = hnp.arrays(
    np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=7), elements=st.sampled_from([0, 1, 255])
)


def measure_lesions(mask, spacing_mm=None, connectivity=26):
    return Postprocessor(Postprocessing(connectivity=connectivity)).segment_mask(mask, spacing_mm).lesions


def two_lesions():
    mask = np.zeros((4, 10, 12), np.uint8)
    mask[0, 1:3, 1:3] = 1
    mask[2:4, 5:8, 4:10] = 1
    return mask


def test_lesions_are_measured_and_ordered_by_size():
    large, small = measure_lesions(two_lesions(), spacing_mm=(5.0, 0.5, 2.0))

    assert (large.label, large.voxels, large.volume_ml) == (1, 36, pytest.approx(0.18))
    assert large.centroid == (2.5, 6.0, 6.5)
    assert large.bounding_box == ((2, 5, 4), (4, 8, 10))
    assert (small.label, small.voxels, small.volume_ml) == (2, 4, pytest.approx(0.02))
    assert small.bounding_box == ((0, 1, 1), (1, 3, 3))


def test_without_spacing_nothing_is_told_in_millimetres():
    for lesion in measure_lesions(two_lesions()):
        assert lesion.volume_ml is lesion.diameters.longest_mm is lesion.diameters.perpendicular_mm is None


def test_equal_lesions_stand_in_the_order_of_their_first_voxels():
    mask = np.zeros((3, 5, 5), np.uint8)
    mask[2, 0, 0] = mask[0, 4, 0] = mask[0, 0, 4] = 1

    assert [lesion.centroid for lesion in measure_lesions(mask)] == [(0, 0, 4), (0, 4, 0), (2, 0, 0)]


@pytest.mark.parametrize(("connectivity", "count"), [(6, 3), (18, 2), (26, 1)])
def test_connectivity_decides_what_belongs_together(connectivity, count):
    mask = np.zeros((3, 3, 3), np.uint8)
    mask[0, 0, 0] = mask[0, 1, 1] = mask[1, 2, 2] = 1

    assert len(measure_lesions(mask, connectivity=connectivity)) == count


def test_an_empty_mask_has_no_lesions():
    assert measure_lesions(np.zeros((2, 3, 4), np.uint8)) == []


def test_a_lesion_as_json():
    lesion = measure_lesions(two_lesions(), spacing_mm=(1.0, 1.0, 1.0))[1]

    assert json.loads(json.dumps(lesion.to_dict())) == {
        "label": 2,
        "voxels": 4,
        "volume_ml": 0.004,
        "centroid": [0.0, 1.5, 1.5],
        "bounding_box": [[0, 1, 1], [1, 3, 3]],
        "diameters": {
            "slice": 0,
            "longest_mm": pytest.approx(5**0.5),
            "perpendicular_mm": pytest.approx(5**0.5),
            "longest_ends": [[0.5, 1.0], [2.5, 2.0]],
            "perpendicular_ends": [[2.0, 0.5], [1.0, 2.5]],
        },
        "confidence": None,
        "highest_confidence": None,
    }


@given(mask=MASKS)
def test_every_voxel_belongs_to_one_lesion_inside_its_box(mask):
    lesions = measure_lesions(mask)

    assert sum(lesion.voxels for lesion in lesions) == np.count_nonzero(mask)
    assert [lesion.label for lesion in lesions] == list(range(1, len(lesions) + 1))
    assert sorted((lesion.voxels for lesion in lesions), reverse=True) == [lesion.voxels for lesion in lesions]
    for lesion in lesions:
        low, high = lesion.bounding_box
        assert all(a <= centre <= b - 1 for a, centre, b in zip(low, lesion.centroid, high, strict=True))
        assert lesion.voxels <= np.prod(np.subtract(high, low))


@given(mask=MASKS, connectivity=st.sampled_from([6, 18, 26]), dtype=st.sampled_from([np.uint8, bool, np.float64]))
def test_labels_are_those_of_the_lesions(mask, connectivity, dtype):
    labels = label_lesions(np.asfortranarray(mask.astype(dtype)), connectivity)

    np.testing.assert_array_equal(labels > 0, mask > 0)
    for lesion in measure_lesions(mask, connectivity=connectivity):
        np.testing.assert_allclose(np.argwhere(labels == lesion.label).mean(axis=0), lesion.centroid)
        assert np.count_nonzero(labels == lesion.label) == lesion.voxels


@pytest.mark.parametrize(("shape", "message"), [((3, 4), "3, 4"), ((0, 3, 4), "1 to 65535 of each")])
def test_what_is_no_mask_of_a_scan_is_refused(shape, message):
    with pytest.raises(InputError, match=message):
        label_lesions(np.zeros(shape, np.uint8))
