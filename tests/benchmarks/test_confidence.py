"""The script that measures confidence, run as its page says."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tumortrace.checkpoint import load_checkpoint, save_checkpoint
from tumortrace.ood import fit_reference
from tumortrace_runtime.confidence import Confidence
from tumortrace_runtime.files import read_json

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def judging(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small checkpoint with a reference that knows nothing, for which any statistics are alike."""
    checkpoint = load_checkpoint(tiny_checkpoint)
    rng = np.random.default_rng(0)
    statistics = rng.standard_normal((12, 2 * checkpoint.model.widths[-1]))
    reference = fit_reference(statistics, {"noise 1": rng.standard_normal(statistics.shape)}, {}, [])
    path = tmp_path_factory.mktemp("judging") / "checkpoint"
    save_checkpoint(path, dataclasses.replace(checkpoint, confidence=Confidence(2.0, reference)))
    return path


def measure(model: Path, data: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    given = ("--data", data / "index.json", "--split", data / "split.json", *arguments)
    command = [sys.executable, CHECKOUT / "benchmarks" / "confidence.py", model, *given]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)


def test_scores_and_errors_are_printed_and_written(judging: Path, tiny_data: Path, tmp_path: Path) -> None:
    done = measure(judging, tiny_data, "--phantoms", 1, "-o", tmp_path / "out.json")

    assert done.returncode == 0, done.stderr
    result = read_json(tmp_path / "out.json")
    split = read_json(tiny_data / "split.json")
    cases, kinds = result["ood"]["cases"], result["ood"]["kinds"]
    assert sorted(cases) == sorted(split["fixed"]["val"])
    assert set(kinds) == {"as they are", "wrong order", "turned", "upside down", "noise", "phantom"}
    assert kinds["wrong order"]["scans"] == 4 * len(cases)
    own = [scores[""] for scores in cases.values()]
    upside_down = [scores["upside down"] for scores in cases.values()]
    pairs = [(one > other) + 0.5 * (one == other) for one in upside_down for other in own]
    assert kinds["upside down"]["auroc"] == pytest.approx(np.mean(pairs))
    assert kinds["upside down"]["flagged"] == np.mean(np.array(upside_down) > 1)
    assert 0 < result["calibration_error"]["after"] < 1
    assert result["about"]["backend"] == "pytorch"
    assert all(kind in done.stdout for kind in kinds)


def test_what_was_not_calibrated_is_refused(tiny_checkpoint: Path, tiny_data: Path, tmp_path: Path) -> None:
    done = measure(tiny_checkpoint, tiny_data, "-o", tmp_path / "out.json")
    assert (done.returncode, "no out-of-distribution reference" in done.stderr) == (2, True)
