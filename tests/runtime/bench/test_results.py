"""Result files: what is written comes back, and what is none is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tumortrace_runtime.bench.results import baseline_name, percentiles, read_results, write_results
from tumortrace_runtime.bench.stability import candidate_noise, machine_noise
from tumortrace_runtime.errors import InputError


def test_what_is_written_comes_back(make_results, tmp_path):
    results = make_results(3)
    write_results(results, tmp_path / "results.json")
    assert read_results(tmp_path / "results.json") == results


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"version": 1}, r"no result of `tumortrace bench run` of version 2; measure anew\."),
        ({"format": "another"}, "no result of"),
        ({"rounds": "five"}, r"Results\.rounds is 'five'; int wanted\. Measure anew\."),
        ({"weather": "fine"}, "unknown setting weather"),
    ],
)
def test_another_schema_is_refused(change, told, make_results, tmp_path):
    path = tmp_path / "results.json"
    write_results(make_results(), path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=told):
        read_results(path)


def test_a_list_is_no_result(tmp_path):
    (tmp_path / "results.json").write_text("[]")
    with pytest.raises(InputError, match="no result of"):
        read_results(tmp_path / "results.json")


def test_throughput_counts_all_slices_and_all_time(make_results):
    results = make_results(1)
    (candidate,) = results.candidates
    seconds = sum(sample.total_ms for sample in candidate.samples) / 1e3
    assert results.slices_per_s(candidate) == pytest.approx(5 * (30 + 20 + 40) / seconds)


def test_percentiles_lie_between_samples():
    assert percentiles([5.0, 1.0, 3.0, 2.0, 4.0]) == pytest.approx(
        {"min": 1.0, "p50": 3.0, "p90": 4.6, "p99": 4.96, "max": 5.0}
    )


def test_a_machine_that_wanders_is_noisy_and_its_candidate_is_not(make_results):
    results = make_results(2, spread=0.001)
    assert candidate_noise(results.candidates[0]) < 0.01 < 0.15 < machine_noise(results)
    speeds = np.array([sample.reference_ms for sample in results.candidates[0].samples])
    low, high = np.percentile(speeds, (10, 90))
    assert machine_noise(results) == pytest.approx((high - low) / np.median(speeds))


def test_a_baseline_is_named_by_device_and_day(make_results):
    assert baseline_name(make_results(3)) == "some-cpu-2-threads.2026-11-13.json"
