"""What is a regression and what is not, on results as a wandering machine gives them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tumortrace_runtime.bench.compare import OK, REGRESSION, WITHIN_NOISE, compare
from tumortrace_runtime.bench.gates import Gates, read_gates
from tumortrace_runtime.bench.results import NotRun
from tumortrace_runtime.errors import InputError

GATES = read_gates(Path(__file__).parents[3] / "benchmarks" / "gates.toml")


def found_in(new, base, gates: Gates = GATES) -> set[str]:
    return {each.measure for each in compare(new, base, gates).regressions}


def test_runs_of_one_commit_are_no_regression(make_results):
    runs = [make_results(seed) for seed in range(11)]
    assert [found_in(run, runs[0]) for run in runs[1:]] == [set()] * 10


@pytest.mark.parametrize(
    ("fault", "measure"),
    [
        ({"factors": {"total": 1.25}}, "total"),
        *(({"factors": {stage: 2.0}}, stage) for stage in ("decode", "preprocess", "postprocess", "encode")),
        ({"dice_loss": 0.01}, "dice"),
        ({"own_bytes": 95_000_000}, "own memory"),
        ({"growth_bytes": 20_000_000}, "memory growth"),
    ],
)
def test_a_planted_fault_is_caught_ten_times_of_ten(fault, measure, make_results):
    base = make_results(0)
    assert all(measure in found_in(make_results(seed, **fault), base) for seed in range(1, 11))


def test_more_of_the_libraries_in_memory_is_no_fault(make_results):
    assert found_in(make_results(1, mapped_bytes=110_000_000), make_results(0)) == set()


def test_a_slow_network_is_named_with_its_stage_and_case(make_results):
    (total,) = (
        each
        for each in compare(make_results(1, factors={"infer": 1.5}), make_results(0), GATES).findings
        if each.measure == "total"
    )
    assert total.verdict == REGRESSION
    assert total.detail.startswith("most in infer, ")
    assert total.detail.split(", ")[1] in ("one", "two", "three")
    assert total.interval[0] < total.change < total.interval[1]
    assert 1.25 < total.change < 1.5


def test_a_change_that_may_be_chance_passes_and_says_so(make_results):
    new, base = make_results(3, factors={"total": 1.14}, spread=0.15), make_results(4, spread=0.15)
    (total,) = (each for each in compare(new, base, GATES).findings if each.measure == "total")
    assert (total.verdict, total.interval[0] < GATES.total_ratio < total.change) == (WITHIN_NOISE, True)


def test_one_case_that_is_lost_is_a_regression_though_the_mean_hardly_moves(make_results):
    base = make_results(0)
    (candidate,) = base.candidates
    first, *others = candidate.cases
    worse = replace(candidate, cases=(replace(first, dice=first.dice - 0.012), *others))
    gates = replace(GATES, dice_drop=0.1)
    (dice,) = compare(replace(base, candidates=(worse,)), base, gates).regressions
    assert (dice.measure, dice.limit, dice.detail) == ("dice", GATES.case_dice_drop, "one: 0.9000 to 0.8880")


def test_a_candidate_that_no_longer_runs_is_a_regression(make_results):
    base = make_results(0)
    another = replace(base.candidates[0], name="onnxruntime int8 CPUExecutionProvider")
    new = replace(base, candidates=(another,), not_run=(NotRun("openvino int8 CPU", "it fell over"),))
    comparison = compare(new, base, GATES)
    (gone,) = comparison.regressions
    assert comparison.remarks == ("onnxruntime int8 CPUExecutionProvider: not in the baseline",)
    assert (gone.new, gone.detail) == (None, "did not run: it fell over")


def test_on_another_processor_accuracy_and_size_alone_are_compared(make_results):
    base = make_results(0)
    slower = make_results(1, factors={"total": 3.0}, growth_bytes=50_000_000)
    elsewhere = replace(slower, environment={"cpu": {"model": "Another CPU", "threads": 2, "architecture": "x86_64"}})
    comparison = compare(elsewhere, base, GATES)
    assert {each.measure: each.verdict for each in comparison.findings} == {"dice": OK, "size": OK}
    assert comparison.remarks == ("accuracy and size alone are compared: Some CPU there, Another CPU here",)


def test_after_a_noisy_run_it_says_how_little_latencies_mean(make_results):
    comparison = compare(make_results(1, spread=0.4), make_results(0), GATES)
    assert "latencies say little: the reference workload spread by" in comparison.remarks[0]
    assert comparison.regressions == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model_sha256": "c" * 64}, "baseline: model aaaaaaaaaaaa there, cccccccccccc here"),
        ({"data": {"index_sha256": "3" * 64}}, "baseline: index 111111111111 there, 333333333333 here"),
        ({"data": {"split_sha256": "3" * 64}}, "baseline: split 222222222222 there, 333333333333 here"),
        ({"data": {"slices": {"another": 4}}}, "baseline: no case is in both results"),
    ],
)
def test_what_cannot_be_compared_is_refused(change, told, make_results):
    base = make_results(0)
    data = base.data | change.get("data", {})
    with pytest.raises(InputError, match=told):
        compare(replace(base, **change | {"data": data}), base, GATES)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("dice_drop = 'much'", "dice_drop"),
        ("dice_drop = ", "cannot be read as TOML"),
        ("", "setting case_dice_drop, dice_drop"),
        ("total_ratio = 0.5", "is missing"),
    ],
)
def test_gates_that_say_nothing_are_refused(text, told, tmp_path):
    (tmp_path / "gates.toml").write_text(text)
    with pytest.raises(InputError, match=rf"gates\.toml: .*{told}"):
        read_gates(tmp_path / "gates.toml")
