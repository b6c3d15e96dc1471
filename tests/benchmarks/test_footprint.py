"""The base install with one engine, held to its budget beside the PyTorch stack."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "footprint.py"


@pytest.fixture(scope="module")
def stacks() -> dict[str, dict[str, int]]:
    done = subprocess.run([sys.executable, SCRIPT, "--runs", "0", "--json"], check=True, capture_output=True, text=True)
    found: dict[str, dict[str, int]] = json.loads(done.stdout)["stacks"]
    return found


@pytest.mark.parametrize(("engine", "budget"), [("OpenVINO", 0.30), ("ONNX Runtime", 0.20)])
def test_the_runtime_is_a_fraction_of_the_pytorch_stack(
    engine: str, budget: float, stacks: dict[str, dict[str, int]]
) -> None:
    assert sum(stacks[engine].values()) <= budget * sum(stacks["PyTorch"].values()), stacks


def test_the_base_install_is_numpy_and_click(stacks: dict[str, dict[str, int]]) -> None:
    base = {"tumortrace", "numpy", "click"}
    openvino, onnxruntime = set(stacks["OpenVINO"]), set(stacks["ONNX Runtime"])

    assert openvino & onnxruntime == base
    assert openvino >= base | {"openvino"}
    assert not (openvino | onnxruntime) & {"torch", "scipy", "matplotlib", "opencv-python-headless", "pillow"}
    assert stacks["OpenVINO"]["tumortrace"] > 500_000  # the packages themselves, editable or not
