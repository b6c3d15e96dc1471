from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tumortrace.dataset import SliceSampler, TrainingCase, prepare_case
from tumortrace.index import load_index, open_case
from tumortrace_runtime.errors import ScanError
from tumortrace_runtime.io.scan import Scan
from tumortrace_runtime.preprocess import Preprocessing, network_batch, preprocess

SPEC = Preprocessing(channels=("t1", "flair", "t1ce"), context=1, grid_px=(80, 96))


@pytest.fixture(scope="module")
def scans(tiny_data: Path) -> list[Scan]:
    index = load_index(tiny_data / "index.json")
    return [open_case(index, case.case_id) for case in index.cases]


@pytest.fixture(scope="module")
def cases(scans: list[Scan]) -> list[TrainingCase]:
    return [prepare_case(scan, SPEC) for scan in scans]


def test_a_case_is_what_preprocessing_makes_of_it(scans: list[Scan], cases: list[TrainingCase]) -> None:
    for scan, case in zip(scans, cases, strict=True):
        assert case.case_id == scan.case_id
        expected = preprocess(scan.select(SPEC.channels), SPEC)
        np.testing.assert_array_equal(case.prepared.planes, expected.planes)
        np.testing.assert_array_equal(case.truth, scan.truth)


def test_the_truth_comes_onto_the_grid_with_the_scan(cases: list[TrainingCase]) -> None:
    for case in cases:
        assert case.grid_truth.shape == (len(case.truth), 80, 96)
        assert case.grid_truth.dtype == np.uint8
        np.testing.assert_array_equal(case.grid_truth[:, 8:72, 16:80], case.truth)
        assert case.grid_truth.sum() == case.truth.sum()


def test_channels_come_in_the_order_of_the_specification(scans: list[Scan]) -> None:
    turned = prepare_case(scans[0], replace(SPEC, channels=("t1ce", "flair", "t1"))).prepared.planes
    np.testing.assert_array_equal(turned[:, ::-1], prepare_case(scans[0], SPEC).prepared.planes)


def test_every_class_but_0_is_tumour(scans: list[Scan]) -> None:
    scan = scans[0]
    assert scan.truth is not None
    case = prepare_case(replace(scan, truth=scan.truth * 3), SPEC)
    np.testing.assert_array_equal(case.truth, scan.truth)


def test_a_case_without_a_mask_is_refused(scans: list[Scan]) -> None:
    with pytest.raises(ScanError, match="has no mask; training and validation need one"):
        prepare_case(replace(scans[0], truth=None), SPEC)


def test_a_missing_channel_is_refused(scans: list[Scan]) -> None:
    with pytest.raises(ScanError, match="t2"):
        prepare_case(scans[0], replace(SPEC, channels=("flair", "t2")))


def test_a_case_that_cannot_be_prepared_is_named(scans: list[Scan]) -> None:
    black = replace(scans[0], voxels=np.zeros_like(scans[0].voxels))
    with pytest.raises(ScanError, match=scans[0].case_id):
        prepare_case(black, SPEC)


def test_a_batch_is_what_the_network_sees_of_a_slice(cases: list[TrainingCase]) -> None:
    sampler = SliceSampler(cases[:1], context=1, tumour_share=0)
    inputs, truth = sampler.batch(32, np.random.default_rng(0))
    assert inputs.shape == (32, 3, 3, 80, 96)
    assert truth.shape == (32, 1, 80, 96)

    case, drawn = cases[0], set()
    for image, mask in zip(inputs.flatten(1, 2).numpy(), truth[:, 0].numpy(), strict=True):
        (found,) = (
            number
            for number in range(len(case.truth))
            if np.array_equal(image, network_batch(case.prepared.planes, number, number + 1, 1)[0])
        )
        np.testing.assert_array_equal(mask, case.grid_truth[found])
        drawn.add(found)
    assert {0, len(case.truth) - 1} <= drawn  # the ends, where neighbours are repeated


def test_draws_repeat_with_the_generator(cases: list[TrainingCase]) -> None:
    sampler = SliceSampler(cases, context=1, tumour_share=0.5)
    first, again, other = (sampler.batch(8, np.random.default_rng(seed))[0] for seed in (3, 3, 4))
    assert first.equal(again)
    assert not first.equal(other)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_share_of_the_slices_shows_tumour(share: float, cases: list[TrainingCase]) -> None:
    free = [case for case in cases if not case.truth.any()]
    ill = [case for case in cases if case.truth.any()]
    assert free
    sampler = SliceSampler([*free, *ill], context=0, tumour_share=share)
    _, truth = sampler.batch(200, np.random.default_rng(0))

    shown = float(truth.flatten(1).any(1).float().mean())
    evenly = np.mean([case.grid_truth.any(axis=(1, 2)).mean() for case in cases])
    assert shown == pytest.approx(share + (1 - share) * evenly, abs=0.1)


def test_cases_are_drawn_evenly_however_many_slices_they_have(cases: list[TrainingCase]) -> None:
    short, long = cases[0], cases[1]
    one = replace(
        short, grid_truth=short.grid_truth[:1], prepared=replace(short.prepared, planes=short.prepared.planes[:1])
    )
    inputs, _ = SliceSampler([one, long], context=0, tumour_share=0).batch(300, np.random.default_rng(0))
    same = (inputs[:, 0].numpy() == one.prepared.planes[0]).all(axis=(1, 2, 3))
    assert same.mean() == pytest.approx(0.5, abs=0.1)


def test_without_any_tumour_slices_are_drawn_all_the_same(cases: list[TrainingCase]) -> None:
    free = [case for case in cases if not case.truth.any()]
    _, truth = SliceSampler(free, context=1, tumour_share=1).batch(4, np.random.default_rng(0))
    assert not truth.any()
