"""What in a folder of studies may be a slice, or a whole series, but is not found to be DICOM."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Set
from pathlib import Path
from typing import NamedTuple

from tumortrace_runtime.errors import ScanError
from tumortrace_runtime.io.dicom.files import is_being_copied
from tumortrace_runtime.io.magic import beginning, begins_as_dicom

_SUFFIXES = (".dcm", ".dicom", ".ima")
"""What names of DICOM files usually end with."""

_OF_COPIES = re.compile(
    r"\.(gz|bz2|xz|zst|lz4|z|7z|zip|gpg|part|partial|filepart|crdownload|opdownload|download|tmp|temp|icloud)$"
)
"""What is put behind the name of a file that is packed, or not yet whole."""

_OF_SYSTEMS = {"thumbs.db", "desktop.ini"}
"""What systems put into folders, beside hidden files."""

_FOLDERS_OF_SYSTEMS = {"__macosx", "$recycle.bin", "lost+found", "system volume information"}

_OF_MACOS = "._"
"""What hidden files begin with that macOS puts beside others, to keep what it knows of them."""

_BARE = re.compile(rb"\x02\0\0\0UL|\x08\0[\0-\x1f]\0([A-Z]{2}|.\0\0\0)", re.DOTALL)
"""How a file begins that lacks the preamble, or what else stands before the data set (PS3.10, section 7.1)."""

_OF_OTHERS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"%PDF", b"\x7fELF", b"MZ")
"""How files begin that are named as slices are, but are pictures, documents or programs."""

_NUMBER = re.compile(
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"  # UUIDs
    r"|[0-9]+(\.[0-9]+)*(?![0-9a-f])"  # numbers and UIDs
    r"|(?=[a-f]*[0-9])[0-9a-f]{8,}"  # hashes
    r"|[0-9]+"
)
"""What differs among the names of slices."""


class Tree(NamedTuple):
    """A folder and all below it, as `tumortrace_runtime.io.dicom.finding` walks through it.

    Attributes:
        files: hidden ones too; what is linked is there once.
        folders: that can be read.
        closed: folders that cannot.
        filled: folders with files of their own, linked ones among them, that are not empty.
    """

    files: Collection[Path]
    folders: Collection[Path]
    closed: Collection[Path]
    filled: Collection[Path]


class _Names(NamedTuple):
    """How slices are named, in small letters.

    Attributes:
        forms: of their names.
        beginnings: what stands before the first dot.
        shapes: of the beginnings.
    """

    forms: Set[str]
    beginnings: Set[str]
    shapes: Set[str]


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
        names = _names(slices) if slices else everywhere._replace(shapes=set())
        yield from (path for path in together if path not in found and _may_be_slice(path, names))


def is_shown(path: Path) -> bool:
    """Whether a file is one that somebody put there, not the system."""
    return not path.name.startswith(".") and path.name.lower() not in _OF_SYSTEMS


def is_of_system(folder: str) -> bool:
    """Whether a folder of this name is hidden, or one that systems put beside others."""
    return folder.startswith(".") or folder.lower() in _FOLDERS_OF_SYSTEMS


def _lost_folders(tree: Tree, found: Set[Path]) -> Iterator[Path]:
    """The topmost folders in which there is no file but empty ones, beside others in which there is DICOM."""
    filled = {above for folder in (*tree.filled, *tree.closed) for above in (folder, *folder.parents)}
    of_studies = {above for path in found for above in path.parents}
    yield from (folder for folder in tree.folders if folder not in filled and folder.parent in of_studies)


def _may_be_slice(path: Path, names: _Names) -> bool:
    """Whether a file that is not found to be DICOM may be a slice, where slices have such names.

    It leads to nothing or cannot be read; is named as DICOM files or as the others are; is empty, and named as another
    slice would be but for its suffix; or lacks what stands before the data set. One that is being copied is hidden.
    """
    try:
        content = beginning(path)
    except ScanError:
        return is_shown(path)
    if not path.is_file():
        return not path.exists() and is_shown(path)
    name = path.name.lower()
    whole = _OF_COPIES.sub("", name)
    if is_being_copied(path):
        is_named = name.endswith(_SUFFIXES) or any(f"{suffix}." in name for suffix in _SUFFIXES)
        is_placeholder = whole != name and _form(whole.removeprefix(".")) in names.forms
        return begins_as_dicom(content) or ((is_named or is_placeholder) and not name.startswith(_OF_MACOS))
    if whole.endswith(_SUFFIXES) or _BARE.match(content):
        return True
    if _form(whole) in names.forms:
        return not content.startswith(_OF_OTHERS)
    begins = _before_dot(name)
    return not content and begins not in names.beginnings and _shape(begins) in names.shapes


def _names(paths: Iterable[Path]) -> _Names:
    names = {path.name.lower() for path in paths}
    beginnings = {_before_dot(name) for name in names}
    return _Names({_form(name) for name in names}, beginnings, {_shape(begins) for begins in beginnings})


def _before_dot(name: str) -> str:
    return name.partition(".")[0]


def _shape(begins: str) -> str:
    return re.sub("[0-9]", "#", begins)


def _form(name: str) -> str:
    """A name in small letters, without what differs among slices.

    >>> _form("im0001"), _form("mr.1.2.840.7"), _form("3f2504e0.dcm"), _form("readme")
    ('im#', 'mr.#', '#.dcm', 'readme')
    """
    return _NUMBER.sub("#", name)
