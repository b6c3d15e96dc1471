"""The index: every case of a data set, validated and recorded, in one versioned JSON file with a hash of its own.

The hash covers the cases (contents, not places), so that a data set keeps its hash wherever it lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tumortrace.progress import Progress, silent
from tumortrace_runtime.errors import DatasetError, ScanError
from tumortrace_runtime.files import (
    canonical_json,
    is_text,
    read_json,
    sha256_bytes,
    sha256_file,
    spelled_out,
    write_json,
)
from tumortrace_runtime.io import CaseFiles, ChannelMapping, Scan, find_cases, read_case, without_case
from tumortrace_runtime.io.mapping import mapping_from_json, mapping_to_json

FORMAT = "tumortrace-index"
VERSION = 1


@dataclass(frozen=True)
class FileRecord:
    """One file of a case: its path below the data root with forward slashes, its size and its content's hash."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class CaseRecord:
    """One case that was read whole and found good.

    Attributes:
        case_id: name of the case, unique in the index.
        patient_id: whom it shows.
        site: the institution's code, or "".
        layout: the name of the layout in `tumortrace_runtime.io`.
        folder: below the data root; "." when the root is the case.
        channels: sequences in the scan, copies included.
        replaced: channels that hold a copy of another sequence in place of a missing one.
        shape: (slices, rows, columns).
        spacing_mm: (slices, rows, columns), or None where the layout does not tell.
        tumour_voxels: voxels of any class but 0.
        images: image files, in the reader's order.
        truth: mask files, in the reader's order.
    """

    case_id: str
    patient_id: str
    site: str
    layout: str
    folder: str
    channels: tuple[str, ...]
    replaced: tuple[str, ...]
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float] | None
    tumour_voxels: int
    images: tuple[FileRecord, ...]
    truth: tuple[FileRecord, ...]

    @property
    def slices(self) -> int:
        """How many slices the scan has."""
        return self.shape[0]

    @property
    def tumour_free(self) -> bool:
        """Whether no voxel of the mask is tumour."""
        return self.tumour_voxels == 0

    def files(self, root: Path) -> CaseFiles:
        """The case's files below `root`, for a reader."""
        return CaseFiles(
            case_id=self.case_id,
            patient_id=self.patient_id,
            site=self.site,
            layout=self.layout,
            folder=root / self.folder,
            images=tuple(root / file.path for file in self.images),
            truth=tuple(root / file.path for file in self.truth),
        )


@dataclass(frozen=True)
class Refusal:
    """A folder that is not in the index, and why."""

    folder: str
    reason: str


@dataclass(frozen=True)
class Index:
    """A data set that was read whole once.

    Attributes:
        root: the folder that the paths of all cases are relative to.
        mapping: how the files were read; None for a layout's own names.
        cases: sorted by case_id.
        refused: what was found and left out; not part of the hash.
    """

    root: Path
    mapping: ChannelMapping | None
    cases: tuple[CaseRecord, ...]
    refused: tuple[Refusal, ...] = ()

    @cached_property
    def sha256(self) -> str:
        """Hash over version, mapping and cases; the same wherever the data lies."""
        return _content_hash(_content(self))

    @cached_property
    def _by_id(self) -> dict[str, CaseRecord]:
        return {case.case_id: case for case in self.cases}

    def case(self, case_id: str) -> CaseRecord:
        """The record of one case.

        Raises:
            DatasetError: it is not in the index.
        """
        if case_id not in self._by_id:
            raise DatasetError(f"{case_id}: is not in the index of {self.root}, which has {len(self.cases)} cases.")
        return self._by_id[case_id]


def prepare(
    src: Path,
    *,
    layout: str | None = None,
    mapping: ChannelMapping | None = None,
    progress: Progress = silent,
) -> Index:
    """Read, validate and record every case in `src`. What does not hold is in `refused`; none is dropped.

    Args:
        src: one case folder, or a folder of them.
        layout: a name in `tumortrace_runtime.io.LAYOUTS`; None finds it by the files present.
        mapping: which file holds which channel, for the nifti layout.
        progress: wraps the cases, to show how far reading is.

    Raises:
        ScanError: `src` is not a folder, holds no case, or holds cases of several layouts.
        InputError: the library that decodes the layout is not installed.
    """
    root = src.resolve()
    if not is_text(str(root)):
        raise ScanError(f"{root}: is not UTF-8, or has control characters; rename it.")
    found = find_cases(root, layout, mapping)
    refused = [Refusal(str(folder), f"{folder}: {reason}") for folder, reason in without_case(root, found)]
    cases: dict[str, CaseRecord] = {}
    with progress(found, "reading cases") as working:
        for files in working:
            try:
                if files.case_id in cases:
                    raise ScanError(f"{files.folder}: the case id {files.case_id} is there twice; ids must be unique.")
                cases[files.case_id] = _record(files, mapping, root)
            except ScanError as problem:
                refused.append(Refusal(str(files.folder), str(problem)))
    return Index(root, mapping, tuple(cases[name] for name in sorted(cases)), tuple(refused))


def save_index(index: Index, path: Path) -> None:
    """Write the index as JSON, whole or not at all.

    Raises:
        OutputError: it could not be written.
    """
    content = _content(index)
    refused = [{key: spelled_out(text) for key, text in asdict(refusal).items()} for refusal in index.refused]
    place = {"root": str(index.root), "refused": refused}
    write_json(path, {**content, **place, "sha256": index.sha256})


def load_index(path: Path, root: Path | None = None) -> Index:
    """Read an index.

    Args:
        path: the JSON file that `save_index` wrote.
        root: where the data lies now; None for where it lay when the index was made.

    Raises:
        DatasetError: unreadable, of another version, or altered since it was written.
    """
    value = read_json(path, DatasetError)
    check_document(value, path, FORMAT, VERSION)
    try:
        if _content_hash({key: value[key] for key in ("format", "version", "mapping", "cases")}) != value["sha256"]:
            raise DatasetError(
                f"{path}: its cases do not match its hash; it was altered. Run `tumortrace prepare` again."
            )
        index = _parse(value, path, root)
    except (KeyError, TypeError, ValueError) as problem:
        raise DatasetError(f"{path}: is not a whole index ({problem!r}). Run `tumortrace prepare` again.") from problem
    if len({case.case_id for case in index.cases}) != len(index.cases):
        raise DatasetError(f"{path}: a case id is there twice; ids must be unique.")
    return index


def check_document(value: Any, path: Path, kind: str, version: int) -> None:
    """Refuse JSON that is not of this kind and version.

    Raises:
        DatasetError: it is something else; the message says what was wanted.
    """
    if not isinstance(value, dict) or value.get("format") != kind:
        raise DatasetError(f"{path}: is not a {kind} file.")
    if value.get("version") != version:
        raise DatasetError(f"{path}: is a {kind} of version {value.get('version')}; version {version} is wanted.")


def open_case(index: Index, case_id: str, *, channels: Sequence[str] | None = None, with_truth: bool = True) -> Scan:
    """Read one case of the index, as `read_case` does, after a look at the sizes of its files.

    Raises:
        DatasetError: the case is not in the index, or a file is gone or of another size.
        ScanError: a file cannot be read.
    """
    case = index.case(case_id)
    _check_files(index.root, case, hashes=False)
    return read_case(case.files(index.root), index.mapping, channels=channels, with_truth=with_truth)


def verify_case(index: Index, case_id: str) -> None:
    """Compare the content of all files of one case with the hashes in the index.

    Raises:
        DatasetError: the case is not in the index, or a file is gone or was changed.
    """
    _check_files(index.root, index.case(case_id), hashes=True)


def _record(files: CaseFiles, mapping: ChannelMapping | None, root: Path) -> CaseRecord:
    scan = read_case(files, mapping, with_truth=True)
    slices, rows, columns = scan.voxels.shape[:3]
    return CaseRecord(
        case_id=files.case_id,
        patient_id=files.patient_id,
        site=files.site,
        layout=files.layout,
        folder=files.folder.relative_to(root).as_posix(),
        channels=scan.channels,
        replaced=scan.replaced,
        shape=(slices, rows, columns),
        spacing_mm=scan.geometry.spacing_mm,
        tumour_voxels=0 if scan.truth is None else int(np.count_nonzero(scan.truth)),
        images=tuple(_file_record(path, root) for path in files.images),
        truth=tuple(_file_record(path, root) for path in files.truth),
    )


def _file_record(path: Path, root: Path) -> FileRecord:
    return FileRecord(path.relative_to(root).as_posix(), path.stat().st_size, sha256_file(path))


def _check_files(root: Path, case: CaseRecord, *, hashes: bool) -> None:
    for record in (*case.images, *case.truth):
        path = root / record.path
        if not path.is_file():
            raise DatasetError(f"{path}: is gone. If the data was moved, run `tumortrace prepare` on its new place.")
        size_bytes = path.stat().st_size
        if size_bytes != record.size_bytes or (hashes and sha256_file(path) != record.sha256):
            raise DatasetError(f"{path}: was changed since the index was made. Run `tumortrace prepare` again.")


def _content(index: Index) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "mapping": None if index.mapping is None else mapping_to_json(index.mapping),
        "cases": [asdict(case) for case in index.cases],
    }


def _content_hash(content: dict[str, Any]) -> str:
    return sha256_bytes(canonical_json(content))


def _parse(value: dict[str, Any], path: Path, root: Path | None) -> Index:
    return Index(
        root=Path(value["root"]) if root is None else root.resolve(),
        mapping=None if value["mapping"] is None else mapping_from_json(value["mapping"], path),
        cases=tuple(_parse_case(case) for case in value["cases"]),
        refused=tuple(Refusal(**refusal) for refusal in value["refused"]),
    )


def _parse_case(value: dict[str, Any]) -> CaseRecord:
    slices, rows, columns = value["shape"]
    spacing = value["spacing_mm"]
    lists = {
        "channels": tuple(value["channels"]),
        "replaced": tuple(value["replaced"]),
        "shape": (slices, rows, columns),
        "spacing_mm": None if spacing is None else tuple(spacing),
        "images": tuple(FileRecord(**file) for file in value["images"]),
        "truth": tuple(FileRecord(**file) for file in value["truth"]),
    }
    return CaseRecord(**{**value, **lists})
