"""The model files of a bundle: every precision and engine out of one FP32 network, INT8 quantised once."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from tumortrace.model import ModelConfig
from tumortrace_export.lowering import block_head, take_integers
from tumortrace_export.onnx_lint import lint
from tumortrace_export.onnx_model import save_onnx
from tumortrace_export.outputs import STATISTICS_STEPS, Output, give_mask, give_statistics
from tumortrace_export.quantise import quantise
from tumortrace_export.tensorrt_model import to_strongly_typed
from tumortrace_export.tensorrt_recipe import write_recipe
from tumortrace_export.unsigned import to_unsigned, unsigned_behind_relu
from tumortrace_runtime.bundle import ARTEFACTS, NARROW_WEIGHTS
from tumortrace_runtime.preprocess import IntegerInput, Preprocessing

FP32, FP16, INT8 = "model.onnx", "model.fp16.onnx", "model.int8.onnx"
NARROW_BITS = 7

ENGINE_OF_FORMAT = {"onnx": "onnxruntime", "openvino": "openvino", "tensorrt": "tensorrt"}


@dataclass(frozen=True)
class Finish:
    """What every artefact of a bundle gives.

    Attributes:
        output: "logits", or "mask", which the graph thresholds itself.
        threshold_logit: of the mask.
        statistics: whether those of the bottleneck are a second output.
    """

    output: Output
    threshold_logit: float
    statistics: bool

    def __call__(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """A copy of a network that gives logits."""
        if self.statistics:
            model = give_statistics(model)
        return give_mask(model, self.threshold_logit) if self.output == "mask" else model


@dataclass
class Writer:
    """Writes the model files of one bundle.

    Attributes:
        folder: of the bundle.
        network: FP32, giving logits.
        config: the network's shape.
        spec: what it takes.
        formats: which engines get artefacts.
        finish: what artefacts give.
        made_s: seconds that each file took, by its path in the bundle.
        integer_inputs: how a file takes its input as integers, by its path.
    """

    folder: Path
    network: onnx.ModelProto
    config: ModelConfig
    spec: Preprocessing
    formats: Collection[str]
    finish: Finish
    made_s: dict[str, float] = field(default_factory=dict)
    integer_inputs: dict[str, IntegerInput] = field(default_factory=dict)

    def write_fp32(self) -> None:
        """The portable source."""
        self._make(FP32, lambda path: save_onnx(self.finish(self.network), path))

    def write_fp16(self, keep_float: Collection[str]) -> None:
        """FP16 for every engine; `keep_float` names the layers that FP16 cannot hold."""
        source = self.folder / FP32
        if "onnx" in self.formats:
            self._make(FP16, lambda path: self._halve(source, path, keep_float))
        if "openvino" in self.formats:
            self._make(ARTEFACTS["openvino", "fp16"], lambda path: _write_ir(source, path))
        if "tensorrt" in self.formats:
            self._make(ARTEFACTS["tensorrt", "fp16"], lambda path: self._halve(source, path, keep_float))

    def write_int8(
        self,
        magnitudes: Mapping[str, float],
        *,
        float_layers: Collection[str],
        keep_float: Collection[str],
        weight_bits: int = 8,
        engines: Collection[str] = ("onnxruntime", "openvino", "tensorrt"),
    ) -> None:
        """INT8 for every engine among `engines` and the formats, out of one Q/DQ model.

        Args:
            magnitudes: what activations are clipped at.
            float_layers: stay float.
            keep_float: layers that FP16 cannot hold, where the rest around INT8 is FP16.
            weight_bits: 8 or 7; TensorRT and the portable source have 8 alone.
            engines: which of them.
        """
        model = quantise(self.network, magnitudes, float_layers=float_layers, weight_bits=weight_bits)
        precision = "int8" if weight_bits == 8 else f"int8{NARROW_WEIGHTS}"
        if "onnx" in self.formats and "onnxruntime" in engines:
            self._make_integer("onnxruntime", precision, to_unsigned(model))
        if "openvino" in self.formats and "openvino" in engines:
            # Without VNNI OpenVINO halves the weights of a layer that takes int8, and rounds them; one that takes
            # uint8 it computes as all CPUs do.
            source = unsigned_behind_relu(model) if weight_bits == 8 else to_unsigned(model)
            self._make_integer("openvino", precision, block_head(source))
        if weight_bits == 8 and "tensorrt" in engines:
            self._make(INT8, lambda path: save_onnx(self.finish(model), path))
            if "tensorrt" in self.formats:
                path = ARTEFACTS["tensorrt", "int8"]
                self._make(path, lambda path: self._halve(self.folder / INT8, path, keep_float))

    def write_recipe(self) -> None:
        """How a device builds TensorRT engines of what is there."""
        names = {
            precision: Path(file).name
            for (engine, precision), file in ARTEFACTS.items()
            if engine == "tensorrt" and (self.folder / file).is_file()
        }
        if names:
            rows, columns = self.spec.grid_px
            write_recipe(self.folder / "tensorrt", (self.spec.in_channels, rows, columns), names)

    def drop(self, backend: str, precision: str) -> None:
        """Take an artefact away that lost too much."""
        file = ARTEFACTS[backend, precision]
        for path in (self.folder / file, (self.folder / file).with_suffix(".bin")):
            path.unlink(missing_ok=True)
        self.integer_inputs.pop(file, None)

    def choices(self) -> Iterator[tuple[str, str, str]]:
        """Backend, precision and file of every artefact that is there and that a format asks for."""
        wanted = {ENGINE_OF_FORMAT[name] for name in self.formats}
        for (backend, precision), file in ARTEFACTS.items():
            if backend in wanted and (self.folder / file).is_file():
                yield backend, precision, file

    def _halve(self, source: Path, path: Path, keep_float: Collection[str]) -> None:
        # squares of features overflow FP16, and a variance is what is left of two large numbers
        statistics = STATISTICS_STEPS if self.finish.statistics else ()
        to_strongly_typed(source, path, [*keep_float, *statistics])

    def _make_integer(self, backend: str, precision: str, model: onnx.ModelProto) -> None:
        """Write the artefact of a CPU engine, which takes integers where its first layer does."""
        file = ARTEFACTS[backend, precision]
        lowered = take_integers(model, self.config.stem)
        if lowered is None:
            self.integer_inputs.pop(file, None)
        else:
            model, self.integer_inputs[file] = lowered
        finished = self.finish(model)
        self._make(file, lambda path: _save_ir(finished, path) if path.suffix == ".xml" else save_onnx(finished, path))

    def _make(self, file: str, write: Callable[[Path], None]) -> None:
        started = time.perf_counter()
        path = self.folder / file
        path.parent.mkdir(exist_ok=True)
        write(path)
        if path.suffix == ".onnx":
            lint(path, tensorrt=file.startswith("tensorrt/"))
        self.made_s[file] = time.perf_counter() - started


def _save_ir(model: onnx.ModelProto, path: Path) -> None:
    source = path.with_suffix(".onnx")
    save_onnx(model, source)
    _write_ir(source, path)
    source.unlink()


def _write_ir(source: Path, path: Path) -> None:
    from tumortrace_export.openvino_ir import write_ir  # OpenVINO may not be there

    write_ir(source, path)
