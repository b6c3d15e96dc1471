from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

from tumortrace.checkpoint import Checkpoint
from tumortrace.index import Index, prepare
from tumortrace_export import calibration_cache
from tumortrace_export.calibration_cache import cached_ranges, dependencies
from tumortrace_export.ranges import BINS, Histogram
from tumortrace_runtime.errors import DatasetError
from tumortrace_runtime.preprocess import Preprocessing

KEY = {"model": "0" * 64, "cases": {"case": ["1" * 64]}}


class Maker:
    """Makes ranges, and counts how often."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> dict[str, Histogram]:
        self.times += 1
        rng = np.random.default_rng(0)
        return {
            name: Histogram(-0.1 * rng.random(), rng.random(), rng.integers(0, 10**9, BINS))
            for name in ("relu_10", "input", "Größe")
        }


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tumortrace" / "calibration"


@pytest.fixture
def make() -> Maker:
    return Maker()


def assert_equal(found: dict[str, Histogram], wanted: dict[str, Histogram]) -> None:
    assert list(found) == list(wanted)
    for name, histogram in wanted.items():
        assert (found[name].minimum, found[name].maximum) == (histogram.minimum, histogram.maximum)
        assert found[name].counts.dtype == np.int64
        assert found[name].counts.tolist() == histogram.counts.tolist()


def test_ranges_are_made_once(make: Maker) -> None:
    said: list[str] = []
    for _ in range(3):
        assert_equal(cached_ranges(KEY, make, report=said.append), Maker()())
    assert make.times == 1
    assert not said


def test_without_a_cache_folder_of_its_own_it_is_in_the_home(
    make: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    cached_ranges(KEY, make)
    (file,) = (tmp_path / "home" / ".cache" / "tumortrace" / "calibration").iterdir()
    assert file.suffix == ".npz"


@pytest.mark.parametrize("change", [{"model": "2" * 64}, {"cases": {}}, {"preprocessing": {"context": 1}}])
def test_whatever_changes_ranges_are_made_anew(change: dict[str, object], make: Maker) -> None:
    cached_ranges(KEY, make)
    cached_ranges({**KEY, **change}, make)
    assert make.times == 2


@pytest.mark.parametrize("library", ["np", "onnxruntime"])
def test_another_version_of_a_library_makes_them_anew(
    library: str, make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached_ranges(KEY, make)
    monkeypatch.setattr(getattr(calibration_cache, library), "__version__", "0.0.1")
    cached_ranges(KEY, make)
    assert make.times == 2


@pytest.mark.parametrize("constant", ["__version__", "VERSION", "BINS"])
def test_another_version_of_tumortrace_or_another_histogram_makes_them_anew(
    constant: str, make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached_ranges(KEY, make)
    monkeypatch.setattr(calibration_cache, constant, 4096)
    cached_ranges(KEY, make)
    assert make.times == 2


def damaged_copies(data: bytes) -> list[bytes]:
    rng = np.random.default_rng(0)
    places = rng.integers(0, len(data), 60)
    flipped = [data[:place] + bytes([data[place] ^ (1 << place % 8)]) + data[place + 1 :] for place in places]
    return [b"", data[: len(data) // 2], data[:-1], b"\x00" * len(data), *flipped]


def test_a_damaged_file_gives_no_wrong_range(make: Maker, folder: Path) -> None:
    cached_ranges(KEY, make)
    (file,) = folder.iterdir()
    intact = file.read_bytes()
    for damaged in damaged_copies(intact):
        file.write_bytes(damaged)
        said: list[str] = []
        before = make.times
        assert_equal(cached_ranges(KEY, make, report=said.append), Maker()())
        # bits that no reader looks at, such as a date in the archive, may flip unnoticed; the ranges are right
        assert (make.times > before) == bool(said)
        if said:
            assert said[0].startswith(f"{file}: ")
            assert said[0].endswith("The ranges are collected again.")
            assert file.read_bytes() == intact
    assert make.times > 40


def test_a_file_with_another_number_is_not_believed(make: Maker, folder: Path) -> None:
    cached_ranges(KEY, make)
    (file,) = folder.iterdir()
    with np.load(file, allow_pickle=False) as arrays:
        np.savez_compressed(file, **{**arrays, "maximum": arrays["maximum"] * 2})
    said: list[str] = []
    assert_equal(cached_ranges(KEY, make, report=said.append), Maker()())
    assert said == [f"{file}: does not match its hash; it was altered. The ranges are collected again."]
    assert_equal(cached_ranges(KEY, make), Maker()())
    assert make.times == 2


def test_on_a_full_disk_the_ranges_are_given_and_nothing_is_left(
    make: Maker, folder: Path, files_of_at_most: Callable[[int], AbstractContextManager[None]]
) -> None:
    said: list[str] = []
    with files_of_at_most(1000):
        assert_equal(cached_ranges(KEY, make, report=said.append), Maker()())
    assert len(said) == 1
    assert said[0].startswith(f"the ranges are not kept for the next export: {folder}")
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_reported(make: Maker, folder: Path) -> None:
    folder.parent.parent.mkdir()
    folder.parent.write_text("a file where a folder is wanted")
    said: list[str] = []
    assert_equal(cached_ranges(KEY, make, report=said.append), Maker()())
    assert len(said) == 1
    assert "cannot be written" in said[0]


def test_ranges_depend_on_the_model_the_tensors_the_cases_and_preprocessing(
    onnx_file: Path, index: Index, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    other_model = tmp_path / "model.onnx"
    other_model.write_bytes(onnx_file.read_bytes() + b"\x00")
    names, spec = [case.case_id for case in index.cases], checkpoint.preprocessing
    other_spec = Preprocessing(channels=spec.channels, context=spec.context + 1, grid_px=spec.grid_px)
    keys = [
        dependencies(onnx_file, ["relu"], index, names[:2], spec),
        dependencies(other_model, ["relu"], index, names[:2], spec),
        dependencies(onnx_file, ["relu", "add"], index, names[:2], spec),
        dependencies(onnx_file, ["relu"], index, names[1:3], spec),
        dependencies(onnx_file, ["relu"], index, names[:2], other_spec),
    ]
    make = Maker()
    for key in keys * 2:
        cached_ranges(key, make)
    assert make.times == len(keys)


def test_a_file_that_changed_since_the_index_was_made_is_refused(
    onnx_file: Path, tiny_data: Path, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    source = next(path for path in sorted((tiny_data / "phantoms").iterdir()) if path.is_dir())
    case = tmp_path / source.name
    case.mkdir()
    for path in source.iterdir():
        os.link(path, case / path.name)
    index = prepare(tmp_path)
    image = next(path for path in sorted(case.iterdir()) if "mask" not in path.name)
    changed = bytearray(image.read_bytes())
    changed[-1] ^= 1
    image.unlink()
    image.write_bytes(changed)
    with pytest.raises(DatasetError, match="was changed since the index was made"):
        dependencies(onnx_file, ["relu"], index, [source.name], checkpoint.preprocessing)
