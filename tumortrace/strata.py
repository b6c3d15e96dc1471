"""Groups of cases that a mean over all would hide: by site, by tumour size, by missing sequence."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tumortrace.index import CaseRecord, Index
from tumortrace.statistics import summarise_values

SIZES = ("none", "small", "medium", "large")


@dataclass(frozen=True)
class Strata:
    """Cases by group.

    Attributes:
        groups: "site" (the institution's code, or "unknown"), "tumour_size" (one of `SIZES`) and "missing_sequence"
            (the sequences that a copy of another stands in for, joined by "+", or "none"); in each, case ids by label.
        size_limits_voxels: the largest tumour that is small, and the largest that is medium.
    """

    groups: Mapping[str, Mapping[str, tuple[str, ...]]]
    size_limits_voxels: tuple[int, int]


def assign_strata(case_ids: Iterable[str], index: Index) -> Strata:
    """The strata of some of an index's cases.

    The limits of tumour size divide the tumours of the whole index into thirds, so that a case is of one size in
    whatever part of a split it is; equal tumours are never divided.

    Raises:
        DatasetError: a case is not in the index.
    """
    cases = [index.case(case_id) for case_id in case_ids]
    limits = _thirds([case.tumour_voxels for case in index.cases if not case.tumour_free])
    labels = {
        "site": {case.case_id: case.site or "unknown" for case in cases},
        "tumour_size": {case.case_id: _size(case, limits) for case in cases},
        "missing_sequence": {case.case_id: "+".join(case.replaced) or "none" for case in cases},
    }
    return Strata({name: _group(each) for name, each in labels.items()}, limits)


def summarise_strata(values: Mapping[str, float | None], strata: Strata) -> dict[str, dict[str, Any]]:
    """Mean, median and intervals of one measure in each stratum.

    Args:
        values: the measure of each case in `strata`; None for "not applicable".
        strata: of the cases.

    Returns:
        By group and label, the fields of `tumortrace.statistics.Summary`.
    """
    return {
        name: {
            label: dataclasses.asdict(summarise_values([values[case] for case in cases]))
            for label, cases in group.items()
        }
        for name, group in strata.groups.items()
    }


def _thirds(voxels: Sequence[int]) -> tuple[int, int]:
    ranked = sorted(voxels)
    small, medium = (ranked[math.ceil(len(ranked) * third / 3) - 1] if ranked else 0 for third in (1, 2))
    return small, medium


def _size(case: CaseRecord, limits: tuple[int, int]) -> str:
    return SIZES[0] if case.tumour_free else SIZES[1 + sum(case.tumour_voxels > limit for limit in limits)]


def _group(labels: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    known = [label for label in SIZES if label in labels.values()]
    ordered = [*known, *sorted(set(labels.values()) - set(known))]
    return {label: tuple(case for case, own in labels.items() if own == label) for label in ordered}
