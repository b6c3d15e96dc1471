"""Case folders below a root, and sets of files that appear together."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from tumortrace_runtime.errors import OutputError, ScanError
from tumortrace_runtime.files import atomic_directory


def subfolders(root: Path) -> list[Path]:
    """The folders directly in `root`, sorted by name, without hidden ones."""
    return sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def why_closed(path: Path) -> str:
    """Why a file or folder cannot be read; "" where it can."""
    try:
        if path.is_dir():
            next(path.iterdir(), None)
        elif path.is_file():
            path.open("rb").close()
    except OSError as problem:
        return f"cannot be read ({problem.strerror})."
    return ""


def file_names(folder: Path) -> list[str]:
    """Names of the files directly in `folder`, sorted, without hidden ones."""
    return sorted(entry.name for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith("."))


def case_folders(root: Path, holds_case: Callable[[Path], bool]) -> list[Path]:
    """`root` itself when it is a case, else the case folders directly in it that can be read, sorted by name.

    Raises:
        ScanError: `root` holds images of its own and case folders as well, or cannot be read.
    """
    try:
        below = [folder for folder in subfolders(root) if not why_closed(folder) and holds_case(folder)]
        if not holds_case(root):
            return below
    except OSError as problem:
        raise ScanError(f"{problem.filename}: cannot be read ({problem.strerror}).") from problem
    if below:
        raise ScanError(
            f"{root}: holds images of its own and case folders ({below[0].name}, …); "
            "move the images into a folder of their own, or name one case."
        )
    return [root.resolve()]


def write_together(folder: Path, names: Iterable[str], write: Callable[[Path, int], None]) -> list[Path]:
    """Write several files into `folder`, which may hold others: all of them appear, or none.

    Args:
        folder: where they go; made when it is missing.
        names: file names, in the order of the result. A file of that name is replaced.
        write: called with a path to write to and the position in `names`.

    Raises:
        OutputError: one of them could not be written; nothing is left behind.
    """
    names = list(names)
    if taken := [name for name in names if (folder / name).is_dir()]:
        raise OutputError(f"{folder / taken[0]}: is a folder; remove it or choose another place.")
    stage = folder / f".partial-set-{names[0]}"
    with atomic_directory(stage, replace=True) as partial:
        for position, name in enumerate(names):
            write(partial / name, position)
    try:
        for name in names:
            (stage / name).replace(folder / name)
    except OSError as problem:
        raise OutputError(f"{folder}: cannot be written ({problem.strerror}).") from problem
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return [folder / name for name in names]
