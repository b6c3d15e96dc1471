"""The native post-processing against OpenCV and cc3d, against golden arrays, and on input that it refuses."""

from __future__ import annotations

import itertools
import json
import math
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial import ConvexHull

from tumortrace_runtime import _native
from tumortrace_runtime.confidence import probabilities
from tumortrace_runtime.errors import InputError
from tumortrace_runtime.postprocess import Postprocessing
from tumortrace_runtime.postprocessor import Postprocessor
from tumortrace_runtime.settings import from_dict

from .reference import basics, clean_mask, measure_lesions, segment_logits

GOLDEN = Path(__file__).parents[1] / "golden" / "postprocess.npz"

SPECS = st.builds(
    Postprocessing,
    threshold=st.floats(0.05, 0.95),
    opening_px=st.sampled_from([0, 0, 1, 2, 3, 5]),
    closing_px=st.sampled_from([0, 0, 1, 2, 3, 70]),
    fill_holes=st.booleans(),
    min_lesion_voxels=st.sampled_from([0, 0, 2, 5, 40]),
    connectivity=st.sampled_from([6, 18, 26]),
)


@st.composite
def scans(draw: st.DrawFn, dtype: type[np.floating] = np.float32) -> np.ndarray:
    """Logits, smooth or not, sparse or dense, around words of 64 columns and rows of the vector registers."""
    columns = draw(st.one_of(st.integers(1, 70), st.sampled_from([63, 64, 65, 127, 128, 129, 192, 240])))
    shape = (draw(st.integers(1, 4)), draw(st.integers(1, 24)), columns)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    noise = rng.standard_normal(shape)
    smooth = ndimage.gaussian_filter(noise, draw(st.sampled_from([0.0, 0.7, 2.0])))
    share = draw(st.sampled_from([0.01, 0.1, 0.4, 0.6, 0.9, 0.99]))
    logits = (smooth - np.quantile(smooth, 1 - share)) * draw(st.sampled_from([1.0, 5.0]))
    logits[rng.random(shape[0]) < draw(st.sampled_from([0.0, 0.5]))] = -9
    return logits.astype(dtype)


@given(scans(), SPECS)
def test_masks_and_lesions_are_those_of_the_reference(logits, spec):
    spacing_mm = (3.0, 0.5, 0.75)
    mask = segment_logits(logits, spec)

    found = Postprocessor(spec).segment_logits(logits, spacing_mm)

    np.testing.assert_array_equal(found.mask, mask)
    assert found.mask.dtype == np.uint8
    assert basics(found.lesions) == measure_lesions(mask, spacing_mm, spec.connectivity)


@given(st.lists(st.tuples(scans(), st.booleans()), min_size=2, max_size=4), SPECS)
def test_one_scan_leaves_nothing_behind_for_the_next(turns, spec):
    postprocessor = Postprocessor(spec)
    for logits, damaged in turns:
        if damaged:
            with pytest.raises(InputError):
                postprocessor.segment_logits(np.full_like(logits, np.nan))
        found = postprocessor.segment_logits(logits)
        np.testing.assert_array_equal(found.mask, segment_logits(logits, spec))


@given(scans(np.float16), SPECS)
def test_halves_are_compared_as_floats(logits, spec):
    found = Postprocessor(spec).segment_logits(logits, temperature=1.7)

    wanted = Postprocessor(spec).segment_logits(logits.astype(np.float32), temperature=1.7)
    np.testing.assert_array_equal(found.mask, wanted.mask)
    assert found.lesions == wanted.lesions


@pytest.mark.parametrize("threshold", [0.0, -0.0, 1e-9, -1e-9, 0.5, 65504.0, 65519.0, 1e6, -1e6, np.inf, -np.inf])
def test_every_half_is_compared_with_a_threshold(threshold):
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    halves = halves[~np.isnan(halves)].reshape(1, 10, -1)

    mask, *_ = _native.Postprocessor(threshold_logit=threshold).segment_logits(halves)

    np.testing.assert_array_equal(mask, halves.astype(np.float32) > np.float32(threshold))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@given(
    scale=st.floats(1e-3, 10),
    zero_point=st.integers(0, 127),
    threshold=st.floats(-50, 50, width=32),
    connectivity=st.sampled_from([6, 26]),
)
def test_quantised_logits_are_compared_as_what_they_stand_for(dtype, scale, zero_point, threshold, connectivity):
    limits = np.iinfo(dtype)
    integers = np.random.default_rng(3).integers(limits.min, limits.max, (2, 9, 71), dtype=dtype, endpoint=True)
    core = _native.Postprocessor(threshold_logit=threshold, connectivity=connectivity)

    mask, labels, lesions, _ = core.segment_quantised(integers, scale, zero_point, temperature=2.0, labels=True)

    logits = (integers.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)
    again, labels_again, lesions_again, _ = core.segment_logits(logits, temperature=2.0, labels=True)
    np.testing.assert_array_equal(mask, logits > np.float32(threshold))
    np.testing.assert_array_equal(mask, again)
    np.testing.assert_array_equal(labels, labels_again)
    assert [each.confidence for each in lesions] == [each.confidence for each in lesions_again]


@given(scans(), st.integers(2, 4), st.integers(0, 99))
def test_of_several_classes_the_greatest_logit_decides(logits, classes, seed):
    rng = np.random.default_rng(seed)
    several = rng.integers(-2, 3, (len(logits), classes, *logits.shape[1:])).astype(np.float32)

    mask, *_ = _native.Postprocessor(threshold_logit=0.0).segment_classes(several)

    np.testing.assert_array_equal(mask, several.argmax(axis=1) > 0)


@given(scans(), SPECS, st.sampled_from([1, 2, 255]))
def test_a_mask_is_cleaned_and_measured_as_well(logits, spec, value):
    mask = (logits > 0).astype(np.uint8)

    found = Postprocessor(spec).segment_mask(mask * np.uint8(value))

    np.testing.assert_array_equal(found.mask, clean_mask(mask, spec))
    assert basics(found.lesions) == measure_lesions(found.mask, connectivity=spec.connectivity)


@given(scans(), SPECS)
def test_labels_tell_lesions_apart(logits, spec):
    core = _native.Postprocessor(threshold_logit=0.0, connectivity=spec.connectivity)

    mask, labels, lesions, _ = core.segment_logits(logits, labels=True)

    np.testing.assert_array_equal(labels > 0, mask)
    assert np.bincount(labels.ravel(), minlength=len(lesions) + 1)[1:].tolist() == [each.voxels for each in lesions]
    for lesion, box in zip(lesions, ndimage.find_objects(labels), strict=True):
        assert lesion.low == tuple(each.start for each in box)
        assert lesion.high == tuple(each.stop for each in box)


@given(scans(), st.floats(0.5, 3))
def test_confidence_is_the_mean_and_the_greatest_probability(logits, temperature):
    mask, labels, lesions, _ = _native.Postprocessor(threshold_logit=0.0, opening_px=1, closing_px=2).segment_logits(
        logits, temperature=temperature, labels=True
    )

    probability = probabilities(logits, temperature)
    for label, lesion in enumerate(lesions, start=1):
        assert lesion.confidence == pytest.approx(probability[labels == label].mean(dtype=np.float64), abs=1e-6)
        assert lesion.highest_confidence == pytest.approx(probability[labels == label].max(), abs=1e-6)
    assert mask.any() == bool(lesions)


@pytest.mark.parametrize("logit", [-np.inf, -1e30, -100, -20, -1, 0, 1, 20, 100, 1e30, np.inf])
def test_the_probability_of_every_logit(logit):
    core = _native.Postprocessor(threshold_logit=0.0, closing_px=1)

    # Closing takes the voxel in the middle in, whatever its logit.
    _, _, (lesion,), _ = core.segment_logits(np.array([[[1, logit, 1]]], np.float32), temperature=1.0)

    wanted = (1 / (1 + math.exp(-max(min(logit, 700), -700))) + 2 / (1 + math.exp(-1))) / 3
    assert lesion.voxels == 3
    assert lesion.confidence == pytest.approx(wanted, abs=2e-7)


def outlines_of(image, connectivity):
    """Of every connected part of a (rows, columns) selection, the middles of its pixels' edges."""
    parts, count = ndimage.label(image, np.ones((3, 3)) if connectivity == 26 else None)
    steps = np.array([(0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5)])
    return [(np.argwhere(parts == part)[:, None] + steps).reshape(-1, 2) for part in range(1, count + 1)]


def chord_across(points, ends):
    """The longest chord of the points' convex hull at right angles to the line between two ends."""
    corners = points[ConvexHull(points).vertices]
    along = (ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0])
    across = np.array([-along[1], along[0]])
    best = 0.0
    for level in corners @ along:
        places = []
        for start, stop in itertools.pairwise([*corners, corners[0]]):
            low, high = start @ along - level, stop @ along - level
            if abs(low) < 1e-12:
                places.append(start @ across)
            if low * high < 0:
                places.append((start + (stop - start) * low / (low - high)) @ across)
        best = max(best, max(places) - min(places))
    return best


@given(scans(), st.sampled_from([6, 26]), st.sampled_from([(1.0, 1.0), (0.5, 2.0)]))
def test_diameters_are_the_longest_of_every_part(logits, connectivity, pixel_mm):
    core = _native.Postprocessor(threshold_logit=1.0, connectivity=connectivity)

    _, labels, lesions, _ = core.segment_logits(logits, labels=True, pixel_mm=pixel_mm)

    for label, lesion in list(enumerate(lesions, start=1))[:3]:
        longest = 0.0
        for image in labels == label:
            for each in outlines_of(image, connectivity):
                points = (each * pixel_mm)[ConvexHull(each).vertices]
                longest = max(longest, np.linalg.norm(points[:, None] - points, axis=-1).max())
        found = lesion.diameters
        ends, across = np.array(found.ends) * pixel_mm, np.array(found.perpendicular_ends) * pixel_mm
        outlines = outlines_of(labels[found.slice] == label, connectivity)
        (points,) = (each for each in outlines if {*found.ends} <= {*map(tuple, each.tolist())})
        assert found.longest_mm == pytest.approx(longest)
        assert np.linalg.norm(ends[1] - ends[0]) == pytest.approx(longest)
        assert found.perpendicular_mm == pytest.approx(chord_across(points * pixel_mm, ends))
        assert np.linalg.norm(across[1] - across[0]) == pytest.approx(found.perpendicular_mm)
        assert (across[1] - across[0]) @ (ends[1] - ends[0]) == pytest.approx(0, abs=1e-9)


def test_the_diameters_of_a_rectangle():
    logits = np.full((3, 20, 20), -1, np.float32)
    logits[1, 4:7, 5:15] = 1

    (lesion,) = Postprocessor(Postprocessing()).segment_logits(logits, (5.0, 1.0, 1.0)).lesions
    found = lesion.diameters

    assert found.slice == 1
    assert found.longest_mm == pytest.approx(math.hypot(10, 2))
    assert found.perpendicular_mm < 3.1


def test_golden_arrays():
    golden = np.load(GOLDEN)
    for index, values in enumerate(json.loads(str(golden["specs"]))):
        found = Postprocessor(from_dict(Postprocessing, values)).segment_logits(golden["logits"])
        np.testing.assert_array_equal(found.mask, golden[f"mask_{index}"], err_msg=str(values))


def test_logits_in_any_memory_order_give_the_same_mask():
    logits = np.random.default_rng(3).standard_normal((3, 5, 7)).astype(np.float32)
    postprocessor = Postprocessor(Postprocessing())

    found = postprocessor.segment_logits(np.asfortranarray(logits))

    np.testing.assert_array_equal(found.mask, postprocessor.segment_logits(logits).mask)


def test_a_result_stays_when_the_next_scan_is_segmented():
    postprocessor = Postprocessor(Postprocessing())
    first = postprocessor.segment_logits(np.ones((2, 3, 4), np.float32))
    before = [lesion.to_dict() for lesion in first.lesions]

    postprocessor.segment_logits(-np.ones((5, 6, 7), np.float32))
    del postprocessor

    assert first.mask.all()
    assert [lesion.to_dict() for lesion in first.lesions] == before
    assert first.contours(0) and first.run_lengths().tolist() == [0, 24]


def test_threads_wait_for_each_other():
    scans_of = [np.random.default_rng(seed).standard_normal((9, 40, 40)).astype(np.float32) for seed in range(4)]
    spec = Postprocessing(closing_px=1, fill_holes=True, min_lesion_voxels=3)
    postprocessor, wanted = Postprocessor(spec), [segment_logits(logits, spec) for logits in scans_of]
    wrong = []

    def segment(number):
        for _ in range(20):
            if not np.array_equal(postprocessor.segment_logits(scans_of[number]).mask, wanted[number]):
                wrong.append(number)

    threads = [threading.Thread(target=segment, args=(number,)) for number in range(len(scans_of))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("place", [(0, 0, 0), (1, 2, 3), (2, 6, 64), (2, 6, 76)])
def test_nan_logits_are_refused(dtype, place):
    logits = np.zeros((3, 7, 77), dtype)
    logits[place] = np.nan

    with pytest.raises(InputError, match="1 values are NaN"):
        Postprocessor(Postprocessing()).segment_logits(logits)
    with pytest.raises(ValueError, match="1 values are NaN"):
        _native.Postprocessor(threshold_logit=0.0).segment_classes(
            np.stack([np.zeros_like(logits), logits], axis=1).astype(np.float32)
        )


@pytest.mark.parametrize("logits", [np.zeros((2, 2), np.float32), np.zeros((2, 2, 2), np.float64)])
def test_logits_of_another_shape_or_dtype_are_refused(logits):
    with pytest.raises(InputError, match=r"float32 or float16 \(slices, rows, columns\) wanted"):
        Postprocessor(Postprocessing()).segment_logits(logits)


@pytest.mark.parametrize("shape", [(0, 4, 4), (4, 0, 4), (4, 4, 0), (0, 2**40, 2**20), (1, 1, 65536)])
def test_extents_that_cannot_be_are_refused(shape):
    with pytest.raises(InputError, match="1 to 65535 of each"):
        Postprocessor(Postprocessing()).segment_logits(np.zeros(shape, np.float32))
    with pytest.raises(InputError, match="1 to 65535 of each"):
        Postprocessor(Postprocessing()).segment_mask(np.zeros(shape, np.uint8))


def test_the_widest_row_is_segmented():
    logits = np.full((1, 2, 65535), -1, np.float32)
    logits[0, :, -1] = logits[0, 1, 3:65000] = 1

    found = Postprocessor(Postprocessing()).segment_logits(logits)

    assert [(lesion.voxels, lesion.bounding_box[1]) for lesion in found.lesions] == [
        (64997, (1, 2, 65000)),
        (2, (1, 2, 65535)),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold_logit": math.nan}, "threshold_logit is NaN"),
        ({"connectivity": 8}, "connectivity is 8; 6, 18 or 26 wanted"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        _native.Postprocessor(**({"threshold_logit": 0.0} | change))


@pytest.mark.parametrize("change", [{"temperature": 0.0}, {"temperature": math.inf}, {"pixel_mm": (1.0, -1.0)}])
def test_a_measurement_that_cannot_be_is_refused(change):
    with pytest.raises(ValueError, match="positive, finite"):
        _native.Postprocessor(threshold_logit=0.0).segment_logits(np.zeros((1, 1, 1), np.float32), **change)


@pytest.mark.parametrize(
    ("scale", "zero_point", "message"), [(0.0, 0, "scale"), (math.nan, 0, "scale"), (1.0, 128, "zero_point is 128")]
)
def test_a_quantisation_that_cannot_be_is_refused(scale, zero_point, message):
    with pytest.raises(ValueError, match=message):
        _native.Postprocessor(threshold_logit=0.0).segment_quantised(np.zeros((1, 1, 1), np.int8), scale, zero_point)


def test_classes_without_another_are_refused():
    with pytest.raises(ValueError, match="1 classes; 2 or more wanted"):
        _native.Postprocessor(threshold_logit=0.0).segment_classes(np.zeros((1, 1, 2, 2), np.float32))


@pytest.mark.parametrize(
    "logits",
    [np.zeros((2, 2, 4), np.float32)[..., ::2], np.broadcast_to(np.float32(0), (2, 9, 9)), np.zeros((2, 2, 2))],
    ids=["strided", "overlapping", "float64"],
)
def test_no_logits_are_converted_behind_the_callers_back(logits):
    with pytest.raises(TypeError):
        _native.Postprocessor(threshold_logit=0.0).segment_logits(logits)
