from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from tumortrace.checkpoint import load_checkpoint
from tumortrace.hardware import open_fabric
from tumortrace.state import HISTORY, TRAINED
from tumortrace_runtime.errors import SpecError
from tumortrace_runtime.files import read_json, write_json

SETTINGS = ("model=unet-xs", "preprocessing.grid_px=[64,64]", "epochs=2", "steps_per_epoch=2", "batch_size=4")


def train(data: Path, out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The console's program, as a user calls it: Fabric starts it again for every further process."""
    program = [str(Path(sys.executable).with_name("tumortrace")), "train"]
    program += ["--data", str(data / "index.json"), "--split", str(data / "split.json"), "-o", str(out)]
    program += [part for setting in SETTINGS for part in ("--set", setting)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([*program, *arguments], capture_output=True, text=True, env=environment, timeout=240)


def test_two_processes_share_the_batches_of_one_run(tiny_data: Path, tmp_path: Path) -> None:
    done = train(tiny_data, tmp_path / "two", "--accelerator", "cpu", "--devices", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("validation Dice") == 1
    assert done.stderr.count("epoch   2  loss") == 1

    history = read_json(tmp_path / "two" / "last" / HISTORY)
    assert [epoch["epoch"] for epoch in history] == [1, 2]
    trained = safetensors.torch.load_file(tmp_path / "two" / "last" / TRAINED)
    assert all(torch.isfinite(tensor).all() for tensor in trained.values())
    assert load_checkpoint(tmp_path / "two" / "best").training["config"]["batch_size"] == 4


def test_one_process_goes_on_where_two_were_stopped(tiny_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert train(tiny_data, out, "--accelerator", "cpu", "--devices", "2").returncode == 0
    history = read_json(out / "last" / HISTORY)
    write_json(out / "last" / HISTORY, history[:1])  # as if stopped after the first epoch
    again = train(tiny_data, out, "--accelerator", "cpu", "--resume")
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("epoch   2  loss") == 1
    assert read_json(out / "last" / HISTORY)[0] == history[0]


def test_all_processes_refuse_to_resume_another_run(tiny_data: Path, tmp_path: Path) -> None:
    assert train(tiny_data, tmp_path / "run", "--accelerator", "cpu", "--set", "epochs=1").returncode == 0
    done = train(tiny_data, tmp_path / "run", "--accelerator", "cpu", "--devices", "2", "--resume")
    assert done.returncode == 2
    assert "was begun with another config.epochs" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_batch_that_does_not_divide_is_refused(tiny_data: Path, tmp_path: Path) -> None:
    done = train(tiny_data, tmp_path / "run", "--accelerator", "cpu", "--devices", "2", "--set", "batch_size=3")
    assert done.returncode == 2, done.stderr
    assert "batch_size is 3; a multiple of 2 devices wanted" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has what is asked for")
@pytest.mark.parametrize("devices", [1, 2])
def test_hardware_that_is_not_there_is_refused(devices: int) -> None:
    with pytest.raises(SpecError, match=rf"accelerator cuda with {devices} device\(s\): not to be had here"):
        open_fabric("cuda", devices)


def test_an_accelerator_of_no_known_name_is_refused() -> None:
    with pytest.raises(SpecError, match="accelerator is 'gpus'; one of auto, cpu, cuda, mps wanted"):
        open_fabric("gpus")


def test_the_cpu_is_what_auto_finds_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        pytest.skip("this machine has a GPU")
    fabric: Any = open_fabric()
    assert fabric.device.type == "cpu"
