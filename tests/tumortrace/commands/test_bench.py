from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tumortrace_runtime.bundle import open_bundle

Program = Callable[..., Any]


def test_every_engine_and_precision_of_the_bundle_has_a_row(
    tumortrace: Program, tiny_bundle: Path, tiny_data: Path, tmp_path: Path
) -> None:
    cases = (
        "--data",
        tiny_data / "index.json",
        "--split",
        tiny_data / "split.json",
        "--part",
        "train",
        "--repeats",
        "1",
    )
    ended = tumortrace("bench", "run", tiny_bundle, *cases, "-o", tmp_path / "results.json")
    assert ended.code == 0, ended.err
    results = json.loads((tmp_path / "results.json").read_text())
    bundle = open_bundle(tiny_bundle)
    here = [choice for choice in bundle.choices() if choice[0] != "tensorrt"]
    assert [(row["backend"], row["precision"]) for row in results["rows"]] == here
    assert results["bundle_sha256"] == bundle.sha256
    assert [(row["backend"], row["precision"]) for row in results["not_run"]] == bundle.choices()[len(here) :]
    for row in results["rows"]:
        assert row["slice_ms"]["repeats"] == len(results["cases"])
        assert 0 < row["slice_ms"]["median_ms"] < row["scan_ms"]["median_ms"]
        assert row["size_bytes"] == bundle.model_bytes(row["backend"], row["precision"])
        assert (row["int8_mac_share"] > 0.5) == row["precision"].startswith("int8")
        assert f"{100 * row['int8_mac_share']:.1f} %" in ended.out
    exact = [row["dice"] for row in results["rows"] if row["precision"] == "fp32"]
    assert abs(exact[0] - exact[1]) < 1e-3
    assert all(f"{row['dice']:.4f}" in ended.out for row in results["rows"])


def test_patients_that_the_model_has_seen_are_not_tested(
    tumortrace: Program, tiny_bundle: Path, tiny_data: Path, tmp_path: Path
) -> None:
    cases = ("--data", tiny_data / "index.json", "--split", tiny_data / "split.json", "--fold", "0")
    ended = tumortrace("bench", "run", tiny_bundle, *cases, "-o", tmp_path / "results.json")
    assert ended.code == 2
    assert "tested here, or its teacher was" in ended.err
    assert not (tmp_path / "results.json").exists()
