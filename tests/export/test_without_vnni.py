"""INT8 on an x86 CPU without VNNI, which QEMU emulates: such CPUs add products of uint8 and int8 in pairs in 16 bits.

OpenVINO can be told besides to use no instruction newer than AVX2, which gives the same bits and needs no QEMU.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from tumortrace_export.artefacts import Finish, Writer
from tumortrace_export.graph import WEIGHTED, constants, set_constant
from tumortrace_export.onnx_model import save_onnx
from tumortrace_export.quantise import activations
from tumortrace_export.ranges import amax, collect
from tumortrace_runtime.backends import load_backend
from tumortrace_runtime.bundle import ARTEFACTS
from tumortrace_runtime.preprocess import IntegerInput, Preprocessing, packed_batch

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="VNNI: this machine is no x86")

Process = Callable[..., str]

RUN = """
import json, sys
from pathlib import Path
import numpy as np
from tumortrace_runtime.backends import load_backend
from tumortrace_runtime.preprocess import IntegerInput
engine, model, taken, batch, out = sys.argv[1:]
taken = IntegerInput(**json.loads(taken))
with load_backend(engine, Path(model), precision="int8", threads=1, integer_input=taken) as backend:
    np.save(out, backend.run(np.load(batch)))
"""

SELF_TEST = """
import json, sys
from tumortrace_runtime import Segmenter
from tumortrace_runtime.golden import self_test
for engine in ("onnxruntime", "openvino"):
    with Segmenter(sys.argv[1], backend=engine, precision="int8", threads=1) as segmenter:
        print(json.dumps([segmenter.precision, self_test(segmenter)]))
"""


@pytest.fixture
def emulated() -> Process:
    """Runs Python code on an emulated Haswell, which has AVX2 and no VNNI."""
    qemu = shutil.which("qemu-x86_64-static") or shutil.which("qemu-x86_64")
    if qemu is None:
        pytest.skip("QEMU: no qemu-x86_64-static to emulate a CPU without VNNI; sudo apt-get install qemu-user-static")
    return lambda code, *arguments: _process([qemu, "-cpu", "Haswell"], code, arguments)


@pytest.fixture
def limited() -> Process:
    """Runs Python code in which OpenVINO uses no instruction newer than AVX2."""
    return lambda code, *arguments: _process([], code, arguments, ONEDNN_MAX_CPU_ISA="AVX2")


def _process(prefix: Sequence[str], code: str, arguments: Sequence[object], **environment: str) -> str:
    command = [*prefix, sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass(frozen=True)
class Artefact:
    """A model of the worst case, and its input.

    Attributes:
        file: as a bundle has it.
        taken: how it takes its input.
        batch: its input.
        expected: the logit in the middle of the image in FP32.
    """

    engine: str
    file: Path
    taken: IntegerInput
    batch: npt.NDArray[Any]
    expected: float

    def run_here(self) -> npt.NDArray[np.float32]:
        with load_backend(self.engine, self.file, precision="int8", threads=1, integer_input=self.taken) as backend:
            return np.asarray(backend.run(self.batch))

    def run_by(self, process: Process, folder: Path) -> npt.NDArray[np.float32]:
        np.save(folder / "batch.npy", self.batch)
        taken = json.dumps(asdict(self.taken))
        process(RUN, self.engine, self.file, taken, folder / "batch.npy", folder / "logits.npy")
        return np.asarray(np.load(folder / "logits.npy"))


@pytest.fixture
def worst_case(specimen: Callable[[str], Any], tmp_path: Path) -> Callable[[str, int], Artefact]:
    """Gives an engine's artefact, by the bits of its weights, of a network that sums equal products alone.

    Each layer gives the mean of its first eight channels, so nothing cancels, and the input is as bright as can be.
    """
    shape = specimen("unet-xs")
    model = _averaging(shape.model)
    planes = np.ones((1, 9, 32, 32), np.float32)
    save_onnx(model, source := tmp_path / "model.onnx")
    ranges = collect(source, activations(model), lambda: iter([planes]))
    magnitudes = {name: 1.25 * amax(each, "minmax") for name, each in ranges.items()}  # clipping would hide errors
    with load_backend("onnxruntime", source, precision="fp32") as backend:
        expected = float(backend.run(planes)[0, 0, 16, 16])
    spec = Preprocessing(channels=("t1", "flair", "t1ce"), grid_px=(32, 32))
    writer = Writer(tmp_path, model, shape.config, spec, ("onnx", "openvino"), Finish("logits", 0.0, statistics=False))

    def give(engine: str, weight_bits: int) -> Artefact:
        writer.write_int8(magnitudes, float_layers=(), keep_float=(), weight_bits=weight_bits)
        file = ARTEFACTS[engine, "int8" if weight_bits == 8 else "int8-7bit"]
        taken = writer.integer_inputs[file]
        return Artefact(engine, tmp_path / file, taken, packed_batch(planes, 0, 1, 0, taken), expected)

    return give


def _averaging(model: onnx.ModelProto) -> onnx.ModelProto:
    values = constants(model.graph)
    for node in model.graph.node:
        if node.op_type in WEIGHTED:
            weights = np.zeros_like(values[node.input[1]])
            weights[:, :8, weights.shape[2] // 2, weights.shape[3] // 2] = 1 / 8
            set_constant(model.graph, node.input[1], weights)
            set_constant(model.graph, node.input[2], np.zeros_like(values[node.input[2]]))
    return model


def test_openvino_saturates_with_weights_of_8_bits_alone(
    worst_case: Callable[[str, int], Artefact], limited: Process, tmp_path: Path
) -> None:
    check_worst_case("openvino", worst_case, limited, tmp_path)


def test_onnxruntime_saturates_with_weights_of_8_bits_alone(
    worst_case: Callable[[str, int], Artefact], emulated: Process, tmp_path: Path
) -> None:
    check_worst_case("onnxruntime", worst_case, emulated, tmp_path)


def check_worst_case(
    engine: str, worst_case: Callable[[str, int], Artefact], without_vnni: Process, folder: Path
) -> None:
    wide, narrow = worst_case(engine, 8), worst_case(engine, 7)

    saturated, exact = (artefact.run_by(without_vnni, folder) for artefact in (wide, narrow))

    assert saturated[0, 0, 16, 16] < 0.6 * wide.expected
    assert exact[0, 0, 16, 16] == pytest.approx(narrow.expected, rel=0.05)
    np.testing.assert_array_equal(exact, narrow.run_here())


def test_a_bundle_passes_its_self_test_there(by_program: Any, emulated: Process) -> None:
    """Its INT8 is then the one with 7 bits, whose masks are those of the machine that exported."""
    told = [json.loads(line) for line in emulated(SELF_TEST, by_program.bundle).splitlines()]

    assert [precision for precision, _ in told] == ["int8-7bit"] * 2
    assert all(set(scores.values()) == {1.0} and len(scores) == 2 for _, scores in told)
