from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from tumortrace.checkpoint import Checkpoint, load_checkpoint
from tumortrace.dataset import TrainingCase, prepare_case
from tumortrace.index import Index, load_index, open_case
from tumortrace.model import FAMILY, ModelConfig, build_model
from tumortrace.split import Split, load_split
from tumortrace_export.calibration import calibration_batches
from tumortrace_export.onnx_model import INPUT, OUTPUT, onnx_model, save_onnx
from tumortrace_export.openvino_ir import write_ir
from tumortrace_export.quantise import activations, quantise
from tumortrace_export.ranges import amax, collect
from tumortrace_runtime.backends import Backend, load_backend
from tumortrace_runtime.preprocess import IntegerInput, network_batch

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
        save_onnx(onnx_model(network, preprocessing.in_channels, preprocessing.grid_px), folder / "model.onnx")

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
    save_onnx(onnx_model(classic, 2, (32, 48)), path)
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
        save_onnx(quantise(onnx.load(onnx_file), magnitudes(onnx_file, calibration)), folder / "model.int8.onnx")

    return made_once("tiny-int8", make) / "model.int8.onnx"


def magnitudes(source: Path, batches: Callable[[], Iterator[npt.NDArray[np.float32]]]) -> dict[str, float]:
    """The largest magnitude that each activation of an FP32 model takes."""
    return {
        name: amax(each, "minmax") for name, each in collect(source, activations(onnx.load(source)), batches).items()
    }


SPECIMENS = {
    **FAMILY,
    "three classes": ModelConfig("compact", in_channels=9, classes=3, widths=(16, 32), stem=2),
    "no stem": ModelConfig("compact", in_channels=9, classes=1, widths=(16, 32), stem=1),
    "classic": ModelConfig("classic", in_channels=9, classes=1, widths=(16, 32, 48), stem=1),
}


@dataclass(frozen=True, eq=False)
class Specimen:
    """A network whose layers all matter to its logits, and slices for it.

    Attributes:
        config: its shape.
        file: FP32 ONNX.
        planes: (slices, 3, 32, 32) float32, prepared slices.
        batch: the same as the network takes them.
        magnitudes: the largest that each activation takes on them.
    """

    config: ModelConfig
    file: Path
    planes: npt.NDArray[np.float32]
    batch: npt.NDArray[np.float32]
    magnitudes: Mapping[str, float]

    @property
    def model(self) -> onnx.ModelProto:
        """The network, the caller's own."""
        return onnx.load(self.file)

    def quantised(self, widened: float = 1.0, **options: Any) -> onnx.ModelProto:
        """The network with Q/DQ pairs, nothing of the slices clipped; `widened` leaves room beyond."""
        return quantise(self.model, {name: widened * size for name, size in self.magnitudes.items()}, **options)

    def packed(self, start: int, stop: int, taken: IntegerInput) -> npt.NDArray[np.generic]:
        """Slices as a lowered model takes them, rounded as QuantizeLinear does it: `packed_batch` without dither."""
        limits, block = np.iinfo(taken.dtype), taken.block_px
        rounded = np.rint(self.batch[start:stop] / np.float32(taken.scale)) + np.float32(taken.zero_point)
        integers = torch.from_numpy(np.clip(rounded, limits.min, limits.max))
        blocks = nn.PixelUnshuffle(block)(integers).permute(0, 2, 3, 1).contiguous()
        return blocks.numpy().astype(taken.dtype)


@pytest.fixture(scope="session")
def specimen(made_once: MadeOnce) -> Callable[[str], Specimen]:
    """Gives one of `SPECIMENS` by its name."""

    @cache
    def give(name: str) -> Specimen:
        def make(folder: Path) -> None:
            folder.mkdir()
            save_onnx(onnx_model(_unlike_fresh(SPECIMENS[name]), 9, (32, 32)), folder / "model.onnx")

        file = made_once(f"specimen {name}", make) / "model.onnx"
        planes = np.random.default_rng(0).standard_normal((5, 3, 32, 32)).astype(np.float32)
        batch = network_batch(planes, 0, len(planes), 1)
        return Specimen(SPECIMENS[name], file, planes, batch, magnitudes(file, lambda: iter([batch])))

    return give


def _unlike_fresh(config: ModelConfig) -> nn.Module:
    """A network with biases, and with a head that makes more than noise."""
    torch.manual_seed(7)
    network = build_model(config).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias, std=0.3)
    assert isinstance(network.head, nn.Conv2d) and network.head.bias is not None
    nn.init.normal_(network.head.weight, std=0.1)
    nn.init.normal_(network.head.bias, std=0.5)
    return network


@pytest.fixture(scope="session")
def run_model() -> Callable[..., npt.NDArray[Any]]:
    """Gives a tensor of a model that ONNX Runtime runs, by default as the file says, operator by operator."""
    levels = onnxruntime.GraphOptimizationLevel

    def run(
        model: onnx.ModelProto, batch: npt.NDArray[Any], name: str = OUTPUT, *, optimised: bool = False
    ) -> npt.NDArray[Any]:
        given = onnx.ModelProto()
        given.CopyFrom(model)
        if name not in [item.name for item in given.graph.output]:
            given.graph.output.append(onnx.ValueInfoProto(name=name))
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimised else levels.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(given.SerializeToString(), options, providers=["CPUExecutionProvider"])
        (values,) = session.run([name], {INPUT: batch})
        return np.asarray(values)

    return run


@pytest.fixture
def load_model(tmp_path: Path) -> Iterator[Callable[..., Backend]]:
    """Loads a model into an engine, OpenVINO by way of its IR, as a bundle has it."""
    with ExitStack() as stack:

        def load(
            engine: str, model: onnx.ModelProto, integer_input: IntegerInput | None = None, precision: str = "int8"
        ) -> Backend:
            folder = tmp_path / f"loaded-{len(list(tmp_path.iterdir()))}"
            save_onnx(model, file := folder / "model.onnx")
            if engine == "openvino":
                write_ir(file, file.with_suffix(".xml"))
                file = file.with_suffix(".xml")
            return stack.enter_context(load_backend(engine, file, precision=precision, integer_input=integer_input))

        yield load


@pytest.fixture(scope="session")
def openvino_logits(
    specimen: Callable[[str], Specimen], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], npt.NDArray[np.float32]]:
    """Gives the logits of a specimen's slices by its INT8 model, which takes floats, on OpenVINO."""

    @cache
    def give(name: str) -> npt.NDArray[np.float32]:
        folder = tmp_path_factory.mktemp("plain")
        save_onnx(specimen(name).quantised(), folder / "model.onnx")
        write_ir(folder / "model.onnx", folder / "model.xml")
        with load_backend("openvino", folder / "model.xml", precision="int8") as backend:
            return backend.run(specimen(name).batch)

    return give


@dataclass(frozen=True)
class Program:
    """What the program `tumortrace-export` did: its bundle, what it printed, and its cache."""

    bundle: Path
    stdout: str
    cache: Path


@pytest.fixture(scope="session")
def by_program(tiny_checkpoint: Path, tiny_data: Path, made_once: MadeOnce) -> Program:
    """A bundle made by the program in a process of its own, with `--int8 --json`."""

    def make(folder: Path) -> None:
        command = [sys.executable, "-c", "from tumortrace_export.cli import main; main()", str(tiny_checkpoint)]
        command += ["--data", f"{tiny_data}/index.json", "--split", f"{tiny_data}/split.json", "--max-drop", "1"]
        command += ["--max-case-drop", "1", "--int8", "--json", "-o", f"{folder}/tiny.bundle"]
        environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr
        (folder / "stdout").write_text(done.stdout)

    folder = made_once("tiny-exported", make)
    return Program(folder / "tiny.bundle", (folder / "stdout").read_text(), folder / "cache")
