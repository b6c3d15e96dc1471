"""DICOM files: found in a folder, by a DICOMDIR or alone, and their headers, of which pixels are no part."""

from __future__ import annotations

import mmap
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tumortrace_runtime.errors import InputError, ScanError
from tumortrace_runtime.io.magic import PREAMBLE_BYTES, beginning, begins_as_dicom, is_dicom
from tumortrace_runtime.libraries import import_library

_DIRECTORY_CLASS = "1.2.840.10008.1.3.10"
_DEFLATED = "1.2.840.10008.1.2.1.99"
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_UID_LENGTH = 64
_FIRST_GROUPS = (b"\x02\0", b"\x08\0")
"""What a data set begins with that lacks what stands before it in a file."""

_UNDEFINED = 0xFFFFFFFF
"""The length of values that end with a delimiter."""

_IMAGE_PIXEL = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "PixelData",
)
"""What tells of pixels (PS3.3, section C.7.6.3)."""


def instance_files(root: Path) -> list[Path]:
    """The DICOM files in a folder and all folders below it, of a DICOMDIR, or `root` itself; sorted, none hidden.

    Beside DICOM files, what may be another but cannot be read is among them, folders too: reading it tells why.

    Raises:
        ScanError: a DICOMDIR is damaged or names what is not there.
        InputError: `root` is a DICOMDIR, and pydicom is not installed.
    """
    if not root.is_dir():
        if not is_dicom(root):
            return []
        return _listed_in(root) if is_directory(read_header(root, ["SOPClassUID"]), root) else [root]
    paths, closed = _files_below(root)
    found = [path for path in paths if _is_readable_dicom(path)]
    if not found:
        return []
    suffixes = {_suffix(path) for path in found}
    lost = [path for path in sorted({*paths} - {*found}) if _may_be_lost(path, suffixes)]
    return sorted([*found, *lost, *closed])


def read_header(path: Path, keywords: Sequence[str] | None = None) -> Any:
    """The dataset of a file without its pixels.

    Args:
        path: the file.
        keywords: the elements that are wanted; None for all.

    Raises:
        ScanError: it is no DICOM file, is damaged, or its header is compressed.
        InputError: pydicom is not installed.
    """
    if keywords is None:
        return _read(path, stop_before_pixels=True)
    return _read_until(path, keywords)


def read_image(path: Path) -> Any:
    """What a file tells of its pixels, and them, still as they are stored.

    Raises:
        ScanError, InputError: as `read_header` does.
    """
    return _read(path, specific_tags=list(_IMAGE_PIXEL))


def is_directory(header: Any, path: Path) -> bool:
    """Whether a header is that of a DICOMDIR.

    Raises:
        ScanError: it is damaged.
    """
    with damage_told(path):
        return str(header.file_meta.get("MediaStorageSOPClassUID")) == _DIRECTORY_CLASS


def uid(header: Any, keyword: str, path: Path) -> str:
    """A unique identifier in a header.

    Raises:
        ScanError: it is missing, or is none (PS3.5, section 9): up to 64 digits and dots.
    """
    with damage_told(path):
        value = str(header.get(keyword) or "")
    if len(value) > _UID_LENGTH or not _UID.fullmatch(value):
        raise ScanError(f"{path}: {keyword} is {'not a UID' if value else 'missing'}; up to 64 digits and dots wanted.")
    return value


@contextmanager
def damage_told(path: Path) -> Iterator[None]:
    """Tell in a typed error what goes wrong in a `with` block that decodes a file.

    A decoder given a damaged file raises almost anything. Its message, like its warnings, may quote the file, and so
    name the patient; both are left out.

    Raises:
        ScanError: anything but an error of our own or a lack of memory.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (InputError, MemoryError):
        raise
    except Exception as problem:
        if isinstance(problem, OSError) and problem.strerror:  # of the system's, not the decoder's
            raise ScanError(f"{path}: cannot be read ({problem.strerror}).") from problem
        what = type(problem).__name__
        raise ScanError(f"{path}: cannot be decoded as DICOM ({what}); it is damaged or incomplete.") from problem


def _files_below(root: Path) -> tuple[list[Path], list[Path]]:
    """The files in a folder and all below it, links followed, none hidden; and the folders that cannot be read."""
    paths: list[Path] = []
    problems: list[OSError] = []
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, onerror=problems.append, followlinks=True):
        if (place := os.path.realpath(folder)) in seen:
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths += [Path(folder, name) for name in names if not name.startswith(".")]
    return sorted(paths), [Path(problem.filename) for problem in problems]


def _is_readable_dicom(path: Path) -> bool:
    try:
        return is_dicom(path)
    except ScanError:
        return False


def _may_be_lost(path: Path, suffixes: set[str]) -> bool:
    """Whether a file that is not read as DICOM may be a slice all the same, beside files of these suffixes.

    It is DICOM by a name of another layout, lacks the preamble, is named as the others are, or, where names have no
    suffix, is empty or ends in the preamble; or it cannot be read, or is a link to what is not there.
    """
    try:
        content = beginning(path)
    except ScanError:
        return True
    if begins_as_dicom(content) or content.startswith(_FIRST_GROUPS):
        return True
    is_there, suffix = path.is_file(), _suffix(path)
    is_cut = is_there and not content[:PREAMBLE_BYTES].strip(b"\0")
    return suffix in suffixes and (is_cut or (is_there and suffix != "") or (path.is_symlink() and not path.exists()))


def _suffix(path: Path) -> str:
    """What the name ends with, such as ".dcm"; "" where that is a number, as at the end of a UID."""
    return path.suffix.lower() if path.suffix[1:].isalpha() else ""


def _read(path: Path, **options: Any) -> Any:
    with _content(path) as content:
        dataset = import_library("pydicom").dcmread(content, **options)
        _check_end(path, dataset)
        return dataset


def _read_until(path: Path, keywords: Sequence[str]) -> Any:
    """The elements of these keywords; what stands behind the last of them in the file is not read."""
    tags = [import_library("pydicom.tag").Tag(keyword) for keyword in keywords]

    def is_behind(tag: Any, representation: str | None, length: int) -> bool:
        return bool(tag > max(tags))

    with _content(path) as content:
        read = import_library("pydicom.filereader").read_partial
        dataset = read(content, stop_when=is_behind, specific_tags=tags)
        _check_end(path, dataset)
        return dataset


@contextmanager
def _content(path: Path) -> Iterator[Any]:
    """A DICOM file's content as a stream, in a block of which damage is told."""
    pydicom = import_library("pydicom")
    with damage_told(path), _mapped(path) as content:
        if not begins_as_dicom(content):
            raise ScanError(f"{path}: does not begin as DICOM files do; copy the file again.")
        syntax = pydicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID")
        if not syntax:
            raise ScanError(f"{path}: names no transfer syntax, or ends before it; it is damaged or incomplete.")
        if syntax == _DEFLATED:
            raise ScanError(
                f"{path}: its header is deflated, which is not read; inflate it first (dcmconv of DCMTK does)."
            )
        yield content


def _check_end(path: Path, dataset: Any) -> None:
    """Refuse a file that ends within a value, of which pydicom gives what there is: of a UID, another UID."""
    last: Any = dataset.get_item(next(reversed(dataset.keys()))) if len(dataset) else None
    length = getattr(last, "length", _UNDEFINED)
    if length != _UNDEFINED and last.value is not None and len(last.value) < length:
        raise ScanError(f"{path}: ends in the middle of a value; copy the file again.")


@contextmanager
def _mapped(path: Path) -> Iterator[Any]:
    """A file's content as a stream: asked for more than there is, as by a hostile length, it gives no more memory."""
    with path.open("rb") as stream:
        if not os.fstat(stream.fileno()).st_size:
            raise ScanError(f"{path}: is empty; copy the file again.")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            yield content


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
