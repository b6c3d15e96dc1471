"""Phantom cases: what is promised of every one of them, and of any run of numbers."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from tumortrace.phantom import Phantom, generate_case, generate_phantom
from tumortrace.phantom.generate import has_tumour, replace_with_flair, replaced_channel
from tumortrace_runtime.errors import SpecError
from tumortrace_runtime.oracle import oracle_threshold_dice

SIZE_PX = 64
SEED = 7
NUMBERS = range(1, 13)


@cache
def phantom(number: int, size_px: int = SIZE_PX) -> Phantom:
    return generate_phantom(SEED, number, size_px=size_px)


def with_lesions() -> list[Phantom]:
    return [phantom(number) for number in NUMBERS if has_tumour(number)]


def test_the_same_arguments_give_the_same_case_whatever_was_made_before() -> None:
    first = phantom(3).scan
    generate_case(SEED, 2, size_px=SIZE_PX)
    again = generate_case(SEED, 3, size_px=SIZE_PX)
    assert again.case_id == first.case_id
    assert again.geometry == first.geometry
    np.testing.assert_array_equal(again.voxels, first.voxels)
    np.testing.assert_array_equal(again.truth, first.truth)


@pytest.mark.parametrize(("seed", "number"), [(SEED + 1, 3), (SEED, 6)])
def test_another_seed_or_number_gives_another_person(seed: int, number: int) -> None:
    first, other = phantom(3).scan.voxels, generate_case(seed, number, size_px=SIZE_PX).voxels
    assert first.shape != other.shape or np.mean(first != other) > 0.5


def test_every_case_holds_three_sequences_in_eight_bits() -> None:
    for number in NUMBERS:
        scan = phantom(number).scan
        assert scan.channels == ("t1", "flair", "t1ce")
        assert scan.voxels.dtype == np.uint8
        assert scan.voxels.shape[1:] == (SIZE_PX, SIZE_PX, 3)
        assert 20 <= len(scan.voxels) <= 60
        assert scan.truth is not None
        assert scan.truth.dtype == np.uint8
        assert scan.truth.shape == scan.voxels.shape[:3]
        assert set(np.unique(scan.truth)) <= {0, 1}


def test_sites_differ_and_each_case_names_its_own() -> None:
    scans = [phantom(number).scan for number in NUMBERS]
    spacings = {scan.files.site: set() for scan in scans}
    for scan in scans:
        assert scan.case_id == f"{scan.files.patient_id}_S{SEED}"
        assert scan.files.patient_id.startswith(f"TCGA_{scan.files.site}_")
        assert scan.geometry.spacing_mm is not None
        spacings[scan.files.site].add(scan.geometry.spacing_mm[0])
    assert len(spacings) == 3
    assert all(len(values) == 4 for values in spacings.values())
    assert max(spacings["PB"]) < min(spacings["PA"])


def test_one_case_in_any_eight_has_no_tumour() -> None:
    free = [not has_tumour(number) for number in range(1, 65)]
    assert all(sum(free[start : start + 8]) == 1 for start in range(len(free) - 7))
    for number in NUMBERS:
        truth = phantom(number).scan.truth
        assert truth is not None
        assert truth.any() == bool(phantom(number).lesions) == has_tumour(number)


def test_some_cases_have_several_lesions_and_most_have_one() -> None:
    counts = [len(each.lesions) for each in with_lesions()]
    assert max(counts) > 1
    assert counts.count(1) > len(counts) / 2


def test_lesions_account_for_every_voxel_of_the_truth() -> None:
    for each in with_lesions():
        truth = each.scan.truth
        assert truth is not None
        assert sum(lesion.voxels for lesion in each.lesions) == truth.sum()
        weighted = sum(lesion.voxels * np.array(lesion.centroid_px) for lesion in each.lesions)
        np.testing.assert_allclose(weighted / truth.sum(), np.argwhere(truth).mean(axis=0))


def test_lesions_lie_within_the_head() -> None:
    for each in with_lesions():
        truth, flair = each.scan.truth, each.scan.voxels[..., 1]
        assert truth is not None
        head = flair > 4 * flair[-1].mean()
        for axis in (1, 2):
            inside = np.nonzero(truth.any(axis=(0, axis)))[0]
            around = np.nonzero(head.any(axis=(0, axis)))[0]
            assert around.min() + 3 < inside.min() <= inside.max() < around.max() - 3


def test_lesions_are_brighter_than_the_other_side_on_flair_and_darker_on_t1() -> None:
    ratios = []
    for each in with_lesions():
        truth = each.scan.truth
        assert truth is not None
        other_side = (truth[..., ::-1] > 0) & (truth == 0)
        lesion, healthy = (np.median(each.scan.voxels[where], axis=0) for where in (truth > 0, other_side))
        ratios.append(lesion / healthy)
    t1, flair, _ = np.transpose(ratios)
    assert flair.min() > 1.2
    assert np.median(t1) < 0.9
    assert t1.max() < 1.1  # shading may make up for a lesion's darkness, no more


def test_contrast_agent_brightens_the_rim_of_enhancing_lesions_only() -> None:
    gains = []
    for each in with_lesions():
        truth = each.scan.truth
        assert truth is not None
        t1, t1ce = (each.scan.voxels[..., i][truth > 0].astype(float) for i in (0, 2))
        gain = np.percentile(t1ce, 97) / np.median(t1ce) - np.percentile(t1, 97) / np.median(t1)
        gains.append((max(lesion.enhancing for lesion in each.lesions), gain))
    strong = [gain for enhancing, gain in gains if enhancing > 0.5]
    none = [gain for enhancing, gain in gains if enhancing < 0.2]
    assert np.mean(strong) > np.mean(none) + 0.1


def test_background_is_noise_and_the_first_slice_above_the_head_is_empty() -> None:
    levels = []
    for number in NUMBERS:
        voxels = phantom(number).scan.voxels
        corner = voxels[:, :6, :6]
        assert corner.reshape(-1, 3).std(axis=0).min() > 0
        assert corner.mean() < 8
        assert voxels[-1].max() < 16
        levels.append(corner.mean())
    assert np.ptp(levels) > 0.5


def test_size_changes_the_grid_but_not_the_person() -> None:
    small, large = phantom(3), phantom(3, 96)
    assert len(small.scan.voxels) == len(large.scan.voxels)
    assert len(small.lesions) == len(large.lesions)
    for one, other in zip(small.lesions, large.lesions, strict=True):
        np.testing.assert_allclose(np.array(other.centroid_px)[1:] / 96, np.array(one.centroid_px)[1:] / 64, atol=0.02)
        assert other.voxels == pytest.approx(one.voxels * (96 / 64) ** 2, rel=0.2)


def test_no_threshold_on_any_channel_comes_near() -> None:
    best = []
    for each in with_lesions():
        scan = each.scan
        assert scan.truth is not None
        best.append(max(oracle_threshold_dice(scan.voxels[..., i], scan.truth) for i in range(3)))
    assert np.mean(best) < 0.6


def test_one_case_in_ten_lacks_a_sequence_and_each_of_two_takes_its_turn() -> None:
    lacking = [replaced_channel(number) for number in range(1, 41)]
    assert [channel for channel in lacking if channel] == ["t1ce", "t1", "t1ce", "t1"]
    assert all(has_tumour(number) for number, channel in enumerate(lacking, start=1) if channel)


def test_a_replaced_sequence_is_an_exact_copy_of_flair() -> None:
    scan = phantom(3).scan
    copied = replace_with_flair(scan, "t1ce")
    assert copied.replaced == ("t1ce",)
    np.testing.assert_array_equal(copied.voxels[..., 2], scan.voxels[..., 1])
    np.testing.assert_array_equal(copied.voxels[..., :2], scan.voxels[..., :2])
    assert scan.replaced == ()
    assert (scan.voxels[..., 2] != scan.voxels[..., 1]).any()


@pytest.mark.parametrize(("seed", "number", "size_px"), [(-1, 1, 64), (0, 0, 64), (0, 1, 16)])
def test_refuses_numbers_out_of_range(seed: int, number: int, size_px: int) -> None:
    with pytest.raises(SpecError, match=r"given; \d+ or more wanted"):
        generate_phantom(seed, number, size_px=size_px)
