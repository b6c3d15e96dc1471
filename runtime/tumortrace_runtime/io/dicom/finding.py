"""Which files are DICOM: in a folder, by a DICOMDIR, or alone; and which may be, but cannot be read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tumortrace_runtime.errors import ScanError
from tumortrace_runtime.io.dicom.files import COPYING_FOLDERS, damage_told, is_being_copied, read_header
from tumortrace_runtime.io.dicom.lost import Tree, is_of_system, is_shown, lost
from tumortrace_runtime.io.magic import is_dicom

_DIRECTORY_CLASS = "1.2.840.10008.1.3.10"


def instance_files(root: Path) -> list[Path]:
    """The DICOM files in a folder and all folders below it, of a DICOMDIR, or `root` itself; sorted.

    In a folder, what may be another file but cannot be read is among them, empty folders too, and what a DICOMDIR names
    of which some is there: reading it tells why it cannot be.

    Raises:
        ScanError: a DICOMDIR is damaged or names what is not there.
        InputError: `root` is a DICOMDIR, and pydicom is not installed.
    """
    if not root.is_dir():
        if not is_dicom(root):
            return []
        return _listed_in(root) if _is_directory(read_header(root, ["SOPClassUID"]), root) else [root]
    tree = _walk(root)
    found = {path for path in tree.files if not is_being_copied(path) and _is_readable_dicom(path)}
    return sorted({*found, *lost(tree, found), *_not_copied(found)}) if found else []


def _is_directory(header: Any, path: Path) -> bool:
    """Whether a header is that of a DICOMDIR.

    Raises:
        ScanError: it is damaged.
    """
    with damage_told(path):
        return str(header.file_meta.get("MediaStorageSOPClassUID")) == _DIRECTORY_CLASS


def _walk(root: Path) -> Tree:
    """A folder and all below it, links followed, without hidden and systems' folders; but those of copies are there."""
    files: dict[Path, Path] = {}
    links: dict[Path, Path] = {}
    problems: list[OSError] = []
    walked: dict[str, Path] = {}
    filled: set[Path] = set()
    for folder, folders, names in os.walk(root, onerror=problems.append, followlinks=True):
        if (place := os.path.realpath(folder)) in walked:
            filled.add(Path(folder))
            folders.clear()
            continue
        walked[place] = Path(folder)
        folders[:] = sorted(name for name in folders if not is_of_system(name) or name in COPYING_FOLDERS)
        paths = [Path(folder, name) for name in sorted(names)]
        if any(is_shown(path) and path.lstat().st_size for path in paths):
            filled.add(Path(folder))
        for path in paths:
            if path.is_symlink():
                links.setdefault(Path(os.path.realpath(path)), path)
            else:
                files[Path(place, path.name)] = path
    closed = [Path(problem.filename) for problem in problems]
    return Tree([*(links | files).values()], [*walked.values()], closed, filled)


def _is_readable_dicom(path: Path) -> bool:
    try:
        return is_dicom(path)
    except ScanError:
        return False


def _listed_in(directory: Path) -> list[Path]:
    paths = _named_in(directory)
    if missing := [path for path in paths if not path.is_file()]:
        name = missing[0].relative_to(directory.parent)
        raise ScanError(f"{directory}: names {name}, which is not there; copy the medium whole.")
    return paths


def _not_copied(found: Iterable[Path]) -> Iterator[Path]:
    """What DICOMDIRs name that is not there, or no DICOM, though other files are that they name."""
    for directory in (path for path in found if path.name.upper() == "DICOMDIR"):
        try:
            named = _named_in(directory)
        except ScanError:  # reading it tells
            continue
        missing = [path for path in named if not _is_readable_dicom(path)]
        yield from missing if len(missing) < len(named) else ()


def _named_in(directory: Path) -> list[Path]:
    """The files that a DICOMDIR names, sorted."""
    records = read_header(directory).get("DirectoryRecordSequence") or []
    with damage_told(directory):
        named = [list(_components(record.ReferencedFileID)) for record in records if "ReferencedFileID" in record]
        return sorted(_place(directory, components) for components in named)


def _components(value: Any) -> Sequence[str]:
    return [value] if isinstance(value, str) else [str(each) for each in value]


def _place(directory: Path, components: Sequence[str]) -> Path:
    """A file that a DICOMDIR names: below its folder, in capitals, as the standard has it, or in small letters."""
    if any(name in ("", ".", "..") or "/" in name or "\0" in name for name in components):
        raise ScanError(f"{directory}: names a file outside its folder; only files below it are read.")
    place, small = (directory.parent.joinpath(*names) for names in (components, [name.lower() for name in components]))
    return small if small.is_file() and not place.is_file() else place
