from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from tumortrace.checkpoint import Checkpoint, load_checkpoint
from tumortrace.dataset import TrainingCase, prepare_case
from tumortrace.index import Index, load_index, open_case
from tumortrace.model import ModelConfig, build_model
from tumortrace.split import Split, load_split
from tumortrace_export.calibration import calibration_batches
from tumortrace_export.onnx_model import export_onnx
from tumortrace_export.quantise import quantise

MadeOnce = Callable[[str, Callable[[Path], None]], Path]


@pytest.fixture(scope="session")
def checkpoint(tiny_checkpoint: Path) -> Checkpoint:
    return load_checkpoint(tiny_checkpoint)


@pytest.fixture(scope="session")
def index(tiny_data: Path) -> Index:
    return load_index(tiny_data / "index.json")


@pytest.fixture(scope="session")
def split(tiny_data: Path, index: Index) -> Split:
    return load_split(tiny_data / "split.json", index)


@pytest.fixture(scope="session")
def prepared(checkpoint: Checkpoint, index: Index, split: Split) -> Callable[[str], list[TrainingCase]]:
    """The prepared cases of a part of the split."""
    return lambda part: [prepare_case(open_case(index, name), checkpoint.preprocessing) for name in split.part(part)]


@pytest.fixture(scope="session")
def slices(prepared: Callable[[str], list[TrainingCase]], checkpoint: Checkpoint) -> npt.NDArray[np.float32]:
    """Slices that the network has not been trained on, with and without tumour, as it takes them."""
    return np.concatenate(list(calibration_batches(prepared("val"), checkpoint.preprocessing.context)))


@pytest.fixture(scope="session")
def onnx_file(checkpoint: Checkpoint, made_once: MadeOnce) -> Path:
    """The checkpoint's network as FP32 ONNX."""

    def make(folder: Path) -> None:
        folder.mkdir()
        network, preprocessing = checkpoint.network(), checkpoint.preprocessing
        export_onnx(network, preprocessing.in_channels, preprocessing.grid_px, folder / "model.onnx")

    return made_once("tiny-onnx", make) / "model.onnx"


@pytest.fixture(scope="session")
def classic() -> nn.Module:
    """A small untrained network of the classic architecture: two channels in, two classes out."""
    torch.manual_seed(0)
    return build_model(ModelConfig("classic", in_channels=2, classes=2, widths=(16, 32), stem=1)).eval()


@pytest.fixture(scope="session")
def classic_file(classic: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as FP32 ONNX."""
    path = tmp_path_factory.mktemp("classic") / "model.onnx"
    export_onnx(classic, 2, (32, 48), path)
    return path


@pytest.fixture(scope="session")
def calibration(
    prepared: Callable[[str], list[TrainingCase]], checkpoint: Checkpoint
) -> Callable[[], Iterator[npt.NDArray[np.float32]]]:
    """Begins the calibration batches of the training cases anew."""
    cases = prepared("train")
    return lambda: calibration_batches(cases, checkpoint.preprocessing.context)


@pytest.fixture(scope="session")
def int8_file(
    onnx_file: Path, calibration: Callable[[], Iterator[npt.NDArray[np.float32]]], made_once: MadeOnce
) -> Path:
    """The same network as INT8 ONNX."""

    def make(folder: Path) -> None:
        folder.mkdir()
        quantise(onnx_file, calibration(), folder / "model.int8.onnx")

    return made_once("tiny-int8", make) / "model.int8.onnx"


@dataclass(frozen=True)
class Program:
    """What the program `tumortrace-export` did: its bundle, and what it printed."""

    bundle: Path
    stdout: str


@pytest.fixture(scope="session")
def by_program(tiny_checkpoint: Path, tiny_data: Path, made_once: MadeOnce) -> Program:
    """A bundle made by the program in a process of its own, with `--int8 --json`."""

    def make(folder: Path) -> None:
        command = [sys.executable, "-c", "from tumortrace_export.cli import main; main()", tiny_checkpoint]
        command += ["--data", tiny_data / "index.json", "--split", tiny_data / "split.json", "--max-drop", "1"]
        command += ["--int8", "--json", "-o", folder / "tiny.bundle"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        (folder / "stdout").write_text(done.stdout)

    folder = made_once("tiny-exported", make)
    return Program(folder / "tiny.bundle", (folder / "stdout").read_text())
