"""Two models on the same cases: how far apart they are, and whether by more than chance."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from tumortrace.statistics import Summary, summarise_values
from tumortrace.wording import name_some
from tumortrace_runtime.errors import InputError
from tumortrace_runtime.metrics import CaseMetrics

HIGHER_IS_BETTER = (
    "dice",
    "jaccard",
    "sensitivity",
    "specificity",
    "accuracy",
    "precision",
    "surface_dice",
    "lesion_sensitivity",
)
LOWER_IS_BETTER = ("hd95", "false_positive_lesions")
METRICS = (*HIGHER_IS_BETTER, *LOWER_IS_BETTER)

_SAME_IN_BOTH = ("truth_voxels", "distance_unit", "tolerance")


@dataclass(frozen=True)
class CaseDifference:
    """One measure of one case in both evaluations; `difference` is b - a."""

    case_id: str
    a: float
    b: float
    difference: float


@dataclass(frozen=True)
class Comparison:
    """One measure of two evaluations, paired by case; every difference is B minus A.

    Attributes:
        metric: its name, a field of `CaseMetrics`.
        a, b: over the cases that count in both.
        difference: over the same; its intervals are of the paired bootstrap, which draws cases, each with both values.
        b_better, ties, a_better: cases in which B is the better, in which both are equal, and in which A is.
        wilcoxon_p: two-sided, of Wilcoxon's signed-rank test; None where every difference is zero.
        cases: those that count, the largest absolute difference first.
    """

    metric: str
    a: Summary
    b: Summary
    difference: Summary
    b_better: int
    ties: int
    a_better: int
    wilcoxon_p: float | None
    cases: tuple[CaseDifference, ...]

    def to_dict(self) -> dict[str, Any]:
        """Every field by name, as JSON stores it."""
        return dataclasses.asdict(self)


def compare_cases(a: Sequence[CaseMetrics], b: Sequence[CaseMetrics], metric: str = "dice") -> Comparison:
    """Compare two evaluations of the same cases.

    Args:
        a: the one that differences are counted from, such as the model in use.
        b: the other; the same cases in any order.
        metric: one of `METRICS`; a case in which it applies to only one of both, or to neither, does not count.

    Raises:
        InputError: another metric, other cases, or a case with another truth, unit or tolerance.
    """
    if metric not in METRICS:
        raise InputError(f"metric {metric!r} given; one of {', '.join(METRICS)} wanted.")
    pairs = _pair(a, b)
    values = {case_id: (getattr(one, metric), getattr(other, metric)) for case_id, (one, other) in pairs.items()}
    cases = _differences(values)
    differences = [case.difference for case in cases]
    not_counted = [None] * (len(values) - len(cases))
    higher, lower = sum(each > 0 for each in differences), sum(each < 0 for each in differences)
    better, worse = (higher, lower) if metric in HIGHER_IS_BETTER else (lower, higher)
    return Comparison(
        metric=metric,
        a=summarise_values([*(case.a for case in cases), *not_counted]),
        b=summarise_values([*(case.b for case in cases), *not_counted]),
        difference=summarise_values([*differences, *not_counted]),
        b_better=better,
        ties=len(cases) - higher - lower,
        a_better=worse,
        wilcoxon_p=signed_rank_p(differences),
        cases=tuple(cases),
    )


def signed_rank_p(differences: Sequence[float]) -> float | None:
    """Two-sided p of Wilcoxon's signed-rank test (Wilcoxon 1945); None where no difference is other than zero.

    Zeros are ranked with the rest and then dropped (Pratt 1959), which is the cautious way: cases in which two models
    are equal speak against a difference. SciPy's p is exact for up to 50 cases without ties and zeros and up to 13
    with them, and from a normal approximation for more.
    """
    if not np.any(differences):
        return None
    return float(stats.wilcoxon(differences, zero_method="pratt").pvalue)


def _pair(a: Sequence[CaseMetrics], b: Sequence[CaseMetrics]) -> dict[str, tuple[CaseMetrics, CaseMetrics]]:
    of_a, of_b = ({case.case_id: case for case in cases} for cases in (a, b))
    if of_a.keys() != of_b.keys():
        sides = (("A", of_a.keys() - of_b.keys()), ("B", of_b.keys() - of_a.keys()))
        only = "; ".join(f"only {side} has {name_some(names)}" for side, names in sides if names)
        raise InputError(f"the evaluations are of different cases: {only}. Evaluate both on the same part.")
    for case_id, one in of_a.items():
        for name in _SAME_IN_BOTH:
            if (left := getattr(one, name)) != (right := getattr(of_b[case_id], name)):
                raise InputError(f"{case_id}: {name} is {left} in A, {right} in B; evaluate both on the same data.")
    return {case_id: (of_a[case_id], of_b[case_id]) for case_id in sorted(of_a)}


def _differences(values: Mapping[str, tuple[float | None, float | None]]) -> list[CaseDifference]:
    # Rounded, so that differences which are equal but for rounding tie in the ranks.
    cases = [
        CaseDifference(case_id, a, b, round(b - a, 12))
        for case_id, (a, b) in values.items()
        if a is not None and b is not None
    ]
    return sorted(cases, key=lambda case: (-abs(case.difference), case.case_id))
