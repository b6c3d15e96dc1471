from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumortrace.index import CaseRecord, Index
from tumortrace.strata import SIZES, assign_strata, summarise_strata
from tumortrace_runtime.errors import DatasetError


def record(case_id: str, voxels: int, site: str = "CS", replaced: tuple[str, ...] = ()) -> CaseRecord:
    channels = ("t1", "flair", "t1ce")
    return CaseRecord(case_id, case_id, site, "lgg", case_id, channels, replaced, (20, 64, 64), None, voxels, (), ())


def index_of(*cases: CaseRecord) -> Index:
    return Index(Path("data"), None, cases)


def test_cases_are_grouped_by_site_size_and_missing_sequence() -> None:
    index = index_of(
        record("a", 300, "DU"),
        record("b", 100, "CS", replaced=("t1ce",)),
        record("c", 200, "", replaced=("t1", "t1ce")),
        record("d", 0, "CS"),
    )
    strata = assign_strata("abcd", index)

    assert strata.groups == {
        "site": {"CS": ("b", "d"), "DU": ("a",), "unknown": ("c",)},
        "tumour_size": {"none": ("d",), "small": ("b",), "medium": ("c",), "large": ("a",)},
        "missing_sequence": {"none": ("a", "d"), "t1+t1ce": ("c",), "t1ce": ("b",)},
    }
    assert [list(group) for group in strata.groups.values()] == [
        ["CS", "DU", "unknown"],
        ["none", "small", "medium", "large"],
        ["none", "t1+t1ce", "t1ce"],
    ]
    assert strata.size_limits_voxels == (100, 200)


def test_a_case_has_one_size_in_every_part() -> None:
    index = index_of(*(record(f"case {number}", 10 * number) for number in range(1, 10)))

    assert assign_strata(["case 3", "case 4", "case 7"], index).groups["tumour_size"] == {
        "small": ("case 3",),
        "medium": ("case 4",),
        "large": ("case 7",),
    }


def test_an_index_without_tumours_has_no_sizes() -> None:
    assert assign_strata("a", index_of(record("a", 0))).groups["tumour_size"] == {"none": ("a",)}


@given(voxels=st.lists(st.integers(0, 40), min_size=1, max_size=30))
def test_every_case_has_one_size_and_larger_tumours_are_never_in_a_smaller_one(voxels: list[int]) -> None:
    index = index_of(*(record(str(number), size) for number, size in enumerate(voxels)))
    group = assign_strata(map(str, range(len(voxels))), index).groups["tumour_size"]
    size_of = {case: SIZES.index(label) for label, cases in group.items() for case in cases}

    assert sum(map(len, group.values())) == len(size_of) == len(voxels)
    ranked = sorted(index.cases, key=lambda case: case.tumour_voxels)
    sizes = [size_of[case.case_id] for case in ranked]
    assert sizes == sorted(sizes)
    assert len({(case.tumour_voxels, size_of[case.case_id]) for case in ranked}) == len(set(voxels))


def test_thirds_of_different_tumours_are_equal() -> None:
    index = index_of(*(record(f"{number:02d}", number) for number in range(1, 79)))
    group = assign_strata((case.case_id for case in index.cases), index).groups["tumour_size"]

    assert {label: len(cases) for label, cases in group.items()} == {"small": 26, "medium": 26, "large": 26}


def test_a_summary_for_each_stratum() -> None:
    index = index_of(record("a", 1, "CS"), record("b", 2, "CS"), record("c", 3, "DU"))
    site = summarise_strata({"a": 0.5, "b": 0.7, "c": 0.9}, assign_strata("abc", index))["site"]

    assert (site["CS"]["mean"], site["CS"]["cases"]) == (pytest.approx(0.6), 2)
    assert site["CS"]["mean_interval"] == (0.5, 0.7)
    assert (site["DU"]["mean"], site["DU"]["mean_interval"], site["DU"]["cases"]) == (0.9, None, 1)


def test_a_case_that_the_index_does_not_have_is_refused() -> None:
    with pytest.raises(DatasetError, match="b: is not in the index"):
        assign_strata("ab", replace(index_of(record("a", 1))))
