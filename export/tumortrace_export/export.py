"""The export stage, whole: a checkpoint in, a measured bundle out, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tumortrace.checkpoint import Checkpoint
from tumortrace.dataset import TrainingCase, prepare_case
from tumortrace.index import Index, open_case
from tumortrace.model import channels_last
from tumortrace.predict import network_runner
from tumortrace.split import Split
from tumortrace_export import calibration
from tumortrace_export.assess import Accuracy, CaseOutput, compare, run_cases, time_slices
from tumortrace_export.golden import write_golden
from tumortrace_export.manifest import describe, seal
from tumortrace_export.onnx_model import export_onnx, to_fp16
from tumortrace_export.openvino_ir import write_ir
from tumortrace_export.quantise import quantise
from tumortrace_runtime.backends import Backend, load_backend
from tumortrace_runtime.bench import Timing, speedups
from tumortrace_runtime.bundle import ARTEFACTS, model_files
from tumortrace_runtime.errors import AccuracyError, DatasetError
from tumortrace_runtime.files import atomic_directory, canonical_json, sha256_bytes
from tumortrace_runtime.machine import inspect_machine

PYTORCH = "PyTorch fp32"
PYTORCH_NHWC = "PyTorch-NHWC fp32"
FP32_LOGIT_TOLERANCE = 1e-2
BACKEND_OF_FORMAT = {"onnx": "onnxruntime", "openvino": "openvino"}

Report = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """What to export.

    Attributes:
        int8: whether to quantise.
        formats: "onnx", "openvino" or both; the FP32 ONNX is always there.
        max_drop: how much mean validation Dice an artefact may lose against PyTorch in FP32.
    """

    int8: bool
    formats: Sequence[str] = ("onnx", "openvino")
    max_drop: float = 0.005

    @property
    def precisions(self) -> tuple[str, ...]:
        """What is written, the FP32 source first."""
        return ("fp32", "fp16", "int8") if self.int8 else ("fp32", "fp16")


@dataclass(frozen=True)
class Row:
    """One line of the export's table: an engine, or PyTorch, at one precision.

    Attributes:
        backend: the engine's name.
        precision: of the artefact.
        file: in the bundle; "" for PyTorch.
        size_bytes: of the artefact, weights included.
        executed_precision: what most layers really ran in.
        layer_precisions: how many layers ran in which precision.
        accuracy: on the validation cases.
        timing: per slice, in batches of the size that the runtime uses.
        speedup: times as fast as PyTorch eager in its default memory order, by medians of the same run.
    """

    backend: str
    precision: str
    file: str
    size_bytes: int
    executed_precision: str
    layer_precisions: Mapping[str, int]
    accuracy: Accuracy
    timing: Timing
    speedup: float


def export(
    checkpoint: Checkpoint,
    index: Index,
    split: Split,
    out: Path,
    settings: Settings,
    *,
    fold: int | None = None,
    report: Report = lambda line: None,
) -> list[Row]:
    """Write the bundle `out`, or nothing where an artefact lost too much.

    Raises:
        DatasetError: the checkpoint was trained on another split, or calibration and validation overlap.
        AccuracyError: an artefact's mean validation Dice is lower than PyTorch's by more than `settings.max_drop`.
        OutputError: `out` exists or cannot be written.
    """
    validation_ids = split.part("val", fold)
    _check_provenance(checkpoint, split, validation_ids)
    calibration_ids = calibration.choose_cases(split.part("train", fold), validation_ids)
    with atomic_directory(out) as folder:
        report(f"reading {len(validation_ids)} validation cases")
        cases = [prepare_case(open_case(index, name), checkpoint.preprocessing) for name in validation_ids]
        _write_models(checkpoint, folder, settings, _calibration_cases(index, checkpoint, calibration_ids), report)
        rows = _measure(checkpoint, folder, settings, cases, report)
        manifest = {
            **describe(out.name.removesuffix(".bundle"), checkpoint),
            "calibration": _calibration_record(calibration_ids) if settings.int8 else None,
            "validation": {"cases": validation_ids, "index_sha256": index.sha256, "split_sha256": split.sha256},
            "artefacts": [_artefact_record(row) for row in rows],
            "measurements": _measurements(rows),
        }
        seal(folder, manifest)
    return rows


def _check_provenance(checkpoint: Checkpoint, split: Split, validation_ids: Sequence[str]) -> None:
    trained_on = checkpoint.training.get("data", {})
    if trained_on.get("split_sha256") != split.sha256:
        raise DatasetError("the checkpoint was trained on another split; give the split that it was trained on.")
    if seen := sorted(set(trained_on.get("training_cases", ())) & set(validation_ids)):
        raise DatasetError(f"the checkpoint was trained on {seen[0]}, which would score it; give the fold it had.")


def _calibration_cases(index: Index, checkpoint: Checkpoint, names: Sequence[str]) -> Iterator[TrainingCase]:
    return (prepare_case(open_case(index, name), checkpoint.preprocessing) for name in names)


def _write_models(
    checkpoint: Checkpoint, folder: Path, settings: Settings, cases: Iterator[TrainingCase], report: Report
) -> None:
    spec = checkpoint.preprocessing
    source = folder / "model.onnx"
    report("writing ONNX fp32")
    export_onnx(checkpoint.network(), spec.in_channels, spec.grid_px, source)
    for precision in settings.precisions[1:]:
        report(f"writing {precision}")
        onnx_file = folder / f"model.{precision}.onnx"
        if precision == "fp16":
            to_fp16(source, onnx_file)
        else:
            quantise(source, calibration.calibration_batches(cases, spec.context), onnx_file)
        if "openvino" in settings.formats:
            # compress_to_fp16 makes FP16 of the FP32 source; OpenVINO chooses the arithmetic itself
            write_ir(source if precision == "fp16" else onnx_file, folder / f"openvino/model.{precision}.xml")
        if "onnx" not in settings.formats:
            onnx_file.unlink()


def _measure(
    checkpoint: Checkpoint, folder: Path, settings: Settings, cases: Sequence[TrainingCase], report: Report
) -> list[Row]:
    """Every artefact's accuracy, then all their speeds in turn, and the golden inputs from the engines at hand."""
    context, postprocessing = checkpoint.preprocessing.context, checkpoint.postprocessing
    with ExitStack() as stack:
        backends = {
            f"{backend} {precision}": stack.enter_context(
                load_backend(backend, folder / file, device=None, precision=precision)
            )
            for (backend, precision), file in _artefacts(folder, settings)
        }
        runs = {
            PYTORCH: network_runner(checkpoint.network()),
            PYTORCH_NHWC: network_runner(channels_last(checkpoint.network())),
            **{name: backend.run for name, backend in backends.items()},
        }
        reference: dict[str, CaseOutput] = {}
        accuracies: dict[str, Accuracy] = {}
        for name, run in runs.items():
            report(f"measuring {name} on {len(cases)} cases")
            outputs = run_cases(run, cases, context, postprocessing)
            reference = reference or outputs
            accuracies[name] = compare(outputs, reference)
            _gate(name, accuracies[name], settings.max_drop)
        timings = time_slices(runs, cases[0], context)
        engines = {name: backend.run for name, backend in backends.items()}
        write_golden(folder, engines, checkpoint.preprocessing, postprocessing)
        faster = speedups(timings, PYTORCH)
        return [_row(name, backends.get(name), folder, accuracies[name], timings[name], faster[name]) for name in runs]


def _artefacts(folder: Path, settings: Settings) -> list[tuple[tuple[str, str], str]]:
    wanted = {BACKEND_OF_FORMAT[name] for name in settings.formats}
    return [
        (choice, file)
        for choice, file in ARTEFACTS.items()
        if choice[0] in wanted and choice[1] != "bf16" and (folder / file).is_file()
    ]


def _gate(name: str, accuracy: Accuracy, max_drop: float) -> None:
    if accuracy.drop > max_drop:
        raise AccuracyError(
            f"{name}: mean validation Dice {accuracy.dice:.4f} is {accuracy.drop:.4f} below PyTorch's; at most "
            f"{max_drop} was allowed (--max-drop). Nothing was written."
        )
    if name.endswith("fp32") and accuracy.largest_logit_error > FP32_LOGIT_TOLERANCE:
        raise AccuracyError(
            f"{name}: a logit differs from PyTorch's by {accuracy.largest_logit_error:.3g}; at most "
            f"{FP32_LOGIT_TOLERANCE} wanted in FP32. Nothing was written."
        )


def _row(name: str, backend: Backend | None, folder: Path, accuracy: Accuracy, timing: Timing, speedup: float) -> Row:
    engine, precision = name.split()
    if backend is None:
        return Row(engine, precision, "", 0, precision, {}, accuracy, timing, speedup)
    file = ARTEFACTS[(engine, precision)]
    size = sum((folder / part).stat().st_size for part in model_files(file))
    executed, layers = backend.executed_precision, dict(backend.layer_precisions)
    return Row(engine, precision, file, size, executed, layers, accuracy, timing, speedup)


def _artefact_record(row: Row) -> dict[str, Any]:
    return {
        "backend": row.backend,
        "precision": row.precision,
        "path": row.file,
        "format": "openvino" if row.file.endswith(".xml") else "onnx",
        "size_bytes": row.size_bytes,
        "executed_precision": row.executed_precision,
        "layer_precisions": dict(row.layer_precisions),
        "accuracy": asdict(row.accuracy),
    }


def _calibration_record(names: Sequence[str]) -> dict[str, Any]:
    return {
        "method": calibration.METHOD,
        "cases": list(names),
        "cases_sha256": sha256_bytes(canonical_json(list(names))),
        "slices_per_case": calibration.SLICES_PER_CASE,
    }


def _measurements(rows: Sequence[Row]) -> dict[str, Any]:
    """All that differs between two exports of the same inputs."""
    return {
        "created_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cpu": asdict(inspect_machine().cpu),
        "ms_per_slice": {f"{row.backend} {row.precision}": asdict(row.timing) for row in rows},
        "speedup_over_pytorch": {f"{row.backend} {row.precision}": row.speedup for row in rows},
    }
