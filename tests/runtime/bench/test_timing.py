"""Interleaved timing: in what order candidates run, how often, and what the numbers mean. No clock is tested."""

from __future__ import annotations

import pytest

from tumortrace_runtime.bench.timing import Timing, measure_interleaved, speedups, summarise_times
from tumortrace_runtime.errors import InputError


def test_candidates_take_turns_after_the_warmup():
    calls = []
    timings = measure_interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=3, warmup=2)

    assert calls == ["a", "b"] * 2 + ["a", "a", "b", "b"] * 3
    assert {name: timing.repeats for name, timing in timings.items()} == {"a": 3, "b": 3}
    assert all(0 <= t.min_ms <= t.median_ms <= t.p90_ms for t in timings.values())


def test_what_single_times_add_up_to():
    assert summarise_times([5.0, 1.0, 3.0, 2.0, 4.0]) == Timing(median_ms=3.0, p90_ms=4.6, min_ms=1.0, repeats=5)


def test_speedups_are_ratios_of_medians():
    timings = {"eager": Timing(40.0, 90.0, 30.0, 5), "int8": Timing(8.0, 8.0, 1.0, 5)}

    assert speedups(timings, "eager") == {"eager": 1.0, "int8": 5.0}


def test_a_reference_that_was_not_measured_is_refused():
    with pytest.raises(InputError, match="'eager' was not measured; measured were int8"):
        speedups({"int8": Timing(8.0, 8.0, 1.0, 5)}, "eager")


@pytest.mark.parametrize(("candidates", "repeats", "warmup"), [({}, 1, 0), ({"a": int}, 0, 0), ({"a": int}, 1, -1)])
def test_nothing_to_measure_is_refused(candidates, repeats, warmup):
    with pytest.raises(InputError, match="wanted"):
        measure_interleaved(candidates, repeats=repeats, warmup=warmup)
