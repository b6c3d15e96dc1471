"""A shipped model is found by its name; a path that is there always wins; an unknown name is told what there is."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tumortrace.cli import main
from tumortrace_runtime import Segmenter
from tumortrace_runtime.bundle import MANIFEST
from tumortrace_runtime.errors import BundleError
from tumortrace_runtime.models import FOLDER_VARIABLE, find_bundle, installed_from, model_folders, shipped_models

CHECKOUT = Path(__file__).resolve().parents[2]
LICENCE = "Creative Commons Attribution-NonCommercial-ShareAlike 3.0"
Program = Callable[..., tuple[int, str, str]]


@pytest.fixture
def models(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of models, which the environment names, with one in it: tiny."""
    folder = tmp_path / "my models"
    shutil.copytree(tiny_bundle, folder / "tiny" / "tiny.bundle")
    (folder / "tiny" / "LICENSE").write_text(f"\n{LICENCE}\n\nMore of it.\n")
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Program:
    """Runs `tumortrace` with arguments; its exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tumortrace", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


def test_a_name_becomes_the_bundles_folder(models: Path) -> None:
    assert find_bundle("tiny") == find_bundle(Path("tiny")) == models / "tiny" / "tiny.bundle"
    (model,) = (model for model in shipped_models() if model.name == "tiny")
    assert (model.folder, model.bundle) == (models / "tiny", models / "tiny" / "tiny.bundle")
    assert model.licence == LICENCE


def test_a_path_that_is_there_wins(models: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    assert find_bundle("tiny") == Path("tiny")


@pytest.mark.parametrize("path", ["./other/tiny", "models/tiny", "/nowhere/tiny"])
def test_what_looks_like_a_path_is_no_name(path: str, models: Path) -> None:
    assert find_bundle(path) == Path(path)


def test_an_unknown_name_is_told_with_those_that_are_there(models: Path) -> None:
    with pytest.raises(BundleError) as caught:
        find_bundle("lgg-unet-xxl")
    told = str(caught.value)
    assert told.startswith("lgg-unet-xxl: no such path, and no such model: ")
    assert re.search(rf"\btiny\b.* found in {re.escape(str(models))} and .*/models\. Give the folder", told)
    assert told.endswith(f"set {FOLDER_VARIABLE} to a folder with lgg-unet-xxl/lgg-unet-xxl.bundle.")


def test_only_a_bundle_of_its_folders_name_is_a_model(models: Path) -> None:
    (models / "notes").mkdir()
    (models / "tiny" / "old.bundle").mkdir()
    (models / "loose.bundle").mkdir()
    assert [model.name for model in shipped_models() if models in model.bundle.parents] == ["tiny"]


def test_a_folder_that_is_not_there_has_no_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "none"))
    assert all(tmp_path not in model.bundle.parents for model in shipped_models())
    with pytest.raises(BundleError, match=re.escape(f"found in {tmp_path / 'none'}")):
        find_bundle("tiny")


def test_the_checkouts_models_come_after_the_named_folders(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests run on an installation from this checkout."""
    assert model_folders() == [models, CHECKOUT / "models"]
    monkeypatch.delenv(FOLDER_VARIABLE)
    assert model_folders() == [CHECKOUT / "models"]


@pytest.mark.parametrize(
    ("record", "folder"),
    [
        ({"url": "file:///home/me/tumor%20trace", "dir_info": {"editable": True}}, "/home/me/tumor trace"),
        ({"url": "file:///home/me/tumortrace", "dir_info": {}}, "/home/me/tumortrace"),
        ({"url": "file:///tmp/tumortrace-0.1.0-py3-none-any.whl", "archive_info": {}}, None),
        ({"url": "https://example.org/tumortrace.git", "vcs_info": {"vcs": "git", "commit_id": "1"}}, None),
    ],
)
def test_where_an_installation_comes_from(record: object, folder: str | None) -> None:
    assert installed_from(json.dumps(record)) == (Path(folder) if folder else None)


def test_an_installation_from_an_index_comes_from_no_folder() -> None:
    assert installed_from(None) is None


def test_a_segmenter_takes_a_name(models: Path) -> None:
    with Segmenter("tiny", backend="onnxruntime") as segmenter:
        assert segmenter.bundle.path == models / "tiny" / "tiny.bundle"


def test_a_scan_is_segmented_by_a_models_name(models: Path, program: Program, tiny_data: Path, tmp_path: Path) -> None:
    scan = next(folder for folder in sorted((tiny_data / "phantoms").iterdir()) if folder.is_dir())
    code, _, err = program("segment", "tiny", scan, "-o", tmp_path / "out", "--backend", "onnxruntime")
    assert code == 0, err
    assert (tmp_path / "out" / scan.name / "result.json").is_file()


@pytest.mark.parametrize("arguments", [("verify", "tiny"), ("doctor", "tiny"), ("pack", "tiny", "-o", "tiny.tar")])
def test_commands_take_a_name(arguments: tuple[str, ...], models: Path, program: Program) -> None:
    code, out, err = program(*arguments)
    assert code == 0, err
    assert "tiny" in out


def test_an_evaluation_takes_a_name(models: Path, program: Program, tiny_data: Path, tmp_path: Path) -> None:
    data = ("--data", tiny_data / "index.json", "--split", tiny_data / "split.json", "--part", "val")
    code, out, err = program("evaluate", "tiny", *data, "-o", tmp_path / "report", "--json")
    assert code == 0, err
    assert "bundle_sha256" in json.loads(out)["about"]


@pytest.mark.parametrize("command", ["verify", "doctor", "segment", "evaluate"])
def test_an_unknown_name_ends_with_2(command: str, models: Path, program: Program, tmp_path: Path) -> None:
    others = {"segment": ("scan", "-o", "out"), "evaluate": ("--data", "x", "--split", "x", "-o", "out")}
    code, out, err = program(command, "lgg-unet-xxl", *others.get(command, ()))
    assert (code, out) == (2, "")
    assert err.startswith("Error: lgg-unet-xxl: no such path, and no such model")


def test_models_are_listed(models: Path, program: Program) -> None:
    code, out, err = program("models")
    assert code == 0, err
    (line,) = (line for line in out.splitlines() if line.startswith("tiny "))
    assert line.endswith(f"{LICENCE}  {models}/tiny/tiny.bundle")

    code, out, _ = program("models", "--json")
    told = json.loads(out)
    (model,) = (model for model in told["models"] if model["name"] == "tiny")
    manifest = json.loads((models / "tiny" / "tiny.bundle" / MANIFEST).read_bytes())
    files = (models / "tiny" / "tiny.bundle" / name for name in manifest["files"])
    assert model == {
        "name": "tiny",
        "bundle": str(models / "tiny" / "tiny.bundle"),
        "size_bytes": sum(file.stat().st_size for file in files),
        "preferred": manifest["measurements"]["preferred"],
        "test_dice": {},
        "licence": LICENCE,
    }
    assert (told["refused"], told["folders"]) == ([], [str(models), str(CHECKOUT / "models")])


def test_a_damaged_model_is_named_and_the_others_listed(models: Path, program: Program) -> None:
    shutil.copytree(models / "tiny" / "tiny.bundle", models / "worn" / "worn.bundle")
    (models / "worn" / "worn.bundle" / "model.onnx").write_bytes(b"")
    code, out, err = program("models")
    assert code == 5
    assert "tiny" in out
    assert "worn.bundle/model.onnx: was altered" in err


def test_no_models_is_told_with_where_they_were_looked_for(program: Program, tmp_path: Path) -> None:
    if any(CHECKOUT in model.folder.parents for model in shipped_models()):
        pytest.skip("this checkout has models")
    code, out, _ = program("models")
    assert (code, out) == (0, f"no models in {CHECKOUT}/models; {FOLDER_VARIABLE} names another folder\n")
