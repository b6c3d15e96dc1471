from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tumortrace_runtime.backends import load_backend
from tumortrace_runtime.bundle import open_bundle

Program = Callable[..., Any]


def test_a_model_is_told_with_the_share_of_its_work(tumortrace: Program, tiny_bundle: Path) -> None:
    ended = tumortrace("doctor", tiny_bundle)
    assert ended.code == 0, ended.err
    lines = [line.split() for line in ended.out.splitlines()]
    (told,) = (line for line in lines if line[:2] == ["openvino", "int8"])
    assert " ".join(told[2:9]) == "runs in int8 (100.0 % of multiply-accumulates),"
    assert "each layer runs in" not in ended.out


def test_layers_stand_engine_beside_engine(tumortrace: Program, tiny_bundle: Path) -> None:
    ended = tumortrace("doctor", tiny_bundle, "--layers")
    assert ended.code == 0, ended.err
    table = ended.out.partition("asked for int8, each layer runs in:\n")[2].partition("\n\n")[0].splitlines()
    assert table[0].split()[:5] == ["layer", "kind", "MMACs", "onnxruntime", "openvino"]
    told = {row.split()[0]: row.split()[1:] for row in table[2:] if not row.startswith("head")}
    bundle = open_bundle(tiny_bundle)
    for column, name in ((2, "onnxruntime"), (3, "openvino")):
        model, taken = bundle.artefact(name, "int8"), bundle.integer_input(name, "int8")
        with load_backend(name, model, precision="int8", integer_input=taken) as backend:
            assert {layer.name: layer.precision for layer in backend.layers if layer.name != "head"} == {
                layer: cells[column] for layer, cells in told.items()
            }
    heads = [row.split() for row in table[2:] if row.startswith("head")]
    assert heads == [["head", "Conv", "1.18", "fp32"], ["head", "Conv", "2.10", "int8"]]  # 16 x 32 x 3 x 3 or x 4 x 4


def test_json_has_the_layers_always(tumortrace: Program, tiny_bundle: Path) -> None:
    ended = tumortrace("doctor", tiny_bundle, "--json")
    trials = [trial for trial in json.loads(ended.out)["trials"] if trial["backend"] in ("onnxruntime", "openvino")]
    assert len(trials) >= 6
    for trial in trials:
        assert len(trial["layers"]) == 11
        assert trial["layers"][-1] | {"precision": ""} == {
            "name": "head",
            "kind": "Conv",
            "precision": "",
            "macs": 16 * 32 * 3 * 3 * 16 * 16 * (16 if is_blocked(trial) else 9) // 9,
        }


def test_layers_without_a_bundle_are_a_wrong_usage(tumortrace: Program) -> None:
    ended = tumortrace("doctor", "--layers")
    assert ended.code == 2
    assert "name the bundle" in ended.err


def is_blocked(trial: dict[str, Any]) -> bool:
    """Whether the head is a 4 x 4 convolution with a 3 x 3 window per pixel."""
    return trial["backend"] == "openvino" and trial["precision"].startswith("int8")
