from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from tumortrace.commands.split import command
from tumortrace.index import CaseRecord, Index, save_index
from tumortrace.split import PARTS, Parts, Split, load_split, make_split, save_split
from tumortrace_runtime.errors import DatasetError, SpecError


def record(case_id: str, patient_id: str, site: str = "CS", tumour_voxels: int = 100) -> CaseRecord:
    return CaseRecord(
        case_id=case_id,
        patient_id=patient_id,
        site=site,
        layout="lgg",
        folder=case_id,
        channels=("t1", "flair", "t1ce"),
        replaced=(),
        shape=(20, 256, 256),
        spacing_mm=None,
        tumour_voxels=tumour_voxels,
        images=(),
        truth=(),
    )


def make_index(*patients: tuple[str, int, int]) -> Index:
    """An index of patients given as (site, tumour voxels, number of cases)."""
    cases = [
        record(f"case_{number:03d}_{visit}", f"patient_{number:03d}", site, voxels)
        for number, (site, voxels, visits) in enumerate(patients)
        for visit in range(visits)
    ]
    return Index(Path("data"), None, tuple(cases))


def lgg_like() -> Index:
    sites = "DU" * 32 + "HT" * 24 + "CS" * 11 + "FG" * 10 + "EZ"
    return make_index(*((sites[2 * i : 2 * i + 2], (37 * i) % 1000 + 1, 1) for i in range(78)))


INDEXES = st.lists(
    st.tuples(st.sampled_from(["CS", "DU", "HT", ""]), st.integers(0, 5) | st.integers(0, 10**6), st.integers(1, 3)),
    min_size=5,
    max_size=60,
).map(lambda patients: make_index(*patients))


def patients_of(index: Index, cases: tuple[str, ...]) -> set[str]:
    return {index.case(case_id).patient_id for case_id in cases}


def all_parts(split: Split) -> tuple[Parts, ...]:
    return (split.fixed, *split.folds)


@given(index=INDEXES, seed=st.integers(0, 2**40), folds=st.integers(2, 5))
@settings(max_examples=60, deadline=None)
def test_parts_hold_each_case_once_and_no_patient_twice(index: Index, seed: int, folds: int) -> None:
    split = make_split(index, seed=seed, folds=folds)
    assert len(split.folds) == folds
    for parts in all_parts(split):
        cases = [case_id for name in PARTS for case_id in getattr(parts, name)]
        assert sorted(cases) == sorted(case.case_id for case in index.cases)
        patients = [patients_of(index, getattr(parts, name)) for name in PARTS]
        assert all(patients)
        assert sum(map(len, patients)) == len(set().union(*patients))


@given(index=INDEXES, folds=st.integers(2, 5))
@settings(max_examples=40, deadline=None)
def test_folds_test_each_case_once_in_parts_of_equal_size(index: Index, folds: int) -> None:
    split = make_split(index, folds=folds)
    tested = [case_id for parts in split.folds for case_id in parts.test]
    assert sorted(tested) == sorted(case.case_id for case in index.cases)
    sizes = [len(patients_of(index, parts.test)) for parts in split.folds]
    assert max(sizes) - min(sizes) <= 1


@given(
    index=INDEXES,
    weights=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)),
)
@settings(max_examples=60, deadline=None)
def test_parts_have_the_fractions_asked_for(index: Index, weights: tuple[int, int, int]) -> None:
    train, val, test = (weight / sum(weights) for weight in weights)
    split = make_split(index, fractions=(train, val, test))
    total = len({case.patient_id for case in index.cases})
    for name, fraction in zip(PARTS, (train, val, test), strict=True):
        assert abs(len(patients_of(index, getattr(split.fixed, name))) - fraction * total) <= 2


@given(index=INDEXES, seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_a_split_depends_on_index_and_seed_alone(index: Index, seed: int) -> None:
    shuffled = replace(index, root=Path("elsewhere"), cases=index.cases[::-1])
    first, second = make_split(index, seed=seed), make_split(shuffled, seed=seed)
    assert (first.fixed, first.folds) == (second.fixed, second.folds)


def test_a_split_is_the_same_on_every_machine_and_in_every_version() -> None:
    chosen = [1, 17, 18, 39, 46, 55, 59, 71]
    assert make_split(lgg_like(), seed=7).fixed.val == tuple(f"case_{number:03d}_0" for number in chosen)


def test_another_seed_gives_another_split() -> None:
    splits = [make_split(lgg_like(), seed=seed).fixed.test for seed in range(8)]
    assert len(set(splits)) == 8


def test_78_patients_give_54_8_16() -> None:
    fixed = make_split(lgg_like()).fixed
    assert [len(getattr(fixed, name)) for name in PARTS] == [54, 8, 16]


@pytest.mark.parametrize("seed", range(10))
def test_each_part_has_its_share_of_sites_sizes_and_tumour_free_patients(seed: int) -> None:
    patients = [(site, voxels, 1) for site in ("CS", "DU") for voxels in (*range(1, 31), *[0] * 10)]
    index = make_index(*patients)
    split = make_split(index, seed=seed)
    for parts in all_parts(split):
        for name in PARTS:
            cases = [index.case(case_id) for case_id in getattr(parts, name)]
            share = len(cases) / len(index.cases)
            sites = Counter(case.site for case in cases)
            assert abs(sites["CS"] - 40 * share) <= 1.5
            assert abs(sum(case.tumour_free for case in cases) - 20 * share) <= 2.5
            assert abs(sum(case.tumour_voxels > 20 for case in cases) - 20 * share) <= 2.5


@pytest.mark.parametrize("seed", range(4))
def test_folds_validate_on_different_patients(seed: int) -> None:
    folds = make_split(lgg_like(), seed=seed).folds
    assert len(set().union(*(parts.val for parts in folds))) > 0.8 * sum(len(parts.val) for parts in folds)


def test_cases_of_one_patient_stay_together() -> None:
    index = make_index(*[("CS", 10 * i, 2) for i in range(20)])
    for parts in all_parts(make_split(index)):
        for name in PARTS:
            assert set(Counter(case[:8] for case in getattr(parts, name)).values()) == {2}


@pytest.mark.parametrize(("patients", "folds", "needed"), [(4, 5, 5), (2, 3, 3), (3, 2, 4), (0, 5, 5)])
def test_too_few_patients_are_refused_with_how_many_are_needed(patients: int, folds: int, needed: int) -> None:
    with pytest.raises(DatasetError, match=rf"has {patients} patient\(s\); at least {needed} are needed"):
        make_split(make_index(*[("CS", 1, 2)] * patients), folds=folds)
    make_split(make_index(*[("CS", 1, 2)] * needed), folds=folds)


@pytest.mark.parametrize("fractions", [(0.7, 0.2, 0.2), (1.0, 0.0, 0.0), (0.5, 0.6, -0.1)])
def test_fractions_that_are_no_shares_are_refused(fractions: tuple[float, float, float]) -> None:
    with pytest.raises(SpecError, match="three above 0 with the sum 1"):
        make_split(lgg_like(), fractions=fractions)


def test_a_single_fold_is_refused() -> None:
    with pytest.raises(SpecError, match="at least 2"):
        make_split(lgg_like(), folds=1)


def test_parts_are_given_by_name_and_fold() -> None:
    split = make_split(lgg_like(), folds=3)
    assert split.part("test") == list(split.fixed.test)
    assert split.part("val", fold=0) == list(split.folds[0].val)
    assert split.part("train", fold=2) == sorted(split.folds[2].train)
    with pytest.raises(SpecError, match="no part 'validation'; choose one of train, val, test"):
        split.part("validation")
    for fold in (3, -1):
        with pytest.raises(SpecError, match="folds 0 to 2"):
            split.part("val", fold=fold)


def test_a_split_reads_back_the_same(tmp_path: Path) -> None:
    index = lgg_like()
    split = make_split(index, seed=3)
    save_split(split, tmp_path / "split.json")
    again = load_split(tmp_path / "split.json", index)
    assert again == split
    assert again.sha256 == split.sha256


def test_a_split_of_another_index_is_refused(tmp_path: Path) -> None:
    index = lgg_like()
    save_split(make_split(index), tmp_path / "split.json")
    with pytest.raises(DatasetError, match="use the index it was made from"):
        load_split(tmp_path / "split.json", replace(index, cases=index.cases[1:]))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda value: value["fixed"]["train"].append(value["fixed"]["test"][0]), "does not match its hash"),
        (lambda value: value.update(seed=1), "does not match its hash"),
        (lambda value: value.update(sha256="0" * 64), "does not match its hash"),
        (lambda value: value.pop("sha256"), "is not a whole split"),
        (lambda value: value.update(version=9), "of version 9; version 1 is wanted"),
        (lambda value: value.update(format="tumortrace-index"), "is not a tumortrace-split file"),
    ],
)
def test_an_altered_split_is_refused(tmp_path: Path, change: Callable[[dict[str, Any]], object], reason: str) -> None:
    index, path = lgg_like(), tmp_path / "split.json"
    save_split(make_split(index), path)
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
    with pytest.raises(DatasetError) as caught:
        load_split(path, index)
    assert str(caught.value).startswith(f"{path}: ")
    assert reason in str(caught.value)


def test_a_patient_in_two_parts_is_refused_though_the_hash_holds(tmp_path: Path) -> None:
    index = make_index(*[("CS", 10 * i, 2) for i in range(20)])
    split = make_split(index)
    moved = split.fixed.test[0]
    leaking = replace(split.fixed, train=(*split.fixed.train, moved), test=split.fixed.test[1:])
    save_split(replace(split, fixed=leaking), tmp_path / "split.json")
    with pytest.raises(DatasetError, match=rf"the fixed split has patient {index.case(moved).patient_id} in both"):
        load_split(tmp_path / "split.json", index)


def test_an_overlap_in_a_fold_is_refused_though_the_hash_holds(tmp_path: Path) -> None:
    index = lgg_like()
    split = make_split(index)
    first, *others = split.folds
    leaking = replace(first, val=(*first.val, first.test[0]))
    save_split(replace(split, folds=(leaking, *others)), tmp_path / "split.json")
    with pytest.raises(DatasetError, match="fold 0 has patient"):
        load_split(tmp_path / "split.json", index)


def test_a_patient_that_two_folds_test_is_refused_though_the_hash_holds(tmp_path: Path) -> None:
    index = make_index(*[("CS", 10 * i, 2) for i in range(20)])
    split = make_split(index)
    first, second, *others = split.folds
    twice = first.test[0]
    patient = index.case(twice).patient_id
    others_train = tuple(case for case in second.train if index.case(case).patient_id != patient)
    others_val = tuple(case for case in second.val if index.case(case).patient_id != patient)
    leaking = Parts(others_train, others_val, (*second.test, twice))
    folds = (first, leaking, *others)
    save_split(replace(split, folds=folds), tmp_path / "split.json")
    with pytest.raises(DatasetError, match=f"folds 0 and 1 both test patient {patient}"):
        load_split(tmp_path / "split.json", index)


def test_a_case_that_no_fold_tests_is_refused_though_the_hash_holds(tmp_path: Path) -> None:
    index = lgg_like()
    split = make_split(index)
    first, *others = split.folds
    short = replace(first, train=(*first.train, first.test[0]), test=first.test[1:])
    save_split(replace(split, folds=(short, *others)), tmp_path / "split.json")
    with pytest.raises(DatasetError, match=f"no fold tests {first.test[0]}"):
        load_split(tmp_path / "split.json", index)


def test_a_case_that_the_index_does_not_have_is_refused(tmp_path: Path) -> None:
    index = lgg_like()
    split = make_split(index)
    save_split(replace(split, fixed=replace(split.fixed, val=("stranger",))), tmp_path / "split.json")
    with pytest.raises(DatasetError, match="has case stranger in val, which is not in the index"):
        load_split(tmp_path / "split.json", index)


def test_the_command_writes_the_split_and_prints_its_sizes(tmp_path: Path) -> None:
    index = lgg_like()
    save_index(index, tmp_path / "index.json")
    arguments = [str(tmp_path / "index.json"), "-o", str(tmp_path / "split.json"), "--seed", "3", "--folds", "4"]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0
    assert load_split(tmp_path / "split.json", index) == make_split(index, seed=3, folds=4)
    assert "fixed          54      8     16" in result.stdout
    assert "fold 3" in result.stdout
    as_json = json.loads(CliRunner().invoke(command, [*arguments, "--json"]).stdout)
    assert as_json["fixed"] == {"train": 54, "val": 8, "test": 16}
    assert len(as_json["folds"]) == 4
