"""The manifest: what a bundle says of itself. Its fields are specified in the README of this folder's parent."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tumortrace.checkpoint import Checkpoint
from tumortrace_export.onnx_model import INPUT, OUTPUT
from tumortrace_runtime.bundle import FORMAT, MANIFEST, SEAL, VERSION, seal_of
from tumortrace_runtime.files import canonical_json, sha256_bytes, sha256_file, write_bytes
from tumortrace_runtime.settings import to_dict

INTENDED_USE = "Research. Not a medical device: not for diagnosis, treatment or any other clinical decision."
LIMITS = [
    "Segments the tumour class that it was trained on, in the sequences that it was trained on.",
    "Was measured on the validation cases named here and on nothing else; other scanners and populations may differ.",
]
TOOLS = ("tumortrace", "torch", "onnx", "onnxruntime", "openvino", "numpy")


def describe(name: str, checkpoint: Checkpoint) -> dict[str, Any]:
    """The part of the manifest that follows from the checkpoint."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": name,
        "intended_use": INTENDED_USE,
        "limits": LIMITS,
        "input": {
            "tensor": INPUT,
            "shape": ["batch", checkpoint.model.in_channels, *checkpoint.preprocessing.grid_px],
            "dtype": "float32",
            "preprocessing": to_dict(checkpoint.preprocessing),
        },
        "output": {
            "tensor": OUTPUT,
            "shape": ["batch", checkpoint.model.classes, *checkpoint.preprocessing.grid_px],
            "dtype": "float32",
            "classes": ["background", "tumour"],
            "postprocessing": to_dict(checkpoint.postprocessing),
        },
        "model": to_dict(checkpoint.model),
        "training": dict(checkpoint.training),
        "tools": {tool: importlib.metadata.version(tool) for tool in TOOLS},
    }


def seal(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Add every file of the bundle to the manifest, and write the manifest and its hash."""
    files = {
        file.relative_to(folder).as_posix(): {"sha256": sha256_file(file), "size_bytes": file.stat().st_size}
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
    content = canonical_json({**manifest, "files": files})
    write_bytes(folder / MANIFEST, content)
    write_bytes(folder / SEAL, seal_of(sha256_bytes(content)))
