from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tumortrace.checkpoint import CONFIG, WEIGHTS, load_checkpoint, save_checkpoint
from tumortrace_export.cli import main
from tumortrace_runtime.bundle import open_bundle
from tumortrace_runtime.files import read_json, write_json
from tumortrace_runtime.version import __version__

Outcome = tuple[int, str, str]


@pytest.fixture
def program(
    tiny_data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """Runs the entry point of `tumortrace-export`; its exit code, stdout and stderr."""
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")

    def run(*arguments: object, index: Path = tiny_data / "index.json") -> Outcome:
        given = [*arguments, "--data", index, "--split", tiny_data / "split.json"]
        monkeypatch.setattr(sys, "argv", ["tumortrace-export", *map(str, given)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


def test_json_is_all_that_stands_on_stdout(by_program: Any) -> None:
    result = json.loads(by_program.stdout)
    assert result["bundle"] == str(by_program.bundle)
    manifest = open_bundle(by_program.bundle).manifest
    assert len(result["artefacts"]) == 8
    for printed, stored in zip(result["artefacts"], manifest["artefacts"], strict=True):
        assert printed["accuracy"] == stored["accuracy"]
        assert printed["file"] == stored["path"]
        assert printed["timing"]["median_ms"] > 0


def test_one_format_without_int8_and_a_table_of_it(
    program: Callable[..., Outcome], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "intel.bundle"
    code, said, progress = program(tiny_checkpoint, "--format", "openvino", "--max-drop", "1", "-o", out)

    assert code == 0
    headings, rule, *lines = said.splitlines()
    assert " ".join(headings.split()) == "engine precision ran in MB Dice worst drop flipped ppm ms/slice speed-up"
    assert set(rule) == {"-", " "}
    assert [line.split()[:2] for line in lines[:4]] == [
        ["PyTorch", "fp32"],
        ["PyTorch-NHWC", "fp32"],
        ["openvino", "fp32"],
        ["openvino", "fp16"],
    ]
    assert lines[2].split()[3:7] == ["1.6", *lines[0].split()[-6:-4], "+0.0000"]
    assert lines[5:] == [str(out), f"tumortrace doctor {out}", f"tumortrace segment {out} SCAN -o OUT"]
    assert progress.splitlines()[:2] == ["reading 2 validation cases", "writing ONNX fp32"]

    manifest = open_bundle(out).manifest
    models = {file for file in manifest["files"] if "model" in file}
    assert models == {"model.onnx", "openvino/model.fp16.xml", "openvino/model.fp16.bin"}
    assert (manifest["name"], manifest["calibration"]) == ("intel", None)


def test_accuracy_not_reached_ends_with_3_and_leaves_nothing(
    program: Callable[..., Outcome], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    """FP32 computes what it computed before; INT8, with one scale for all channels, loses all but the loud one."""
    loud = load_checkpoint(tiny_checkpoint)
    weights = {name: tensor.clone() for name, tensor in loud.weights.items()}
    for name in ("encoder.0.0.1.weight", "encoder.0.0.1.bias"):
        weights[name][0] *= 1000
    weights["encoder.0.1.0.weight"][:, 0] /= 1000
    save_checkpoint(tmp_path / "loud", replace(loud, weights=weights))
    out = tmp_path / "loud.bundle"
    code, said, progress = program(tmp_path / "loud", "--int8", "--format", "onnx", "--max-drop", "0.02", "-o", out)

    assert (code, said) == (3, "")
    message = progress.splitlines()[-1]
    assert message.startswith("Error: onnxruntime int8: mean validation Dice ")
    assert message.endswith("at most 0.02 was allowed (--max-drop). Nothing was written.")
    assert [file.name for file in tmp_path.iterdir()] == ["loud"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--format", "onnx,tflite"), "--format 'tflite'; a list of onnx, openvino wanted"),
        (("--max-drop", "little"), "'little' is not a valid float"),
        (("--fold", "7"), "There is no fold 7"),
    ],
)
def test_wrong_usage_ends_with_2(
    arguments: tuple[str, ...], told: str, program: Callable[..., Outcome], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    code, said, err = program(tiny_checkpoint, "-o", tmp_path / "tiny.bundle", *arguments)
    assert (code, said) == (2, "")
    assert told in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_an_existing_bundle_ends_with_2(program: Callable[..., Outcome], tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.bundle").mkdir()
    code, _, err = program(tiny_checkpoint, "-o", tmp_path / "tiny.bundle")
    assert code == 2
    assert f"Error: {tmp_path}/tiny.bundle: already exists" in err
    assert list((tmp_path / "tiny.bundle").iterdir()) == []


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda path: (path / WEIGHTS).write_bytes(b"\0" + (path / WEIGHTS).read_bytes()[1:]), "the file was altered"),
        (lambda path: write_json(path / CONFIG, {**read_json(path / CONFIG), "version": 99}), "99"),
        (lambda path: (path / CONFIG).unlink(), "is no checkpoint"),
    ],
    ids=["a flipped byte", "another version", "no description"],
)
def test_a_damaged_checkpoint_ends_with_2(
    damage: Callable[[Path], Any],
    told: str,
    program: Callable[..., Outcome],
    tiny_checkpoint: Path,
    tmp_path: Path,
) -> None:
    damaged = Path(shutil.copytree(tiny_checkpoint, tmp_path / "damaged"))
    damage(damaged)
    code, _, err = program(damaged, "-o", tmp_path / "tiny.bundle")
    assert code == 2
    assert err.startswith(f"Error: {damaged}")
    assert told in err
    assert len(err.splitlines()) <= 2
    assert [file.name for file in tmp_path.iterdir()] == ["damaged"]


def test_a_missing_index_ends_with_2(program: Callable[..., Outcome], tiny_checkpoint: Path, tmp_path: Path) -> None:
    code, _, err = program(tiny_checkpoint, "-o", tmp_path / "tiny.bundle", index=tmp_path / "index.json")
    assert code == 2
    assert f"Error: {tmp_path}/index.json: cannot be read" in err


def test_the_version_is_the_distributions(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["tumortrace-export", "--version"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (0, None)
    assert capsys.readouterr().out == f"tumortrace-export {__version__}\n"
