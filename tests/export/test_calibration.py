from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumortrace.dataset import TrainingCase
from tumortrace.index import CaseRecord, Index
from tumortrace_export.calibration import CASES, SLICES_PER_CASE, calibration_batches, choose_cases
from tumortrace_runtime.errors import DatasetError
from tumortrace_runtime.preprocess import network_batch


def record(case_id: str, site: str = "A", tumour_voxels: int = 100, replaced: tuple[str, ...] = ()) -> CaseRecord:
    return CaseRecord(
        case_id=case_id,
        patient_id=f"patient of {case_id}",
        site=site,
        layout="lgg",
        folder=case_id,
        channels=("t1", "flair", "t1ce"),
        replaced=replaced,
        shape=(20, 64, 64),
        spacing_mm=None,
        tumour_voxels=tumour_voxels,
        images=(),
        truth=(),
    )


def index_of(cases: list[CaseRecord]) -> Index:
    return Index(Path("data"), None, tuple(sorted(cases, key=lambda case: case.case_id)))


def choose(cases: list[CaseRecord]) -> list[CaseRecord]:
    index = index_of(cases)
    return [index.case(name) for name in choose_cases(index, [case.case_id for case in cases], [])]


@st.composite
def data_sets(draw: st.DrawFn, most_sites: int = 25) -> list[CaseRecord]:
    """Data sets of up to 60 cases, one of them at least with tumour."""
    one = st.tuples(
        st.integers(1, most_sites).map(str),
        st.integers(0, 3).flatmap(lambda power: st.integers(0, 10**power * 40)),
        st.sampled_from([(), (), (), ("t1ce",), ("t1", "t1ce")]),
    )
    cases = draw(st.lists(one, min_size=1, max_size=60))
    records = [record(f"case_{number:02d}", *traits) for number, traits in enumerate(cases)]
    return [*records, record("case_99")]


@given(data_sets())
def test_as_many_training_cases_as_fit_calibrate_each_once(cases: list[CaseRecord]) -> None:
    chosen = [case.case_id for case in choose(cases)]
    assert len(chosen) == min(len(cases), CASES)
    assert chosen == sorted(set(chosen))
    assert set(chosen) <= {case.case_id for case in cases}


@given(data_sets())
def test_every_site_is_there_before_one_is_there_twice(cases: list[CaseRecord]) -> None:
    chosen = {case.site for case in choose(cases)}
    assert len(chosen) == min(len({case.site for case in cases}), CASES)


def test_a_site_comes_before_another_kind_of_case() -> None:
    plain = [record(f"plain_{number:02d}", site=f"{number:02d}") for number in range(CASES - 1)]
    varied = [record("none", "varied", 0), record("one", "varied", replaced=("t1",)), record("large", "varied", 999)]
    assert len({case.site for case in choose([*plain, *varied])}) == CASES


def test_a_rare_kind_of_case_is_there_although_its_size_is_common() -> None:
    common = [record(f"common_{number:02d}", tumour_voxels=2**number) for number in range(40)]
    rare = [record("rare", tumour_voxels=2**20, replaced=("t1ce",)), record("healthy", tumour_voxels=0)]
    assert {case.case_id for case in choose([*common, *rare])} >= {"rare", "healthy", "common_39"}


@given(data_sets(most_sites=7))
def test_every_kind_of_case_is_there_where_there_is_room(cases: list[CaseRecord]) -> None:
    chosen = choose(cases)
    assert {case.replaced for case in chosen} == {case.replaced for case in cases}
    assert {case.tumour_free for case in chosen} == {case.tumour_free for case in cases}


@given(data_sets(most_sites=7))
def test_every_third_of_the_tumour_sizes_is_there_and_the_largest(cases: list[CaseRecord]) -> None:
    with_tumour = [case for case in cases if not case.tumour_free]
    ranked = sorted(with_tumour, key=lambda case: (case.tumour_voxels, case.case_id))
    ranks = [ranked.index(case) for case in choose(cases) if not case.tumour_free]
    assert {3 * rank // len(ranked) for rank in ranks} == {3 * rank // len(ranked) for rank in range(len(ranked))}
    assert ranked[max(ranks)].tumour_voxels == ranked[-1].tumour_voxels


@given(data_sets())
def test_tumour_is_there_however_many_sites_have_none(cases: list[CaseRecord]) -> None:
    assert any(not case.tumour_free for case in choose(cases))


@given(data_sets(), st.data())
def test_the_order_in_which_cases_are_given_does_not_matter(cases: list[CaseRecord], data: st.DataObject) -> None:
    names = [case.case_id for case in cases]
    shuffled = data.draw(st.permutations(names))
    assert choose_cases(index_of(cases), shuffled, []) == choose_cases(index_of(cases), names, [])


def test_what_room_is_left_is_shared_by_the_sites_and_goes_to_sizes_in_between() -> None:
    many = [record(f"many_{number:03d}", "many", 2**number) for number in range(60)]
    few = [record(f"few_{number}", "few", 2**number) for number in range(8)]
    chosen = choose([*many, *few])

    assert sum(case.site == "few" for case in chosen) == CASES // 2
    powers = sorted(int(np.log2(case.tumour_voxels)) for case in chosen if case.site == "many")
    assert powers[-1] == 59
    assert max(np.diff(powers)) < 2 * 60 / (CASES // 2)


@given(data_sets(), st.data())
def test_a_case_that_scores_does_not_calibrate(cases: list[CaseRecord], data: st.DataObject) -> None:
    names = [case.case_id for case in cases]
    scoring = data.draw(st.sets(st.sampled_from(names), min_size=1))
    with pytest.raises(DatasetError, match=f"{min(scoring)} would both calibrate and score"):
        choose_cases(index_of(cases), names, sorted(scoring))


def test_a_patient_who_scores_does_not_calibrate() -> None:
    early, late = record("early"), replace(record("late"), patient_id=record("early").patient_id)
    wanted = r"patient of early would both calibrate \(early\) and score \(late\); split by patient"
    with pytest.raises(DatasetError, match=wanted):
        choose_cases(index_of([early, late, record("other")]), ["early", "other"], ["late"])


def test_without_training_cases_nothing_is_calibrated() -> None:
    with pytest.raises(DatasetError, match="no training case to calibrate on"):
        choose_cases(index_of([record("val")]), [], ["val"])


def test_without_tumour_nothing_is_calibrated() -> None:
    healthy = [record(f"healthy_{number}", tumour_voxels=0) for number in range(3)]
    with pytest.raises(DatasetError, match="none of 3 training cases shows tumour"):
        choose_cases(index_of([*healthy, record("val")]), [case.case_id for case in healthy], ["val"])


def test_a_case_that_the_index_does_not_have_is_refused() -> None:
    with pytest.raises(DatasetError, match="other: is not in the index"):
        choose_cases(index_of([record("case")]), ["case", "other"], [])


def test_half_of_a_cases_slices_show_tumour(prepared: Callable[[str], list[TrainingCase]]) -> None:
    case = lengthened(next(case for case in prepared("train") if case.truth.any()))
    batches = list(calibration_batches([case], context=1))
    drawn = [place_of(batch, case) for batch in batches]

    assert len(set(drawn)) == SLICES_PER_CASE
    assert sum(case.grid_truth[number].any() for number in drawn) == SLICES_PER_CASE // 2
    with_tumour = np.flatnonzero(case.grid_truth.any(axis=(1, 2)))
    assert {with_tumour[0], with_tumour[-1]} <= set(drawn)


def test_a_case_without_tumour_gives_the_other_half(prepared: Callable[[str], list[TrainingCase]]) -> None:
    case = lengthened(prepared("train")[0])
    free = replace(case, grid_truth=np.zeros_like(case.grid_truth))
    assert len(list(calibration_batches([free], context=0))) == SLICES_PER_CASE // 2


def test_a_short_case_gives_all_that_it_has(prepared: Callable[[str], list[TrainingCase]]) -> None:
    case = prepared("train")[0]
    short = replace(
        case, grid_truth=case.grid_truth[:2], prepared=replace(case.prepared, planes=case.prepared.planes[:2])
    )
    batches = list(calibration_batches([short, short], context=2))
    assert [batch.shape for batch in batches] == [(1, 15, 64, 64)] * 4


def lengthened(case: TrainingCase) -> TrainingCase:
    """The case and, below and above it, itself with no tumour."""
    planes = case.prepared.planes
    noise = np.random.default_rng(0).standard_normal((2, *planes.shape)).astype(np.float32)
    return replace(
        case,
        prepared=replace(case.prepared, planes=np.concatenate([noise[0], planes, noise[1]])),
        grid_truth=np.concatenate([np.zeros_like(case.grid_truth), case.grid_truth, np.zeros_like(case.grid_truth)]),
    )


def place_of(batch: np.ndarray, case: TrainingCase) -> int:
    (found,) = (
        number
        for number in range(len(case.grid_truth))
        if np.array_equal(batch, network_batch(case.prepared.planes, number, number + 1, 1))
    )
    return found
