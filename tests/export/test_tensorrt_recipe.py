"""The recipe names what lies beside it, and the batches that the runtime runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tumortrace_export.tensorrt_recipe import write_recipe
from tumortrace_runtime.files import sha256_bytes
from tumortrace_runtime.inference import BATCH_SIZE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.fp16.onnx").write_bytes(b"half")
    (tmp_path / "model.int8-fp16.onnx").write_bytes(b"integers")
    return tmp_path


def test_the_recipe_is_as_specified(folder: Path) -> None:
    write_recipe(folder, (9, 256, 192), {"fp16": "model.fp16.onnx", "int8": "model.int8-fp16.onnx"})
    recipe = json.loads((folder / "recipe.json").read_bytes())
    workspace_bytes = recipe.pop("workspace_bytes")
    assert isinstance(workspace_bytes, int)
    assert 64 << 20 <= workspace_bytes <= 2 << 30
    assert recipe == {
        "format": "tumortrace-tensorrt-recipe",
        "version": 1,
        "input": "input",
        "shape": [9, 256, 192],
        "batch": {"min": 1, "opt": BATCH_SIZE, "max": BATCH_SIZE},
        "engines": {
            "fp16": {"onnx": "model.fp16.onnx", "sha256": sha256_bytes(b"half")},
            "int8": {"onnx": "model.int8-fp16.onnx", "sha256": sha256_bytes(b"integers")},
        },
    }


def test_only_the_engines_that_were_made_are_named(folder: Path) -> None:
    write_recipe(folder, (9, 256, 256), {"fp16": "model.fp16.onnx"})
    assert list(json.loads((folder / "recipe.json").read_bytes())["engines"]) == ["fp16"]


def test_equal_models_give_equal_bytes(folder: Path) -> None:
    engines = {"fp16": "model.fp16.onnx", "int8": "model.int8-fp16.onnx"}
    write_recipe(folder, (9, 256, 256), engines)
    before = (folder / "recipe.json").read_bytes()
    write_recipe(folder, (9, 256, 256), dict(reversed(engines.items())))
    assert (folder / "recipe.json").read_bytes() == before
