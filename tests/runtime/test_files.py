"""Files and folders that are written whole or not at all, on disks that refuse, and what is told of it."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumortrace_runtime.errors import BundleError, InputError, OutputError, TumorTraceError
from tumortrace_runtime.files import (
    atomic_directory,
    atomic_file,
    canonical_json,
    output_folder,
    read_json,
    sha256_bytes,
    sha256_file,
    write_bytes,
    write_json,
)

DISK_BYTES = 4096

FullDisk = Callable[[int], AbstractContextManager[None]]


def tree(root: Path) -> dict[str, bytes | None]:
    """Every file below `root` with its content, and every folder."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes() if path.is_file() else None for path in root.rglob("*")
    }


def write_too_much(partial: Path) -> None:
    partial.write_bytes(bytes(2 * DISK_BYTES))


def fail(partial: Path) -> None:
    partial.write_bytes(b"half")
    raise KeyError("something else")


def interrupt(partial: Path) -> None:
    partial.write_bytes(b"half")
    raise KeyboardInterrupt


@pytest.mark.parametrize("size", [0, 1, (1 << 20) + 1])
def test_hashes_are_sha256(size: int, tmp_path: Path) -> None:
    data = b"x" * size
    (tmp_path / "file").write_bytes(data)

    assert sha256_bytes(data) == sha256_file(tmp_path / "file") == hashlib.sha256(data).hexdigest()


def test_hashes_without_file_digest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on Python 3.10."""
    monkeypatch.delattr(hashlib, "file_digest", raising=False)
    test_hashes_are_sha256((1 << 20) + 1, tmp_path)


@given(values=st.dictionaries(st.text(), st.integers() | st.text() | st.floats(-1, 1) | st.none()))
def test_equal_values_give_equal_json(values: dict[str, Any]) -> None:
    backwards = dict(reversed(list(values.items())))

    assert canonical_json(values) == canonical_json(backwards)


def test_json_comes_back(tmp_path: Path) -> None:
    value = {"größe": [1, 2.5, None, {"": "\u2028"}]}

    write_json(tmp_path / "new" / "folder" / "a.json", value)

    assert read_json(tmp_path / "new" / "folder" / "a.json") == value
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "nan.json", float("nan"))
    assert not (tmp_path / "nan.json").exists()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\xfd", b"[" * 100_000], ids=["empty", "cut", "bytes", "deep"])
def test_what_is_no_json_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)

    with pytest.raises(BundleError, match=r"a\.json: is not JSON"):
        read_json(tmp_path / "a.json", BundleError)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json: cannot be read \(No such file"):
        read_json(tmp_path / "none.json")


def test_a_file_is_there_only_after_the_block(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "mask.nii.gz"
    with atomic_file(path) as partial:
        assert partial.name.endswith("mask.nii.gz")
        partial.write_bytes(b"whole")
        assert not path.exists()

    assert tree(path.parent) == {"mask.nii.gz": b"whole"}


def test_a_folder_is_there_only_after_the_block(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.bundle"
    with atomic_directory(path) as partial:
        (partial / "inner").mkdir()
        (partial / "inner" / "a").write_bytes(b"whole")
        (partial / "inner" / "a").chmod(0o444)
        assert not path.exists()

    assert tree(path.parent) == {"x.bundle": None, "x.bundle/inner": None, "x.bundle/inner/a": b"whole"}


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "file", b"")
        with atomic_directory(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o750


@pytest.mark.parametrize("old", [None, b"old"], ids=["new", "in place of an old one"])
@pytest.mark.parametrize(
    ("write", "error"), [(write_too_much, OutputError), (fail, KeyError), (interrupt, KeyboardInterrupt)]
)
def test_a_file_that_could_not_be_written_leaves_what_was_there(
    write: Callable[[Path], None],
    error: type[BaseException],
    old: bytes | None,
    tmp_path: Path,
    files_of_at_most: FullDisk,
) -> None:
    path = tmp_path / "result.json"
    if old is not None:
        path.write_bytes(old)
    before = tree(tmp_path)

    with files_of_at_most(DISK_BYTES), pytest.raises(error), atomic_file(path) as partial:
        write(partial)

    assert tree(tmp_path) == before


@pytest.mark.parametrize("old", [False, True], ids=["new", "in place of an old one"])
@pytest.mark.parametrize(
    ("write", "error"), [(write_too_much, OutputError), (fail, KeyError), (interrupt, KeyboardInterrupt)]
)
def test_a_folder_that_could_not_be_written_leaves_what_was_there(
    write: Callable[[Path], None], error: type[BaseException], old: bool, tmp_path: Path, files_of_at_most: FullDisk
) -> None:
    path = tmp_path / "x.bundle"
    if old:
        path.mkdir()
        (path / "model").write_bytes(b"old")
    before = tree(tmp_path)

    with files_of_at_most(DISK_BYTES), pytest.raises(error), atomic_directory(path, replace=True) as partial:
        (partial / "first").write_bytes(b"fits")
        write(partial / "second")

    assert tree(tmp_path) == before


def test_a_full_disk_is_told_in_one_line(tmp_path: Path, files_of_at_most: FullDisk) -> None:
    with files_of_at_most(DISK_BYTES), pytest.raises(OutputError) as caught:
        write_bytes(tmp_path / "result.json", bytes(2 * DISK_BYTES))

    told = f"{tmp_path / 'result.json'}: cannot be written (File too large); nothing was left behind."
    assert str(caught.value) == told
    assert caught.value.exit_code == 2


def test_a_process_that_is_killed_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"old")
    code = """
import os, signal, sys
from pathlib import Path
from tumortrace_runtime.files import atomic_file
with atomic_file(Path(sys.argv[1])) as partial:
    partial.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", code, tmp_path / "state"], check=False)

    assert killed.returncode == -9
    assert (tmp_path / "state").read_bytes() == b"old"


def test_a_folder_that_is_there_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "x.bundle").mkdir()

    with (
        pytest.raises(OutputError, match=r"x\.bundle: already exists; remove it or choose another name"),
        atomic_directory(tmp_path / "x.bundle") as partial,
    ):
        (partial / "a").write_bytes(b"")

    assert tree(tmp_path) == {"x.bundle": None}


def test_a_folder_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.bundle"
    with pytest.raises(OutputError, match=r"x\.bundle: cannot be written"), atomic_directory(path) as partial:
        (partial / "a").write_bytes(b"mine")
        path.mkdir()
        (path / "a").write_bytes(b"another's")

    assert tree(tmp_path) == {"x.bundle": None, "x.bundle/a": b"another's"}


def test_an_older_folder_is_replaced_whole(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with atomic_directory(tmp_path / "latest", replace=True) as partial:
            (partial / content).write_bytes(b"")

    assert tree(tmp_path) == {"latest": None, "latest/new": b""}


def test_a_file_in_the_place_of_a_folder_is_kept(tmp_path: Path) -> None:
    (tmp_path / "latest").write_bytes(b"a file")

    with (
        pytest.raises(OutputError, match="latest: cannot be written"),
        atomic_directory(tmp_path / "latest", replace=True) as partial,
    ):
        (partial / "a").write_bytes(b"")

    assert tree(tmp_path) == {"latest": b"a file"}


def test_a_folder_in_the_place_of_a_file_is_kept(tmp_path: Path) -> None:
    (tmp_path / "result.json" / "inner").mkdir(parents=True)

    with pytest.raises(OutputError, match=r"result\.json: cannot be written \(Is a directory\)"):
        write_bytes(tmp_path / "result.json", b"")

    assert tree(tmp_path) == {"result.json": None, "result.json/inner": None}


def test_a_folder_for_output_goes_when_it_stays_empty_and_was_not_there(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name in ("there", "new", "filled"):
        with output_folder(tmp_path / name) as folder:
            assert list(folder.iterdir()) == []
            if name == "filled":
                (folder / "result").write_bytes(b"kept")
    assert tree(tmp_path) == {"there": None, "filled": None, "filled/result": b"kept"}


@pytest.mark.parametrize("place", ["/proc", f"new/{'n' * 300}"])
def test_a_place_that_takes_no_output_is_refused_at_once(place: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"), output_folder(tmp_path / place):
        pytest.fail("the block ran")
    assert tree(tmp_path) == {}


def test_folders_that_were_made_for_output_go_when_nothing_comes_of_it(tmp_path: Path) -> None:
    with pytest.raises(InputError), output_folder(tmp_path / "a" / "b"):
        raise InputError
    with pytest.raises(InputError), output_folder(tmp_path / "c") as folder:
        folder.rmdir()
        raise InputError
    assert tree(tmp_path) == {}


@pytest.mark.parametrize("write", [atomic_file, atomic_directory, output_folder])
def test_a_place_below_a_file_is_refused(write: Callable[[Path], Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"kept")

    with pytest.raises(OutputError, match="file/inner/out: cannot be written"), write(tmp_path / "file/inner/out"):
        pytest.fail("the block ran")

    assert tree(tmp_path) == {"file": b"kept"}


@pytest.mark.parametrize("write", [atomic_file, atomic_directory])
def test_a_missing_input_is_not_told_as_an_output_that_failed(write: Callable[[Path], Any], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"scan\.tif"), write(tmp_path / "out"):
        (tmp_path / "scan.tif").read_bytes()

    assert tree(tmp_path) == {}


@pytest.mark.parametrize("write", [atomic_file, atomic_directory])
def test_a_reader_that_went_away_is_not_told_as_a_full_disk(write: Callable[[Path], Any], tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        with pytest.raises(BrokenPipeError), write(tmp_path / "out"):
            os.write(writing, b"progress")
    finally:
        os.close(writing)

    assert tree(tmp_path) == {}


def test_typed_errors_pass_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(BundleError), atomic_directory(tmp_path / "out"):
        raise BundleError("not good enough")

    assert tree(tmp_path) == {}
    assert issubclass(OutputError, TumorTraceError)


def test_a_relative_path_and_the_folder_at_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files_of_at_most: FullDisk
) -> None:
    monkeypatch.chdir(tmp_path)

    write_bytes(Path("file"), b"1")
    with atomic_directory(Path("folder")):
        pass
    with files_of_at_most(DISK_BYTES), pytest.raises(OutputError, match=r"^file: cannot be written"):
        write_bytes(Path("file"), bytes(2 * DISK_BYTES))

    assert tree(tmp_path) == {"file": b"1", "folder": None}
