"""What in a folder of studies may be a slice, or a whole series, but is not found to be DICOM."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Set
from pathlib import Path
from typing import NamedTuple

from tumortrace_runtime.errors import ScanError
from tumortrace_runtime.io.dicom.files import is_being_copied
from tumortrace_runtime.io.magic import beginning, begins_as_dicom

_SUFFIXES = {".dcm", ".dicom", ".ima"}
"""What names of DICOM files usually end with."""

_OF_COPIES = {".gz", ".bz2", ".xz", ".zst", ".zip", ".part", ".partial", ".filepart", ".crdownload", ".tmp", ".icloud"}
"""What is put behind the name of a file that is packed, or not yet whole."""

_OF_SYSTEMS = {"thumbs.db", "desktop.ini"}
"""What systems put into folders, beside hidden files."""

_OF_MACOS = "._"
"""What hidden files begin with that macOS puts beside others, to keep what it knows of them."""

_BARE = re.compile(rb"\x02\0\0\0UL|\x08\0[\0-\x1f]\0([A-Z]{2}|.\0\0\0)", re.DOTALL)
"""How a file begins that lacks the preamble, or what else stands before the data set (PS3.10, section 7.1)."""

_NUMBER = re.compile(r"[0-9a-f.]*[0-9][0-9a-f.]*")
"""What differs among the names of slices: numbers, hashes and UIDs."""


class Tree(NamedTuple):
    """A folder and all below it, as `tumortrace_runtime.io.dicom.finding` walks through it.

    Attributes:
        files: hidden ones too; what is linked is there once.
        folders: that can be read.
        closed: folders that cannot.
        filled: folders with files of their own, linked ones among them.
    """

    files: Collection[Path]
    folders: Collection[Path]
    closed: Collection[Path]
    filled: Collection[Path]


class _Names(NamedTuple):
    """How slices are named.

    Attributes:
        forms: of their names.
        beginnings: forms of what stands before the first dot.
    """

    forms: Set[str]
    beginnings: Set[str]


def lost(tree: Tree, found: Set[Path]) -> Iterator[Path]:
    """What may belong to a study beside what is found to be DICOM: files, and folders that are empty or closed."""
    yield from tree.closed
    yield from _lost_folders(tree, found)
    everywhere = _names(found)
    by_folder: dict[Path, list[Path]] = {}
    for path in tree.files:
        by_folder.setdefault(path.parent, []).append(path)
    for together in by_folder.values():
        slices = [path for path in together if path in found]
        names = _names(slices)
        if not slices and all(_form(_before_dot(path)) in everywhere.beginnings for path in together if is_shown(path)):
            names = everywhere
        taken = {_before_dot(path) for path in slices}
        yield from (path for path in together if path not in found and _may_be_slice(path, names, taken))


def is_shown(path: Path) -> bool:
    """Whether a file is one that somebody put there, not the system."""
    return not path.name.startswith(".") and path.name.lower() not in _OF_SYSTEMS


def _lost_folders(tree: Tree, found: Set[Path]) -> Iterator[Path]:
    """The topmost folders in which there is no file, beside others in which there is DICOM."""
    filled = {above for folder in (*tree.filled, *tree.closed) for above in (folder, *folder.parents)}
    of_studies = {above for path in found for above in path.parents}
    yield from (folder for folder in tree.folders if folder not in filled and folder.parent in of_studies)


def _may_be_slice(path: Path, names: _Names, taken: Set[str]) -> bool:
    """Whether a file that is not found to be DICOM may be a slice.

    It leads to nothing or cannot be read; is named as DICOM files or as the others are; is empty, and named as another
    slice would be but for its suffix; or lacks what stands before the data set. One that is being copied is hidden.

    Args:
        path: the file.
        names: of slices in its folder.
        taken: what stands before the first dot in these.
    """
    try:
        content = beginning(path)
    except ScanError:
        return is_shown(path)
    if not path.is_file():
        return not path.exists() and is_shown(path)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if is_being_copied(path):
        is_named = not _SUFFIXES.isdisjoint(suffixes) and not path.name.startswith(_OF_MACOS)
        return is_named or begins_as_dicom(content)
    while suffixes and suffixes[-1] in _OF_COPIES:
        suffixes.pop()
    if _SUFFIXES.intersection(suffixes[-1:]) or _form(path.name) in names.forms or _BARE.match(content):
        return True
    return not content and _before_dot(path) not in taken and _form(_before_dot(path)) in names.beginnings


def _names(paths: Iterable[Path]) -> _Names:
    paths = list(paths)
    return _Names({_form(path.name) for path in paths}, {_form(_before_dot(path)) for path in paths})


def _before_dot(path: Path) -> str:
    return path.name.partition(".")[0]


def _form(name: str) -> str:
    """A name without what differs among slices.

    >>> _form("IM0001"), _form("MR.1.2.840.7"), _form("README")
    ('im#', 'mr#', 'readme')
    """
    return _NUMBER.sub("#", name.lower())
