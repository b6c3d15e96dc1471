"""How a device builds its TensorRT engines, which run nowhere else: `recipe.json`, beside the ONNX files it names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tumortrace_export.onnx_model import INPUT
from tumortrace_runtime.backends.tensorrt_recipe import FORMAT, RECIPE, VERSION
from tumortrace_runtime.files import sha256_file, write_json
from tumortrace_runtime.inference import BATCH_SIZE

WORKSPACE_BYTES = 1 << 30
"""Scratch memory that the builder may use: leaves room on a Jetson of 8 GB, whose GPU shares it with everything."""


def write_recipe(folder: Path, shape: tuple[int, int, int], engines: Mapping[str, str]) -> None:
    """Write `recipe.json` for the ONNX files of a folder; the batches are those that the runtime runs.

    Args:
        folder: the bundle's `tensorrt` folder, where the ONNX files lie.
        shape: (channels, rows, columns) of the network's input.
        engines: the ONNX file's name for each precision: "fp16", "int8".

    Raises:
        OutputError: it could not be written.
    """
    recipe = {
        "format": FORMAT,
        "version": VERSION,
        "input": INPUT,
        "shape": list(shape),
        "batch": {"min": 1, "opt": BATCH_SIZE, "max": BATCH_SIZE},
        "workspace_bytes": WORKSPACE_BYTES,
        "engines": {
            precision: {"onnx": name, "sha256": sha256_file(folder / name)} for precision, name in engines.items()
        },
    }
    write_json(folder / RECIPE, recipe)
