from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from tumortrace.commands.compare import command
from tumortrace.compare import compare_cases, signed_rank_p
from tumortrace.report import summarise, write_tables
from tumortrace_runtime.errors import InputError
from tumortrace_runtime.metrics import CaseMetrics, measure_case

TRUTH = np.zeros((3, 8, 8), np.uint8)
TRUTH[1, 2:6, 2:6] = 1
TEMPLATE = measure_case("template", TRUTH, TRUTH)


def cases_of(**dice: float) -> list[CaseMetrics]:
    return [replace(TEMPLATE, case_id=name, dice=value) for name, value in dice.items()]


def numbered(values: list[float]) -> list[CaseMetrics]:
    return cases_of(**{f"case {number:03d}": value for number, value in enumerate(values)})


def test_cases_are_paired_by_id_and_the_difference_is_b_minus_a() -> None:
    found = compare_cases(cases_of(a=0.5, b=0.75, c=0.5, d=0.25), cases_of(d=0.75, c=0.5, b=0.625, a=0.75))

    assert found.difference.mean == pytest.approx((0.25 - 0.125 + 0 + 0.5) / 4)
    assert found.difference.median == pytest.approx(0.125)
    assert (found.a.mean, found.b.mean) == (0.5, 0.65625)
    assert (found.b_better, found.ties, found.a_better) == (2, 1, 1)
    assert [(case.case_id, case.difference) for case in found.cases] == [
        ("d", 0.5),
        ("a", 0.25),
        ("b", -0.125),
        ("c", 0),
    ]


def test_where_lower_is_better_the_lower_wins() -> None:
    a = [replace(TEMPLATE, case_id=str(number), hd95=5.0) for number in range(3)]
    b = [replace(case, hd95=hd95) for case, hd95 in zip(a, (1.0, 2.0, 9.0), strict=True)]
    found = compare_cases(a, b, "hd95")

    assert (found.b_better, found.a_better) == (2, 1)
    assert found.difference.mean == pytest.approx(-1.0)


def test_the_interval_is_of_pairs() -> None:
    random = np.random.default_rng(0)
    a = random.uniform(0.2, 0.9, 60)
    found = compare_cases(numbered(a.tolist()), numbered((a + random.normal(0.01, 0.002, 60)).tolist()))

    assert found.difference.mean_interval is not None
    assert found.a.mean_interval is not None
    low, high = found.difference.mean_interval
    assert 0.009 < low < 0.01 < high < 0.011
    assert found.a.mean_interval[1] - found.a.mean_interval[0] > 0.05
    assert found.wilcoxon_p is not None
    assert found.wilcoxon_p < 1e-6


def test_signed_ranks_of_a_worked_example() -> None:
    # Ranks of the negative differences: 1 and 4, so W = 5. Of the 1024 signs of ten ranks, 20 give 5 or less: the
    # partitions into distinct parts of 0 to 5 are 1, 1, 1, 2, 2 and 3.
    assert signed_rank_p([-1, 2, 3, -4, 5, 6, 7, 8, 9, 10]) == pytest.approx(2 * 10 / 1024)


def test_equal_evaluations_have_no_p() -> None:
    found = compare_cases(numbered([0.5, 0.6]), numbered([0.5, 0.6]))

    assert (found.wilcoxon_p, found.ties, found.difference.mean) == (None, 2, 0.0)


def test_cases_without_a_difference_speak_against_one() -> None:
    differences = [0.1, 0.2, 0.3, 0.4, 0.5, -0.05]
    alone, beside_zeros = signed_rank_p(differences), signed_rank_p([*differences, *[0.0] * 30])

    assert alone is not None
    assert beside_zeros is not None
    assert alone < beside_zeros


@given(differences=st.lists(st.floats(-1, 1).map(lambda each: round(each, 3)), min_size=1, max_size=7))
@settings(max_examples=20)
def test_p_is_a_probability_and_knows_no_direction(differences: list[float]) -> None:
    p = signed_rank_p(differences)
    if not any(differences):
        assert p is None
    else:
        assert p is not None
        assert 0 < p <= 1
        assert signed_rank_p([-each for each in differences]) == pytest.approx(p)


def test_a_measure_that_does_not_apply_in_both_does_not_count() -> None:
    a = [replace(TEMPLATE, case_id="a", sensitivity=None), replace(TEMPLATE, case_id="b", sensitivity=0.5)]
    found = compare_cases(a, [replace(case, sensitivity=0.75) for case in a], "sensitivity")

    assert (found.difference.cases, found.difference.not_applicable) == (1, 1)
    assert (found.difference.mean, found.a.cases) == (0.25, 1)


def test_other_cases_are_refused_by_name() -> None:
    with pytest.raises(InputError, match="only A has a, b; only B has d"):
        compare_cases(cases_of(a=1, b=1, c=1), cases_of(c=1, d=1))
    many = numbered([0.0] * 14)
    with pytest.raises(InputError, match=r"case 002, .* and 9 more\. Evaluate"):
        compare_cases(many, many[:2])


@pytest.mark.parametrize("change", [{"truth_voxels": 7}, {"distance_unit": "mm"}, {"tolerance": 3.0}])
def test_a_case_that_is_not_the_same_in_both_is_refused(change: dict[str, object]) -> None:
    a = cases_of(a=0.5, b=0.6)
    with pytest.raises(InputError, match=f"b: {next(iter(change))} is"):
        compare_cases(a, [a[0], replace(a[1], **change)])  # type: ignore[arg-type]


def test_another_metric_is_refused() -> None:
    with pytest.raises(InputError, match="metric 'volume_error' given; one of dice, jaccard"):
        compare_cases(cases_of(a=1), cases_of(a=1), "volume_error")


def write(folder: Path, cases: list[CaseMetrics]) -> str:
    folder.mkdir()
    write_tables(folder, cases, summarise(cases))
    return str(folder)


def test_the_command_prints_the_comparison_and_writes_every_case(tmp_path: Path) -> None:
    a = write(tmp_path / "a", numbered([0.5, 0.6, 0.7, 0.8, 0.5, 0.6, 0.7]))
    b = write(tmp_path / "b", numbered([0.6, 0.8, 0.7, 0.7, 0.8, 0.9, 0.75]))
    result = CliRunner().invoke(command, [a, b, "-o", str(tmp_path / "comparison.json")])

    assert result.exit_code == 0, result.output
    assert "mean    0.6286  0.7500    +0.1214" in result.stdout
    assert "B better in 5 cases, equal in 1, A better in 1; Wilcoxon signed-rank p = " in result.stdout
    written = json.loads((tmp_path / "comparison.json").read_text())
    printed = json.loads(CliRunner().invoke(command, [a, b, "--json"]).stdout)
    assert written == printed
    assert written["folders"] == {"a": a, "b": b}
    assert len(written["cases"]) == 7


def test_the_command_says_when_no_case_differs(tmp_path: Path) -> None:
    a, b = (write(tmp_path / name, numbered([0.5, 0.6])) for name in "ab")
    result = CliRunner().invoke(command, [a, b])

    assert result.stdout.endswith("B better in 0 cases, equal in 2, A better in 0; Wilcoxon n/a, no case differs\n")
