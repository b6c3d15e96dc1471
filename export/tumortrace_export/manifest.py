"""The manifest: what a bundle says of itself. Its fields are specified in the README of this folder's parent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tumortrace.checkpoint import Checkpoint
from tumortrace.index import Index
from tumortrace.split import Split
from tumortrace_export.assess import Accuracy
from tumortrace_export.calibration import SLICES_PER_CASE
from tumortrace_export.int8 import Found
from tumortrace_export.onnx_model import INPUT, OUTPUT
from tumortrace_export.outputs import MASK, STATISTICS
from tumortrace_export.rows import Exported, Row
from tumortrace_export.settings import Settings
from tumortrace_runtime.algorithm import LESION
from tumortrace_runtime.backends.backend import count_precisions, layer_report
from tumortrace_runtime.bundle import FORMAT, MANIFEST, SEAL, VERSION, seal_of
from tumortrace_runtime.files import canonical_json, sha256_bytes, sha256_file, write_bytes
from tumortrace_runtime.machine import inspect_machine
from tumortrace_runtime.settings import to_dict
from tumortrace_runtime.version import installed_version

INTENDED_USE = "Research. Not a medical device: not for diagnosis, treatment or any other clinical decision."
LIMITS = [
    "Segments the tumour class that it was trained on, in the sequences that it was trained on.",
    "Was measured on the validation cases named here and on nothing else; other scanners and populations may differ.",
]
TOOLS = ("tumortrace", "torch", "onnx", "onnxruntime", "openvino", "numpy")


@dataclass(frozen=True)
class Cases:
    """Which cases do what, by their ids: set INT8 ranges, if any do, hold the gate, are scored once for the record."""

    calibration: Sequence[str]
    validation: Sequence[str]
    test: Sequence[str]


def write_manifest(
    folder: Path,
    name: str,
    checkpoint: Checkpoint,
    index: Index,
    split: Split,
    settings: Settings,
    cases: Cases,
    exported: Exported,
) -> None:
    """Write the manifest of a bundle whose other files are all in `folder`, and the manifest's hash."""
    data = {"index_sha256": index.sha256, "split_sha256": split.sha256}
    manifest = {
        **_describe(name, checkpoint, settings),
        "calibration": _calibration(cases.calibration, exported.int8) if exported.int8 else None,
        "validation": {"cases": list(cases.validation), **data, "gate": asdict(settings.gate)},
        "test": _test(cases.test, exported.test) if exported.test else None,
        "fp16": {"float_layers": list(exported.fp16_float_layers)},
        "integer_inputs": {file: to_dict(taken) for file, taken in exported.integer_inputs.items()},
        "artefacts": [_artefact(row) for row in exported.rows],
        "measurements": _measurements(exported),
    }
    _seal(folder, manifest)


def _describe(name: str, checkpoint: Checkpoint, settings: Settings) -> dict[str, Any]:
    """The part of the manifest that follows from the checkpoint and the settings."""
    rows, columns = checkpoint.preprocessing.grid_px
    classes = checkpoint.model.classes
    masks = settings.output == "mask"
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": name,
        "intended_use": INTENDED_USE,
        "limits": LIMITS,
        "input": {
            "tensor": INPUT,
            "shape": ["batch", checkpoint.model.in_channels, rows, columns],
            "dtype": "float32",
            "preprocessing": to_dict(checkpoint.preprocessing),
        },
        "output": {
            "tensor": MASK if masks else OUTPUT,
            "shape": ["batch", rows, columns] if masks else ["batch", classes, rows, columns],
            "dtype": "uint8" if masks else "float32",
            "statistics": STATISTICS if settings.bottleneck_statistics else None,
            "classes": ["background", "tumour"],
            "segments": [to_dict(LESION)],
            "postprocessing": to_dict(checkpoint.postprocessing),
        },
        "model": to_dict(checkpoint.model),
        "training": dict(checkpoint.training),
        "tools": {tool: version for tool in TOOLS if (version := installed_version(tool, tool))},
    }


def _calibration(names: Sequence[str], found: Found) -> dict[str, Any]:
    return {
        "method": found.method,
        "tried": {
            method: {
                "dice": accuracy.dice,
                "flipped_per_million": accuracy.flipped_per_million,
                "flipped_per_million_spoiled": found.spoiled.get(method),
            }
            for method, accuracy in found.tried.items()
        },
        "float_layers": list(found.float_layers),
        "cases": list(names),
        "cases_sha256": sha256_bytes(canonical_json(list(names))),
        "slices_per_case": SLICES_PER_CASE if names else 0,
    }


def _test(names: Sequence[str], test: Mapping[str, Accuracy]) -> dict[str, Any]:
    return {"cases": list(names), "accuracy": {name: asdict(accuracy) for name, accuracy in test.items()}}


def _artefact(row: Row) -> dict[str, Any]:
    return {
        "backend": row.backend,
        "precision": row.precision,
        "path": row.file,
        "format": "openvino" if row.file.endswith(".xml") else "onnx",
        "size_bytes": row.size_bytes,
        "executed_precision": row.executed_precision,
        "layer_precisions": count_precisions(row.layers),
        **layer_report(row.layers),
        "accuracy": row.accuracy and asdict(row.accuracy),
    }


def _measurements(exported: Exported) -> dict[str, Any]:
    """All that differs between two exports of the same inputs."""
    timed = [row for row in exported.rows if row.timing]
    return {
        "created_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cpu": asdict(inspect_machine().cpu),
        "made_s": {row.name: row.made_s for row in exported.rows if row.file},
        "ms_per_slice": {row.name: asdict(row.timing) for row in timed if row.timing},
        "speedup_over_pytorch": {row.name: row.speedup for row in timed},
        "ms_per_slice_without_fallback": {name: asdict(timing) for name, timing in exported.without_fallback.items()},
        "preferred": dict(exported.preferred),
    }


def _seal(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Add every file of the bundle to the manifest, and write the manifest and its hash."""
    files = {
        file.relative_to(folder).as_posix(): {"sha256": sha256_file(file), "size_bytes": file.stat().st_size}
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
    content = canonical_json({**manifest, "files": files})
    write_bytes(folder / MANIFEST, content)
    write_bytes(folder / SEAL, seal_of(sha256_bytes(content)))
