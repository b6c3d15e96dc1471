from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tumortrace.checkpoint import CONFIG, WEIGHTS, Checkpoint, load_checkpoint, save_checkpoint
from tumortrace.index import load_index, open_case
from tumortrace.model import build_model, family_config
from tumortrace.predict import CheckpointPredictor, TorchNetwork
from tumortrace_runtime.errors import CheckpointError, OutputError
from tumortrace_runtime.files import read_json, sha256_file, write_json
from tumortrace_runtime.postprocess import Postprocessing
from tumortrace_runtime.preprocess import Preprocessing

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGES = ("tumortrace", "export/tumortrace_export", "runtime/tumortrace_runtime")


@pytest.fixture
def checkpoint() -> Checkpoint:
    torch.manual_seed(3)
    model = family_config("unet-xs", in_channels=3)
    network = build_model(model)
    network(torch.randn(4, 3, 32, 32))  # so that the statistics of the batch norms are not those of a new network
    preprocessing = Preprocessing(channels=("flair",), grid_px=(64, 32), clip_percentiles=(1.0, 99.0))
    return Checkpoint(
        model, preprocessing, Postprocessing(min_lesion_voxels=3), {"epoch": 4, "note": "ü"}, network.state_dict()
    )


@pytest.fixture
def saved(tmp_path: Path, tiny_checkpoint: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "saved"))


def change_config(path: Path, **changes: Any) -> None:
    write_json(path / CONFIG, {**read_json(path / CONFIG), **changes})


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path, checkpoint: Checkpoint) -> None:
    save_checkpoint(tmp_path / "checkpoint", checkpoint)
    loaded = load_checkpoint(tmp_path / "checkpoint")

    assert replace(loaded, weights={}) == replace(checkpoint, weights={})
    assert set(loaded.weights) == set(checkpoint.weights)
    for name, tensor in checkpoint.weights.items():
        assert loaded.weights[name].dtype == tensor.dtype, name
        assert torch.equal(loaded.weights[name], tensor), name


def test_weights_in_another_memory_layout_are_stored_alike(tmp_path: Path, checkpoint: Checkpoint) -> None:
    turned = {
        name: tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
        for name, tensor in checkpoint.weights.items()
    }
    save_checkpoint(tmp_path / "one", checkpoint)
    save_checkpoint(tmp_path / "two", replace(checkpoint, weights=turned))
    for file in (WEIGHTS, CONFIG):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_the_network_computes_what_it_computed(tmp_path: Path, checkpoint: Checkpoint) -> None:
    batch = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    before = TorchNetwork(checkpoint.network()).run(batch)
    save_checkpoint(tmp_path / "checkpoint", checkpoint)
    np.testing.assert_array_equal(TorchNetwork(load_checkpoint(tmp_path / "checkpoint").network()).run(batch), before)


def test_saving_again_replaces_all_of_it(tmp_path: Path, checkpoint: Checkpoint) -> None:
    path = tmp_path / "checkpoint"
    save_checkpoint(path, checkpoint)
    save_checkpoint(path, replace(checkpoint, training={"epoch": 5}))
    assert load_checkpoint(path).training == {"epoch": 5}
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint"]


def test_a_trained_checkpoint_finds_lesions(tiny_checkpoint: Path, tiny_data: Path) -> None:
    checkpoint = load_checkpoint(tiny_checkpoint)
    index = load_index(tiny_data / "index.json")
    predict = CheckpointPredictor(checkpoint)
    for name, dice in checkpoint.training["validation_dice"].items():
        scan = open_case(index, name)
        mask = predict(scan)
        assert (mask.shape, mask.dtype) == (scan.voxels.shape[:3], np.uint8)
        overlap = 2 * (mask & scan.truth).sum() / max(1, mask.sum() + scan.truth.sum())
        assert dice == pytest.approx(overlap if scan.truth.any() else 1.0)
    assert min(checkpoint.training["validation_dice"].values()) > 0.3


@pytest.mark.parametrize("place", [0, 9, 0.1, 0.5, -1])
def test_one_flipped_byte_in_the_weights_is_found(place: float, saved: Path) -> None:
    content = bytearray((saved / WEIGHTS).read_bytes())
    content[int(place * len(content)) if isinstance(place, float) else place] ^= 1
    (saved / WEIGHTS).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{WEIGHTS}: has SHA-256 .* wanted; the file was altered"):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"version": 2}, "holds .*2.*; 'tumortrace-checkpoint' version 1 wanted"),
        ({"version": "1"}, "version 1 wanted"),
        ({"format": "tumortrace-bundle"}, "holds .*tumortrace-bundle"),
        ({"model": {"architecture": "compact"}}, "setting .*widths is missing"),
        ({"model": None}, "an object wanted"),
        ({"weights_sha256": 5}, "a field is of the wrong kind"),
        ({"preprocessing": {"channels": ["flair"], "blur": 1}}, "unknown setting blur"),
        ({"postprocessing": {"min_lesion_voxels": -1}}, "min_lesion_voxels"),
        ({"weights_sha256": "0" * 64}, "was altered"),
    ],
)
def test_a_description_that_does_not_hold_is_refused(changes: dict[str, Any], told: str, saved: Path) -> None:
    change_config(saved, **changes)
    with pytest.raises(CheckpointError, match=told):
        load_checkpoint(saved)


@pytest.mark.parametrize("key", ["model", "preprocessing", "postprocessing", "training", "weights_sha256", "version"])
def test_a_missing_key_is_named(key: str, saved: Path) -> None:
    write_json(saved / CONFIG, {name: value for name, value in read_json(saved / CONFIG).items() if name != key})
    with pytest.raises(CheckpointError, match=rf"{CONFIG}: .*({key}|None)"):
        load_checkpoint(saved)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"3"])
def test_a_description_that_is_no_object_is_refused(content: bytes, saved: Path) -> None:
    (saved / CONFIG).write_bytes(content)
    with pytest.raises(CheckpointError, match=CONFIG):
        load_checkpoint(saved)


@pytest.mark.parametrize("file", [CONFIG, WEIGHTS])
def test_a_missing_file_is_named(file: str, saved: Path) -> None:
    (saved / file).unlink()
    with pytest.raises(CheckpointError, match=file):
        load_checkpoint(saved)


def test_a_place_without_a_checkpoint_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is no checkpoint; a folder with"):
        load_checkpoint(tmp_path)


def test_weights_that_are_no_safetensors_are_refused(saved: Path) -> None:
    torch.save({"weight": torch.zeros(1)}, saved / WEIGHTS)
    change_config(saved, weights_sha256=sha256_file(saved / WEIGHTS))
    with pytest.raises(CheckpointError, match=rf"{WEIGHTS}: cannot be read"):
        load_checkpoint(saved)


def test_weights_of_another_network_are_refused(tiny_checkpoint: Path) -> None:
    checkpoint = load_checkpoint(tiny_checkpoint)
    with pytest.raises(CheckpointError, match="the weights do not fit"):
        replace(checkpoint, model=family_config("unet-s", in_channels=9)).network()


def test_a_full_disk_leaves_the_older_checkpoint(tmp_path: Path, checkpoint: Checkpoint, files_of_at_most: Any) -> None:
    path = tmp_path / "checkpoint"
    save_checkpoint(path, checkpoint)
    with files_of_at_most(100_000), pytest.raises(OutputError, match="checkpoint: cannot be written"):
        save_checkpoint(path, replace(checkpoint, training={"epoch": 5}))
    assert load_checkpoint(path).training["epoch"] == 4
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint"]


def test_a_checkpoint_is_json_and_plain_numbers(tiny_checkpoint: Path) -> None:
    assert sorted(file.name for file in tiny_checkpoint.iterdir()) == [CONFIG, WEIGHTS]
    content = (tiny_checkpoint / WEIGHTS).read_bytes()
    header_bytes = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + header_bytes])
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    assert 8 + header_bytes + max(ends) == len(content)


def test_nothing_of_ours_pickles() -> None:
    files = [file for package in PACKAGES for file in (CHECKOUT / package).rglob("*.py")]
    assert len(files) > 50
    offenders = {str(file.relative_to(CHECKOUT)): found for file in files if (found := set(pickling(file)))}
    assert offenders == {}


def pickling(file: Path) -> Iterator[str]:
    """What in a source file would read or write pickles."""
    modules = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] in modules)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in modules:
            yield str(node.module)
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in ("torch.load", "torch.save"):
            yield ast.unparse(node)
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False":
            yield "allow_pickle"
