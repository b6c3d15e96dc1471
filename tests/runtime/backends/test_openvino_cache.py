"""OpenVINO's compiled models from one process to the next: the same results, whatever became of the file."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino
import pytest
from openvino import opset13 as ops

from tumortrace_runtime.backends import load_backend
from tumortrace_runtime.errors import BackendError

BATCH = np.random.default_rng(1).standard_normal((7, 4, 16, 16)).astype(np.float32)
LOADED_TWICE = """
import sys
import numpy as np
from pathlib import Path
from tumortrace_runtime.backends import load_backend
for _ in range(2):
    with load_backend("openvino", Path(sys.argv[1]), cached=True) as backend:
        print(backend.run(np.ones((5, 4, 16, 16), np.float32)).sum())
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two networks that differ in their weights alone."""
    folder = tmp_path_factory.mktemp("models")
    for name, seed in (("one", 1), ("other", 2)):
        weights = np.random.default_rng(seed).standard_normal((16, 4, 3, 3)).astype(np.float32)
        image = ops.parameter([-1, 4, 16, 16], np.float32, name="image")
        found = ops.convolution(image, ops.constant(weights, name="w"), [1, 1], [1, 1], [1, 1], [1, 1], name="first")
        openvino.save_model(openvino.Model([found], [image], "tiny"), folder / f"{name}.xml", compress_to_fp16=False)
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tumortrace" / "openvino"


def outcome(model: Path, cached: bool = True, threads: int | None = 1) -> tuple[bytes, tuple[object, ...]]:
    with load_backend("openvino", model, threads=threads, cached=cached) as backend:
        return backend.run(BATCH).tobytes(), (*backend.layers, backend.device, backend.taken)


def kept(cache: Path) -> Path:
    (file,) = cache.iterdir()
    return file


def test_what_is_kept_gives_the_same_without_the_model_being_read(
    models: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = outcome(models / "one.xml", cached=False)
    assert not cache.exists()
    assert outcome(models / "one.xml") == fresh

    monkeypatch.delattr(openvino.Core, "read_model")

    assert outcome(models / "one.xml") == fresh


def test_models_and_settings_are_kept_apart(models: Path, cache: Path, tmp_path: Path) -> None:
    assert outcome(models / "one.xml")[0] != outcome(models / "other.xml")[0]
    outcome(models / "one.xml", threads=2)
    assert len(list(cache.iterdir())) == 3

    for file in ("one.xml", "one.bin"):
        shutil.copy(models / file, tmp_path / file)
    outcome(tmp_path / "one.xml")
    assert len(list(cache.iterdir())) == 3
    shutil.copy(models / "other.bin", tmp_path / "one.bin")
    assert outcome(tmp_path / "one.xml") == outcome(models / "other.xml")


def flipped(content: bytes, place: float) -> bytes:
    damaged = bytearray(content)
    damaged[int(place * (len(content) - 1))] ^= 0x10
    return bytes(damaged)


@pytest.mark.parametrize(
    "damage",
    [
        *(lambda content, place=place: flipped(content, place) for place in (0.0, 0.02, 0.3, 0.6, 0.9, 1.0)),
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: b"[]\n" + content,
        lambda content: content.replace(b'"openvino": "2', b'"openvino": "1'),
    ],
)
def test_a_damaged_file_counts_as_none_and_is_made_anew(
    damage: Callable[[bytes], bytes], models: Path, cache: Path
) -> None:
    fresh = outcome(models / "one.xml")
    whole = kept(cache).read_bytes()
    damaged = damage(whole)
    assert damaged != whole
    kept(cache).write_bytes(damaged)

    assert outcome(models / "one.xml") == fresh
    assert kept(cache).read_bytes() != damaged


def test_where_nothing_can_be_kept_nothing_is(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert outcome(models / "one.xml") == outcome(models / "one.xml", cached=False)


def test_a_model_without_weights_is_refused_as_without_a_cache(models: Path, cache: Path, tmp_path: Path) -> None:
    shutil.copy(models / "one.xml", tmp_path)
    with pytest.raises(BackendError, match=r"one\.xml: OpenVINO cannot load it on CPU"):
        outcome(tmp_path / "one.xml")


def test_processes_that_start_together_do_not_disturb_each_other(models: Path, cache: Path) -> None:
    command = [sys.executable, "-c", LOADED_TWICE, str(models / "one.xml")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    told = {line for process in processes for line in process.communicate()[0].splitlines()}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(told) == 1
    assert kept(cache)
