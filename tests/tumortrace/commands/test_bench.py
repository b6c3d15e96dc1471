from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tumortrace_runtime.bench.results import read_results, write_results
from tumortrace_runtime.bundle import open_bundle

Program = Callable[..., Any]

GATES = Path(__file__).parents[3] / "benchmarks" / "gates.toml"
PEER = """
import numpy as np
from tumortrace_runtime.bench.candidates import Stopwatch

class Bright:
    name, version, precision, device, size_bytes = "bright voxels", "1", "fp32", "CPU", 0

    def segment(self, scan):
        watch = Stopwatch()
        mask = scan.voxels[..., 1] > 150
        watch.lap("infer")
        return mask, watch.stages_ms

def load(given):
    assert given.bundle.name and given.checkpoint is None
    return [Bright()]
"""


def cases(tiny_data: Path) -> list[object]:
    return ["--data", tiny_data / "index.json", "--split", tiny_data / "split.json", "--part", "train"]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path, tiny_data: Path) -> Path:
    """The tiny bundle on all that runs it here, in two precisions, and a peer, in two rounds."""
    from click.testing import CliRunner

    from tumortrace.commands.bench import command

    folder = tmp_path_factory.mktemp("bench")
    (folder / "peer.py").write_text(PEER)
    asked = ["run", tiny_bundle, *cases(tiny_data), "--repeats", "2", "--peer", folder / "peer.py"]
    asked += ["--precision", "fp32", "--precision", "int8"]
    ended = CliRunner().invoke(command, [*map(str, asked), "-o", str(folder / "results.json")])
    assert ended.exit_code == 0, ended.output
    (folder / "said.txt").write_text(ended.output)
    return folder / "results.json"


def test_every_engine_precision_and_peer_has_a_row(measured: Path, tiny_bundle: Path) -> None:
    results, bundle = read_results(measured), open_bundle(tiny_bundle)
    here = [choice for choice in bundle.choices() if choice[0] != "tensorrt" and choice[1] in ("fp32", "int8")]
    engines, peers = results.candidates[: len(here)], results.candidates[len(here) :]
    assert [(each.backend, each.precision) for each in engines] == here
    assert [(each.name, each.kind, each.start) for each in peers] == [("bright voxels", "peer", None)]
    assert results.bundle["sha256"] == bundle.sha256
    assert [each.name for each in results.not_run] == ["tensorrt int8"]
    for each in engines:
        assert len(each.samples) == 2 * len(each.cases) == 2 * len(results.data["slices"])
        assert all(sum(sample.stages_ms.values()) <= sample.total_ms for sample in each.samples)
        assert all(min(sample.stages_ms.values()) > 0 for sample in each.samples)
        assert each.size_bytes == bundle.model_bytes(each.backend, each.precision)
        assert (each.int8_mac_share > 0.5) == each.precision.startswith("int8")
        assert each.start is not None and each.start.peak_bytes > 20e6
    exact = [each.dice for each in engines if each.precision == "fp32"]
    assert abs(exact[0] - exact[1]) < 1e-3
    said = measured.with_name("said.txt").read_text()
    assert all(f"{each.dice:.4f}" in said and each.name in said for each in results.candidates)
    assert all(f"not run: {each.name}: {each.reason}" in said for each in results.not_run)


def test_candidates_take_turns(measured: Path) -> None:
    first = read_results(measured).candidates[0].samples
    cases = [sample.case_id for sample in first]
    assert cases[: len(cases) // 2] == cases[len(cases) // 2 :]
    assert [sample.round for sample in first] == sorted(sample.round for sample in first)


def test_patients_that_the_model_has_seen_are_not_tested(
    tumortrace: Program, tiny_bundle: Path, tiny_data: Path, tmp_path: Path
) -> None:
    given = ("--data", tiny_data / "index.json", "--split", tiny_data / "split.json", "--fold", "0")
    ended = tumortrace("bench", "run", tiny_bundle, *given, "-o", tmp_path / "results.json")
    assert ended.code == 2
    assert "tested here, or its teacher was" in ended.err
    assert not (tmp_path / "results.json").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "no such Python file of peers"),
        ("x = 1", "has no function `load`"),
        ("import no_such_package", "No module named 'no_such_package'; benchmarks/README.md says"),
    ],
)
def test_a_peer_that_cannot_be_loaded_is_refused(
    text: str | None, told: str, tumortrace: Program, tiny_bundle: Path, tiny_data: Path, tmp_path: Path
) -> None:
    peer = tmp_path / "peer.py"
    if text is not None:
        peer.write_text(text)
    ended = tumortrace("bench", "run", tiny_bundle, *cases(tiny_data), "--peer", peer, "-o", tmp_path / "results.json")
    assert (ended.code, f"Error: {peer}: " in ended.err, told in ended.err) == (2, True, True), ended.err


@pytest.mark.parametrize(("option", "there"), [("--precision", "fp32, "), ("--backend", "onnxruntime, openvino")])
def test_what_the_bundle_has_not_is_refused(
    option: str, there: str, tumortrace: Program, tiny_bundle: Path, tiny_data: Path, tmp_path: Path
) -> None:
    out = ("-o", tmp_path / "results.json")
    ended = tumortrace("bench", "run", tiny_bundle, *cases(tiny_data), option, "fp128", *out)
    assert (ended.code, there in ended.err, "; fp128 given." in ended.err) == (2, True, True), ended.err
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_known_before_anything_is_measured(
    tumortrace: Program, tiny_bundle: Path, tiny_data: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    ended = tumortrace("bench", "run", tiny_bundle, *cases(tiny_data), "-o", tmp_path / "file" / "results.json")
    assert (ended.code, "round 1" in ended.err, "starting" in ended.err) == (2, False, False), ended.err


def test_a_result_is_no_worse_than_itself(tumortrace: Program, measured: Path) -> None:
    ended = tumortrace("bench", "compare", measured, "--baseline", measured, "--gates", GATES)
    assert (ended.code, "nothing is beyond the limits" in ended.out) == (0, True), ended.err


def test_a_regression_ends_with_4_and_is_named(tumortrace: Program, measured: Path, tmp_path: Path) -> None:
    results = read_results(measured)
    lost, *others = results.candidates
    worse = replace(lost, cases=tuple(replace(case, dice=case.dice - 0.01) for case in lost.cases))
    write_results(replace(results, candidates=(worse, *others)), tmp_path / "worse.json")
    ended = tumortrace("bench", "compare", tmp_path / "worse.json", "--baseline", measured, "--gates", GATES)
    assert (ended.code, f"1 beyond the limits: {lost.name} dice" in ended.out) == (4, True), ended.out
    told = tumortrace("bench", "compare", tmp_path / "worse.json", "--baseline", measured, "--gates", GATES, "--json")
    assert json.loads(told.out)["regressions"] == 1


def test_a_baseline_is_kept_under_its_devices_name(tumortrace: Program, measured: Path, tmp_path: Path) -> None:
    ended = tumortrace("bench", "baseline", measured, "-o", tmp_path / "baselines")
    assert ended.code == 0
    (kept,) = (tmp_path / "baselines").iterdir()
    assert (ended.out.strip(), read_results(kept)) == (str(kept), read_results(measured))


def test_the_page_shows_the_worst_cases(
    tumortrace: Program, measured: Path, tiny_bundle: Path, tiny_data: Path, tmp_path: Path
) -> None:
    given = ("--bundle", tiny_bundle, "--data", tiny_data / "index.json", "--pictures", "2")
    ended = tumortrace("bench", "report", measured, *given, "-o", tmp_path / "report.html")
    assert ended.code == 0, ended.err
    page = (tmp_path / "report.html").read_text()
    results = read_results(measured)
    worst = sorted(results.candidates[0].cases, key=lambda case: case.dice)[:2]
    assert page.count("data:image/png;base64,") == 2
    assert all(f"{case.case_id}, {results.candidates[0].name}: Dice {case.dice:.4f}" in page for case in worst)


def test_pictures_want_bundle_and_index(tumortrace: Program, measured: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    ended = tumortrace("bench", "report", measured, "--bundle", tiny_bundle, "-o", tmp_path / "report.html")
    assert (ended.code, "--bundle and --data belong together" in ended.err) == (2, True)
