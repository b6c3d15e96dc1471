"""Measures per case: worked examples, the rules for empty masks, and properties that must always hold."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tumortrace_runtime.errors import InputError
from tumortrace_runtime.metrics import (
    LesionMatch,
    Overlap,
    count_overlap,
    dice,
    match_lesions,
    measure_case,
    measure_surfaces,
    scan_diagonal,
)

SHAPES = hnp.array_shapes(min_dims=3, max_dims=3, max_side=6)
PAIRS = SHAPES.flatmap(lambda shape: st.tuples(*[hnp.arrays(np.uint8, shape, elements=st.integers(0, 1))] * 2))
SPACINGS = st.tuples(*[st.floats(0.3, 8.0)] * 3)


def cube(start, size, shape=(12, 20, 20)):
    mask = np.zeros(shape, np.uint8)
    mask[tuple(slice(low, low + length) for low, length in zip(start, size, strict=True))] = 1
    return mask


def test_the_measures_of_a_worked_example():
    case = measure_case("a", cube((2, 2, 2), (4, 5, 6)), cube((2, 2, 4), (4, 5, 8)), spacing_mm=(2.0, 1.0, 0.5))

    assert (case.predicted_voxels, case.truth_voxels) == (120, 160)
    assert case.dice == pytest.approx(2 * 80 / 280)
    assert case.jaccard == pytest.approx(80 / 200)
    assert case.precision == pytest.approx(80 / 120)
    assert case.sensitivity == pytest.approx(80 / 160)
    assert case.specificity == pytest.approx((4800 - 200) / (4800 - 160))
    assert case.accuracy == pytest.approx((4800 - 120) / 4800)
    assert case.volume_error == pytest.approx(-0.04)
    assert (case.distance_unit, case.volume_unit) == ("mm", "ml")


def test_without_spacing_distances_are_in_px_and_volumes_in_voxels():
    case = measure_case("a", cube((2, 2, 2), (4, 5, 6)), cube((2, 2, 4), (4, 5, 8)))

    assert case.volume_error == -40
    assert (case.distance_unit, case.volume_unit) == ("px", "voxels")


@pytest.mark.parametrize(("axis", "distance"), [(0, 10.0), (1, 2.0), (2, 1.0)])
def test_hd95_of_a_moved_box_is_the_move_in_the_scans_spacing(axis, distance):
    moved = np.add((2, 2, 2), np.eye(3, dtype=int)[axis] * 2)

    hd95, _ = measure_surfaces(cube(moved, (4, 12, 12)), cube((2, 2, 2), (4, 12, 12)), (5.0, 1.0, 0.5), 1.0)

    assert hd95 == pytest.approx(distance)


def test_surface_dice_weighs_surfaces_by_area():
    # Slices so thick that top and bottom are nothing beside the walls: of 4 and 6 slices of wall, 4 are shared, and of
    # the longer wall half a slice more, since a surface point stands for half a slice to both sides.
    short, long = cube((2, 4, 4), (4, 12, 12)), cube((2, 4, 4), (6, 12, 12))

    assert measure_surfaces(short, long, (1000.0, 1.0, 1.0), 1.0)[1] == pytest.approx(8.5 / 10, abs=0.005)
    assert measure_surfaces(short, long, (1000.0, 1.0, 1.0), 2001.0)[1] == 1.0


def test_an_overlap_within_the_tolerance_is_perfect():
    truth, prediction = cube((2, 2, 2), (4, 8, 8)), cube((2, 2, 3), (4, 8, 8))

    assert measure_surfaces(prediction, truth, (1.0, 1.0, 1.0), 1.0)[1] == 1.0
    assert measure_surfaces(prediction, truth, (1.0, 1.0, 1.0), 0.5)[1] < 1.0


@pytest.mark.parametrize("touched", [(0, 0, 0), (8, 10, 8)])
def test_surfaces_at_the_edge_of_the_scan_count(touched):
    mask = cube(touched, (4, 10, 12))
    inner = cube(np.clip(touched, 2, (6, 8, 6)), (4, 10, 12))

    assert measure_surfaces(mask, inner, (1.0, 1.0, 1.0), 0.5)[0] >= 2.0


def test_both_empty_is_right():
    empty = np.zeros((3, 4, 5), np.uint8)
    case = measure_case("a", empty, empty)

    assert (case.dice, case.jaccard, case.precision, case.surface_dice, case.hd95) == (1, 1, 1, 1, 0)
    assert case.sensitivity is None
    assert (case.specificity, case.accuracy, case.volume_error) == (1, 1, 0)


@pytest.mark.parametrize("spacing_mm", [None, (5.0, 0.9, 0.9)])
def test_a_miss_costs_the_diagonal_of_the_scan(spacing_mm):
    truth, empty = cube((2, 2, 2), (1, 1, 1)), np.zeros((12, 20, 20), np.uint8)
    case = measure_case("a", empty, truth, spacing_mm)

    steps = spacing_mm or (1.0, 1.0, 1.0)
    diagonal = math.sqrt((12 * steps[0]) ** 2 + (20 * steps[1]) ** 2 + (20 * steps[2]) ** 2)
    assert (case.dice, case.jaccard, case.precision, case.surface_dice, case.sensitivity) == (0, 0, 0, 0, 0)
    assert case.hd95 == pytest.approx(diagonal)


def test_a_false_alarm_costs_the_diagonal_and_has_no_sensitivity():
    case = measure_case("a", cube((2, 2, 2), (1, 1, 1)), np.zeros((12, 20, 20), np.uint8))

    assert (case.dice, case.jaccard, case.precision, case.surface_dice) == (0, 0, 0, 0)
    assert case.sensitivity is None
    assert case.hd95 == pytest.approx(scan_diagonal((12, 20, 20), (1, 1, 1)))


def test_a_truth_that_fills_the_scan_has_no_specificity():
    assert Overlap(8, 0, 0, 0).specificity is None


def test_a_lesion_is_found_where_any_voxel_of_it_is_covered():
    truth = cube((1, 1, 1), (3, 4, 4)) | cube((1, 12, 12), (3, 4, 4)) | cube((9, 2, 2), (1, 1, 1))
    prediction = cube((3, 4, 4), (2, 3, 3)) | cube((9, 12, 12), (2, 2, 2)) | cube((6, 17, 1), (1, 1, 1))

    assert match_lesions(prediction, truth * 255) == LesionMatch(3, 1, 2)
    assert match_lesions(prediction, truth).sensitivity == pytest.approx(1 / 3)


def test_a_prediction_that_joins_lesions_finds_each_of_them():
    truth = cube((1, 2, 2), (2, 4, 4)) | cube((1, 2, 10), (2, 4, 4))

    assert match_lesions(cube((1, 3, 3), (1, 1, 9)), truth) == LesionMatch(2, 2, 0)
    assert match_lesions(truth, cube((1, 3, 3), (1, 1, 9))) == LesionMatch(1, 1, 0)


@pytest.mark.parametrize(("connectivity", "lesions"), [(6, 3), (18, 2), (26, 1)])
def test_which_voxels_are_one_lesion_is_the_connectivity(connectivity, lesions):
    truth = cube((1, 1, 1), (1, 1, 1)) | cube((1, 2, 2), (1, 1, 1)) | cube((2, 3, 3), (1, 1, 1))

    assert match_lesions(truth, truth, connectivity) == LesionMatch(lesions, lesions, 0)


def test_a_scan_without_lesions_has_no_lesion_sensitivity():
    empty = np.zeros((3, 4, 5), bool)
    healthy = measure_case("a", np.eye(3)[:, :, None] > 0, np.zeros((3, 3, 1)))

    assert match_lesions(empty, empty) == LesionMatch(0, 0, 0)
    assert (healthy.lesion_sensitivity, healthy.false_positive_lesions, healthy.truth_lesions) == (None, 1, 0)


@given(pair=PAIRS)
def test_lesions_agree_with_voxels(pair):
    prediction, truth = pair
    match, overlap = match_lesions(prediction, truth), count_overlap(prediction, truth)
    swapped = match_lesions(truth, prediction)

    assert 0 <= match.found_lesions <= match.truth_lesions <= overlap.truth_voxels
    assert 0 <= match.false_positive_lesions <= min(overlap.false_positives, swapped.truth_lesions)
    assert (match.found_lesions > 0) == (overlap.true_positives > 0)
    assert match.false_positive_lesions == swapped.truth_lesions - swapped.found_lesions


@given(pair=PAIRS)
def test_overlap_measures_agree_with_each_other(pair):
    overlap = count_overlap(*pair)

    assert overlap.jaccard == pytest.approx(overlap.dice / (2 - overlap.dice))
    assert dice(*pair) == dice(*reversed(pair)) == overlap.dice
    for measure in (overlap.dice, overlap.jaccard, overlap.precision, overlap.accuracy):
        assert 0 <= measure <= 1
    if overlap.sensitivity and overlap.precision:
        harmonic = 2 / (1 / overlap.sensitivity + 1 / overlap.precision)
        assert overlap.dice == pytest.approx(harmonic)


@given(pair=PAIRS, spacing=SPACINGS, tolerance=st.floats(0.1, 10.0))
def test_surface_measures_are_symmetric_and_bounded(pair, spacing, tolerance):
    hd95, surface_dice = measure_surfaces(*pair, spacing, tolerance)

    assert (hd95, surface_dice) == pytest.approx(measure_surfaces(*reversed(pair), spacing, tolerance))
    assert 0 <= hd95 <= scan_diagonal(pair[0].shape, spacing) * (1 + 1e-9)
    assert 0 <= surface_dice <= 1


@given(pair=PAIRS, spacing=SPACINGS)
def test_a_mask_matches_itself(pair, spacing):
    case = measure_case("a", pair[0], pair[0] * 255, spacing)

    assert (case.dice, case.jaccard, case.precision, case.accuracy, case.surface_dice) == (1, 1, 1, 1, 1)
    assert (case.hd95, case.volume_error) == (0, 0)
    assert case.sensitivity in (1, None)


def test_masks_on_different_grids_are_refused():
    for measure in (count_overlap, match_lesions):
        with pytest.raises(InputError, match=r"prediction \(2, 3, 4\), truth \(2, 3, 5\)"):
            measure(np.zeros((2, 3, 4)), np.zeros((2, 3, 5)))


def test_a_single_slice_without_its_axis_is_refused():
    with pytest.raises(InputError, match=r"case 7: mask of shape \(3, 4\)"):
        measure_case("case 7", np.zeros((3, 4)), np.zeros((3, 4)))
