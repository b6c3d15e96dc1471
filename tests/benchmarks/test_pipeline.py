"""The script that times the pipeline, on a small case: what it counts, prints and refuses. No time is tested."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tumortrace.phantom import generate_case
from tumortrace_runtime import Segmenter
from tumortrace_runtime.files import read_json
from tumortrace_runtime.io import read_case, write_case
from tumortrace_runtime.io.nifti import find

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "pipeline.py"


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom as .nii.gz."""
    return write_case("nifti", generate_case(1, 3, size_px=64), tmp_path_factory.mktemp("case"))


def measure(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=100
    )


def test_a_scan_passes_from_files_to_files(script, tiny_bundle, case, tmp_path):
    pipeline = script("pipeline")
    with Segmenter(tiny_bundle, backend="onnxruntime", precision="fp32") as segmenter:
        passage = pipeline.pass_through(segmenter, case, tmp_path)
        wanted = segmenter.segment(read_case(find(case)[0], with_truth=False))

    assert tuple(passage.timings_ms) == pipeline.STAGES
    *stages, total = passage.timings_ms.values()
    assert 0 < sum(stages) <= total
    assert passage.slices == len(wanted.mask) - wanted.skipped_slices
    assert passage.network_px == (64, 64)
    assert (tmp_path / f"{case.name}_mask.nii.gz").stat().st_size > 0
    assert len(read_json(tmp_path / "result.json")["lesions"]) == len(wanted.lesions) > 0


def test_what_counts_are_the_second_calls_of_each_turn(script):
    pipeline = script("pipeline")
    calls = {"a": iter(range(100)), "b": iter(range(100))}
    ways = {pipeline.Way(name, "openvino", "latency", False): calls[name].__next__ for name in calls}

    given = pipeline.measure_passages(ways, repeats=3)

    assert list(given) == list(ways)
    assert list(given.values()) == [[2, 4, 6]] * 2


def test_medians_are_shown_by_stage(script):
    pipeline = script("pipeline")
    timings = [dict.fromkeys(pipeline.STAGES, float(taken)) | {"total": 8.0 * taken} for taken in (5, 1, 3)]
    passages = [pipeline.Passage(each, 12, (64, 48)) for each in timings]

    text = pipeline.passages_table({pipeline.Way("phantom", "openvino", "latency", True): passages})

    row = text.splitlines()[-1].split()
    assert row == ["phantom", "openvino", "latency", "yes", "12", "x", "64x48"] + ["3.0"] * 5 + ["24.0", "25.0", "%"]


def test_percentiles_are_those_of_all_calls(script):
    pipeline = script("pipeline")
    assert pipeline.percentile_cells(list(np.arange(101.0))) == ["50.00", "90.00", "99.00", "100.00", "1.98"]
    calls = []
    assert len(pipeline.repeat_ms(lambda: calls.append(0), 7)) == 7
    assert len(calls) > 7


def test_memory_is_read_every_so_many_slices(script):
    readings = script("pipeline").memory_mb(lambda: calls.append(0), slices=4, every=10)
    calls: list[int] = []
    counts = []
    for _, reading in zip(range(4), readings, strict=False):
        counts.append(len(calls))
        assert reading > 1
    assert counts == [3, 5, 8, 10]


def test_every_part_runs_on_a_case(tiny_bundle: Path, case: Path):
    given = (tiny_bundle, "--case", case)
    done = [
        measure("scan", *given, "--repeats", 1),
        measure("slice", *given, "--count", 2, "--backend", "onnxruntime"),
        measure("memory", *given, "--slices", 60, "--every", 30, "--backend", "onnxruntime", "--bound-mb", 1000),
        measure("memory", *given, "--slices", 60, "--every", 30, "--backend", "onnxruntime", "--bound-mb", -1),
    ]

    assert [each.returncode for each in done] == [0, 0, 0, 4], [each.stderr for each in done]
    scan, one, flat, grown = (each.stdout.splitlines() for each in done)
    assert len(scan) == 2 + 6
    assert one[-1].startswith("onnxruntime")
    assert (flat[1].split(), grown[0]) == (
        ["engine", "30", "60", "grown"],
        "resident MB after so many slices; -1 MB of growth allowed",
    )
