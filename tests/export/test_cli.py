from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tumortrace.checkpoint import CONFIG, WEIGHTS, load_checkpoint, save_checkpoint
from tumortrace.split import load_split, save_split
from tumortrace_export.cli import main
from tumortrace_export.rows import HEADINGS
from tumortrace_runtime.archive import unpack
from tumortrace_runtime.bundle import MANIFEST, SEAL, open_bundle
from tumortrace_runtime.files import read_json, write_json
from tumortrace_runtime.version import __version__

Outcome = tuple[int, str, str]


@pytest.fixture
def program(
    tiny_data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """Runs the entry point of `tumortrace-export`; its exit code, stdout and stderr."""

    def run(
        *arguments: object, index: Path = tiny_data / "index.json", split: Path = tiny_data / "split.json"
    ) -> Outcome:
        given = [*arguments, "--data", index, "--split", split]
        monkeypatch.setattr(sys, "argv", ["tumortrace-export", *map(str, given)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


@dataclass(frozen=True)
class Again:
    """What the program did where it had done the same before: its bundle and archive, and what it told the user."""

    bundle: Path
    archive: Path
    log: list[str]
    told: list[str]
    progress: list[str]


@pytest.fixture(scope="module")
def again(
    by_program: Any, tiny_checkpoint: Path, tiny_data: Path, made_once: Callable[[str, Callable[[Path], None]], Path]
) -> Again:
    """The export of `by_program` once more, with its cache, for a user who reads."""

    def make(folder: Path) -> None:
        folder.mkdir()
        arguments: list[object] = [
            tiny_checkpoint,
            "--data",
            tiny_data / "index.json",
            "--split",
            tiny_data / "split.json",
        ]
        arguments += ["--max-drop", 1, "--max-case-drop", 1, "--int8", "--archive", "-o", folder / "tiny.bundle"]
        with (
            pytest.MonkeyPatch.context() as patch,
            (folder / "stdout").open("w") as told,
            (folder / "stderr").open("w") as progress,
        ):
            patch.setenv("XDG_CACHE_HOME", str(by_program.cache))
            patch.setattr(sys, "argv", ["tumortrace-export", *map(str, arguments)])
            with redirect_stdout(told), redirect_stderr(progress), pytest.raises(SystemExit) as ended:
                main()
        assert not ended.value.code, (folder / "stderr").read_text()

    folder = made_once("again", make)
    lines = [(folder / name).read_text().splitlines() for name in ("tiny.export.log", "stdout", "stderr")]
    return Again(folder / "tiny.bundle", folder / "tiny.bundle.tar", *lines)


def test_json_is_all_that_stands_on_stdout(by_program: Any) -> None:
    result = json.loads(by_program.stdout)
    manifest = open_bundle(by_program.bundle).manifest
    assert result["bundle"] == str(by_program.bundle)
    for printed, stored in zip(result["artefacts"], manifest["artefacts"], strict=True):
        assert printed["accuracy"] == stored["accuracy"]
        assert printed["file"] == stored["path"]
        assert (printed["timing"] is None) == (printed["backend"] == "tensorrt")
    assert result["preferred"] == manifest["measurements"]["preferred"]
    assert result["archive"] is None
    assert result["fp16_float_layers"] == manifest["fp16"]["float_layers"]
    assert result["ms_per_slice_without_fallback"] == manifest["measurements"]["ms_per_slice_without_fallback"]
    assert result["calibration"] == manifest["calibration"]["method"]
    assert result["float_layers"] == []
    assert result["test"] == manifest["test"]["accuracy"]


def test_the_same_inputs_give_the_same_bytes(again: Again, by_program: Any) -> None:
    """In another process, in another folder: all but what was measured on the way, and so the manifest's hash."""
    ours, theirs = (
        {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
        for folder in (again.bundle, by_program.bundle)
    )
    assert set(ours) == set(theirs)
    assert {name for name in ours if ours[name] != theirs[name]} == {MANIFEST, SEAL}
    manifests = [json.loads(files[MANIFEST]) for files in (ours, theirs)]
    assert manifests[0].pop("measurements") != manifests[1].pop("measurements")
    assert manifests[0] == manifests[1]


def test_activations_are_collected_once(again: Again, by_program: Any) -> None:
    first = (by_program.bundle.parent / "tiny.export.log").read_text()
    assert "collecting activations on 2 calibration cases" in first
    assert not [line for line in [*again.log, *again.progress] if "collecting" in line]


def test_a_line_for_each_artefact_and_what_to_run_next(again: Again) -> None:
    headings, rule, *lines = again.told
    assert " ".join(headings.split()) == " ".join(HEADINGS)
    assert set(rule) == {"-", " "}
    rows = {tuple(line.split()[:2]): line for line in lines[: lines.index("")]}
    manifest = open_bundle(again.bundle).manifest
    assert list(rows) == [(item["backend"], item["precision"]) for item in manifest["artefacts"]]
    assert "as above" in rows["PyTorch-NHWC", "fp32"]
    assert rows["tensorrt", "int8"].count("not run") == 2
    assert f" {manifest['artefacts'][0]['accuracy']['dice']:.4f} " in rows["openvino", "fp32"]

    preferred = manifest["measurements"]["preferred"]
    assert lines[lines.index("") + 1 :][:2] == [f"{name}: {each} is preferred" for name, each in preferred.items()]
    scored = [line for line in lines if line.startswith("test, for the record: ")]
    assert [line.split(": ")[1].split(" Dice")[0] for line in scored] == list(manifest["test"]["accuracy"])
    assert lines[-4:] == [
        str(again.archive),
        f"tumortrace doctor {again.bundle}",
        f"tumortrace segment {again.bundle} SCAN -o OUT",
        f"tumortrace build-engine {again.bundle}    # on the NVIDIA device",
    ]


def test_the_log_has_all_that_the_user_saw_and_when(again: Again) -> None:
    times, lines = zip(*(line.split(" s", 1) for line in again.log), strict=True)
    assert [line.strip() for line in lines] == [line.strip() for line in [*again.progress, *again.told]]
    assert sorted(map(float, times)) == list(map(float, times))
    for told in ("running PyTorch on 2 validation cases", "measuring openvino int8 on 2 cases"):
        assert told in again.progress


def test_the_archive_is_the_bundle(again: Again, tmp_path: Path) -> None:
    unpack(again.archive, tmp_path / "tiny.bundle")
    assert open_bundle(tmp_path / "tiny.bundle").sha256 == open_bundle(again.bundle).sha256


def test_an_existing_archive_ends_with_2_before_anything_is_done(
    program: Callable[..., Outcome], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "tiny.bundle.tar").write_text("kept")
    code, said, err = program(tiny_checkpoint, "--archive", "-o", tmp_path / "tiny.bundle")
    assert (code, said) == (2, "")
    assert err == f"Error: {tmp_path}/tiny.bundle.tar: already exists; remove it or choose another name.\n"
    assert [file.name for file in tmp_path.iterdir()] == ["tiny.bundle.tar"]


def test_one_precision_for_one_engine(program: Callable[..., Outcome], tiny_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "intel.bundle"
    arguments = ["--format", "openvino", "--precision", "fp32", "--max-drop", "1"]
    code, said, progress = program(tiny_checkpoint, *arguments, "-o", out)

    assert code == 0
    lines = said.splitlines()[2:]
    assert [line.split()[0] for line in lines[:3]] == ["PyTorch", "PyTorch-NHWC", "openvino"]
    assert lines[3:5] == ["", "openvino: fp32 is preferred"]
    assert lines[-3:] == [str(out), f"tumortrace doctor {out}", f"tumortrace segment {out} SCAN -o OUT"]
    assert "collecting" not in progress  # nothing needs ranges

    manifest = open_bundle(out).manifest
    assert {file for file in manifest["files"] if "model" in file} == {"model.onnx"}
    assert (manifest["name"], manifest["calibration"]) == ("intel", None)


def test_accuracy_not_reached_ends_with_3_and_leaves_only_the_log(
    program: Callable[..., Outcome], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    """FP32 computes what it computed before; INT8, with one scale for all channels, loses all but the loud one.

    The layer that takes the loud channel can go back to float, but ONNX Runtime then runs the one that makes it, the
    largest of all, in float too.
    """
    loud = load_checkpoint(tiny_checkpoint)
    weights = {name: tensor.clone() for name, tensor in loud.weights.items()}
    for name in ("encoder.0.0.1.weight", "encoder.0.0.1.bias"):
        weights[name][0] *= 1000
    weights["encoder.0.1.0.weight"][:, 0] /= 1000
    save_checkpoint(tmp_path / "loud", replace(loud, weights=weights))
    arguments = ["--precision", "int8", "--format", "onnx", "--calibration", "minmax", "--max-drop", "0.02"]
    code, said, progress = program(tmp_path / "loud", *arguments, "-o", tmp_path / "loud.bundle")

    assert (code, said) == (3, "")
    message = progress.splitlines()[-1]
    assert message.startswith("Error: onnxruntime int8: mean validation Dice ")
    assert "at most 0.02 was allowed (--max-drop). With encoder.0.1.0 back in float, " in message
    assert message.endswith("at least 50% wanted. Nothing was written.")
    assert {file.name for file in tmp_path.iterdir()} == {"loud", "loud.export.log"}
    *steps, reason = (tmp_path / "loud.export.log").read_text().splitlines()
    assert steps[-2].endswith("encoder.0.1.0 goes back to float")
    assert reason.endswith(message)


def test_an_interrupted_export_leaves_nothing(tiny_checkpoint: Path, tiny_data: Path, tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    command = [sys.executable, "-c", "from tumortrace_export.cli import main; main()", str(tiny_checkpoint)]
    command += ["--data", f"{tiny_data}/index.json", "--split", f"{tiny_data}/split.json", "--int8"]
    command += ["--format", "onnx", "-o", f"{tmp_path}/tiny.bundle"]
    environment = {**os.environ, "TMPDIR": str(tmp_path / "scratch")}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as running:
        assert running.stderr is not None
        until = next(line for line in running.stderr if line.startswith("measuring onnxruntime fp32"))
        begun = list(tmp_path.glob(".partial-*/model.onnx"))
        running.send_signal(signal.SIGINT)
        said = running.stderr.read()
    assert (until, len(begun)) == ("measuring onnxruntime fp32 on 2 cases\n", 1)
    assert running.returncode == 130
    assert "Traceback" not in said
    assert [file.name for file in tmp_path.iterdir()] == ["scratch"]
    assert list((tmp_path / "scratch").glob("tumortrace-*")) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--format", "onnx,tflite"), "format is 'tflite'; onnx or openvino or tensorrt wanted"),
        (("--format", ""), "format is ''; onnx or openvino or tensorrt wanted"),
        (("--format", "tensorrt"), "format is tensorrt; onnx or openvino among them wanted: what is made for TensorRT"),
        (("--precision", "int4"), "precision is 'int4'; fp32 or fp16 or int8 wanted"),
        (("--precision", ""), "precision is ''; fp32 or fp16 or int8 wanted"),
        (("--calibration", "entropy"), "calibration is 'entropy'; auto or minmax or percentile or mse wanted"),
        (("--output", "probabilities"), "output is 'probabilities'; logits or mask wanted"),
        (("--max-drop", "little"), "'little' is not a valid float"),
        (("--max-drop", "nan"), "max_drop is nan; 0 to 1 wanted"),
        (("--max-case-drop", "2"), "max_case_drop is 2.0; 0 to 1 wanted"),
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


def test_a_split_without_validation_cases_ends_with_2(
    program: Callable[..., Outcome], tiny_checkpoint: Path, tiny_data: Path, index: Any, tmp_path: Path
) -> None:
    split = load_split(tiny_data / "split.json", index)
    split = replace(split, fixed=replace(split.fixed, val=()))
    save_split(split, tmp_path / "split.json")
    trained = load_checkpoint(tiny_checkpoint)
    data = {**trained.training["data"], "split_sha256": split.sha256}
    save_checkpoint(tmp_path / "run", replace(trained, training={**trained.training, "data": data}))
    code, _, err = program(tmp_path / "run", "-o", tmp_path / "tiny.bundle", split=tmp_path / "split.json")
    assert code == 2
    assert err == "Error: the split has no validation case to score on; make one with `tumortrace split`.\n"
    assert {file.name for file in tmp_path.iterdir()} == {"run", "split.json"}


@pytest.mark.parametrize("name", [".", "..", "/"])
def test_a_folder_that_cannot_be_a_bundle_ends_with_2(
    name: str, program: Callable[..., Outcome], tiny_checkpoint: Path
) -> None:
    code, _, err = program(tiny_checkpoint, "-o", name)
    assert (code, err) == (2, f"Error: {name}: already exists; remove it or choose another name.\n")


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
