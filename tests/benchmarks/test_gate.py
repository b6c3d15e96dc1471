"""What raises the gate's alarm, on its own baselines."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tumortrace_runtime.bench.results import Results, read_results
from tumortrace_runtime.bundle import open_bundle
from tumortrace_runtime.errors import InputError

_BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
_BASELINES = sorted((_BENCHMARKS / "baselines").glob("*.json"))
_RESULTS = sorted((_BENCHMARKS / "results").glob("*.json"))


@pytest.fixture
def base() -> Results:
    return read_results(_BASELINES[-1])


def slower(results: Results, factor: float) -> Results:
    def delayed(sample):
        return dataclasses.replace(sample, total_ms=sample.total_ms * factor)

    candidates = [dataclasses.replace(each, samples=tuple(map(delayed, each.samples))) for each in results.candidates]
    return dataclasses.replace(results, candidates=tuple(candidates))


def test_what_is_worse_once_is_no_alarm(script: Callable[[str], ModuleType], base: Results) -> None:
    gate, said = script("gate"), []
    assert gate.alarms_twice(slower(base, 1.5), lambda: base, base, said.append) == set()
    assert (said[-1], "measured once more" in said[1]) == ("worse both times: nothing", True)


def test_what_is_worse_twice_is_one(script: Callable[[str], ModuleType], base: Results) -> None:
    gate, said = script("gate"), []
    alarms = gate.alarms_twice(slower(base, 1.25), lambda: slower(base, 1.3), base, said.append)
    assert alarms == {(each.name, "total") for each in base.candidates}
    assert said[-1].startswith("worse both times: ") and said[-1].count(" total") == len(alarms)


def test_what_is_as_good_is_not_measured_again(script: Callable[[str], ModuleType], base: Results) -> None:
    def again() -> Results:
        raise AssertionError

    assert script("gate").alarms_twice(slower(base, 1.02), again, base) == set()


def test_the_baseline_is_this_devices_newest_or_else_the_newest(
    script: Callable[[str], ModuleType], base: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = script("gate")
    monkeypatch.setattr(gate, "BASELINES", tmp_path)
    with pytest.raises(InputError, match=r"no baseline; `python benchmarks/gate\.py update` measures one"):
        gate.find_baseline(base)
    device = gate.baseline_name(base).split(".")[0]
    for name in (f"{device}.2026-01-02", f"{device}.2025-03-04", "some-jetson-8-threads.2026-05-06"):
        shutil.copy(_BASELINES[-1], tmp_path / f"{name}.json")
    assert gate.find_baseline(base).name == f"{device}.2026-01-02.json"
    cpu = base.environment["cpu"] | {"model": "Another CPU"}
    elsewhere = dataclasses.replace(base, environment=base.environment | {"cpu": cpu})
    assert gate.find_baseline(elsewhere).name == "some-jetson-8-threads.2026-05-06.json"


@pytest.mark.parametrize("path", _RESULTS, ids=lambda path: path.stem)
def test_published_results_can_be_read_and_are_of_the_shipped_model(path: Path) -> None:
    results = read_results(path)
    assert results.model_sha256 == shipped_model()
    assert {sample.case_id for each in results.candidates for sample in each.samples} == set(results.data["slices"])


@pytest.mark.parametrize("path", _BASELINES, ids=lambda path: path.stem)
def test_a_baseline_is_named_by_device_and_day_and_of_the_shipped_model(path: Path, script) -> None:
    results = read_results(path)
    assert script("gate").baseline_name(results) == path.name
    assert results.model_sha256 == shipped_model()


def shipped_model() -> str:
    bundle = open_bundle(Path(__file__).parents[2] / "models" / "lgg-unet-s" / "lgg-unet-s.bundle")
    return bundle.file_sha256(bundle.path / "model.onnx")
