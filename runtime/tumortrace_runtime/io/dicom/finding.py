"""Which files are DICOM: in a folder, by a DICOMDIR, or alone; and which may be, but cannot be read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence, Set
from pathlib import Path
from typing import Any

from tumortrace_runtime.errors import ScanError
from tumortrace_runtime.io.dicom.files import damage_told, read_header
from tumortrace_runtime.io.magic import beginning, is_dicom

_DIRECTORY_CLASS = "1.2.840.10008.1.3.10"
_FIRST_GROUPS = (b"\x02\0", b"\x08\0")
"""What a data set begins with that lacks what stands before it in a file."""

_SUFFIXES = {".dcm", ".dicom", ".ima"}
"""What names of DICOM files usually end with."""

_OF_MACOS = "._"
"""What hidden files begin with that macOS puts beside others, to keep what it knows of them."""


def instance_files(root: Path) -> list[Path]:
    """The DICOM files in a folder and all folders below it, of a DICOMDIR, or `root` itself; sorted.

    Beside DICOM files, what may be another but cannot be read is among them, empty folders too: reading it tells why.

    Raises:
        ScanError: a DICOMDIR is damaged or names what is not there.
        InputError: `root` is a DICOMDIR, and pydicom is not installed.
    """
    if not root.is_dir():
        if not is_dicom(root):
            return []
        return _listed_in(root) if _is_directory(read_header(root, ["SOPClassUID"]), root) else [root]
    paths, folders = _files_below(root)
    found = {path for path in paths if not _is_hidden(path) and _is_readable_dicom(path)}
    return sorted([*found, *_lost(paths, found), *folders]) if found else []


def _is_directory(header: Any, path: Path) -> bool:
    """Whether a header is that of a DICOMDIR.

    Raises:
        ScanError: it is damaged.
    """
    with damage_told(path):
        return str(header.file_meta.get("MediaStorageSOPClassUID")) == _DIRECTORY_CLASS


def _files_below(root: Path) -> tuple[list[Path], list[Path]]:
    """The files in a folder and all below it that is not hidden, links followed, each once; and folders without any.

    Those are the ones that are empty or cannot be read.
    """
    files: dict[Path, Path] = {}
    links: dict[Path, Path] = {}
    problems: list[OSError] = []
    empty: list[Path] = []
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, onerror=problems.append, followlinks=True):
        if (place := os.path.realpath(folder)) in seen:
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if not folders and all(name.startswith(".") for name in names):
            empty.append(Path(folder))
        for path in (Path(folder, name) for name in sorted(names)):
            if path.is_symlink():
                links.setdefault(Path(os.path.realpath(path)), path)
            else:
                files[Path(place, path.name)] = path
    return sorted((links | files).values()), [*empty, *(Path(problem.filename) for problem in problems)]


def _is_readable_dicom(path: Path) -> bool:
    try:
        return is_dicom(path)
    except ScanError:
        return False


def _lost(paths: Iterable[Path], found: Set[Path]) -> Iterator[Path]:
    """Of files, those that are not found to be DICOM, but may be slices all the same."""
    suffixes = {_suffix(path) for path in found}
    by_folder: dict[Path, list[Path]] = {}
    for path in paths:
        by_folder.setdefault(path.parent, []).append(path)
    for together in by_folder.values():
        here = {_suffix(path) for path in together if path in found}
        if not here and all(_is_named_as(path, suffixes) for path in together):
            here = suffixes
        yield from (path for path in together if path not in found and _may_be_lost(path, here))


def _may_be_lost(path: Path, suffixes: Set[str]) -> bool:
    """Whether a file that is not found to be DICOM may be a slice, among files of slices of these suffixes.

    It is named as DICOM files are, or as the others, lacks what stands before the data set, cannot be read, or is a
    numbered file, or a link, with nothing in it. A hidden one is so named while it is copied.
    """
    if not path.is_file() and path.exists():  # a pipe
        return False
    is_named = not _SUFFIXES.isdisjoint(suffix.lower() for suffix in path.suffixes)
    if _is_hidden(path):
        return is_named and not path.name.startswith(_OF_MACOS)
    try:
        content = beginning(path)
    except ScanError:
        return True
    is_numbered_void = not content and _has_digit(path)
    return is_named or _is_named_as(path, suffixes) or content.startswith(_FIRST_GROUPS) or is_numbered_void


def _is_named_as(path: Path, suffixes: Set[str]) -> bool:
    """Whether a name is like those of slices of these suffixes: without one it has a number."""
    return (suffix := _suffix(path)) in suffixes and (suffix != "" or _has_digit(path))


def _has_digit(path: Path) -> bool:
    return any(letter.isdigit() for letter in path.name)


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".")


def _suffix(path: Path) -> str:
    """What the name ends with, such as ".dcm"; "" where that is a number, as at the end of a UID."""
    return path.suffix.lower() if path.suffix[1:].isalpha() else ""


def _listed_in(directory: Path) -> list[Path]:
    records = read_header(directory).get("DirectoryRecordSequence") or []
    with damage_told(directory):
        named = [list(_components(record.ReferencedFileID)) for record in records if "ReferencedFileID" in record]
    return sorted(_found(directory, components) for components in named)


def _components(value: Any) -> Sequence[str]:
    return [value] if isinstance(value, str) else [str(each) for each in value]


def _found(directory: Path, components: Sequence[str]) -> Path:
    """A file that a DICOMDIR names: below its folder, in capitals, as the standard has it, or in small letters."""
    if any(name in ("", ".", "..") or "/" in name or "\0" in name for name in components):
        raise ScanError(f"{directory}: names a file outside its folder; only files below it are read.")
    for spelling in (components, [name.lower() for name in components]):
        if (path := directory.parent.joinpath(*spelling)).is_file():
            return path
    raise ScanError(f"{directory}: names {'/'.join(components)}, which is not there; copy the medium whole.")
