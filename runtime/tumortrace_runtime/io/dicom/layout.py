"""The dicom layout: a study a case, found in a folder, by a DICOMDIR or as a single file, with a series a channel."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.errors import ScanError
from tumortrace_runtime.files import sha256_bytes
from tumortrace_runtime.io.dicom.files import COPYING_FOLDERS, read_header
from tumortrace_runtime.io.dicom.finding import instance_files
from tumortrace_runtime.io.dicom.geometry import DicomGeometry, geometry_of
from tumortrace_runtime.io.dicom.grids import METHOD, resample, same_grid
from tumortrace_runtime.io.dicom.pixels import Pixels
from tumortrace_runtime.io.dicom.selection import Choice, select_series
from tumortrace_runtime.io.dicom.series import (
    Volume,
    by_series,
    by_study,
    check_one_patient,
    doubt_of,
    open_volume,
    read_values,
    unsuitable,
)
from tumortrace_runtime.io.dicom.summary import SeriesSummary, summarise
from tumortrace_runtime.io.folders import why_closed
from tumortrace_runtime.io.scan import CaseFiles, ChannelMapping, ChannelOrigin, Scan
from tumortrace_runtime.preprocess import REFERENCE_CHANNEL, replaced_channels

WANTED = "files of MR series that begin as DICOM does"

_ID_DIGITS = 16
_STUDY, _LOST = "study", "unread"
"""What the names of cases begin with: of studies, and of files whose study is not known."""


def find(root: Path, mapping: ChannelMapping | None = None) -> list[CaseFiles]:
    """The studies in a folder and the folders below it, of a DICOMDIR, or of a single file; sorted by name.

    A case is named by a hash of its StudyInstanceUID, and taken for a patient of its own: names and identifiers of
    patients stay in the files. A file whose study cannot be read may be of any whose files are in the same folder, and
    reading each of these cases refuses it; where there is none, such files of a folder are a case, which is refused.

    Raises:
        ScanError: a folder cannot be read, or a DICOMDIR is damaged or names what is not there.
        InputError: there are DICOM files, and pydicom is not installed.
    """
    studies, unread = by_study(instance_files(root))
    folders = {study: {path.parent for path in paths} for study, paths in studies.items()}
    lost: dict[str, list[Path]] = {}
    for path in unread:
        folder = _folder_of(path)
        beside = [study for study in studies if folder in folders[study]]
        for study in beside:
            studies[study].append(path)
        if not beside:
            lost.setdefault(os.path.relpath(folder, root), []).append(path)
    found = [_case(_STUDY, root, study, paths) for study, paths in studies.items()]
    found += [_case(_LOST, root, folder, paths) for folder, paths in lost.items()]
    return sorted(found, key=lambda files: files.case_id)


def read(
    files: CaseFiles,
    mapping: ChannelMapping | None = None,
    *,
    channels: Sequence[str] | None = None,
    with_truth: bool = True,
) -> Scan:
    """Choose the series of a study, read them, and bring them onto the grid of the first: of FLAIR, where it is there.

    Raises:
        ScanError: masks are asked for; the files are of another study than when they were found; a channel has no
            series, or several that could be it; or a chosen series is damaged, makes no regular grid, or is of another
            patient or frame of reference than the others.
        InputError: pydicom, or what decodes the pixels, is not installed.
    """
    if with_truth:
        raise ScanError(f"{files.folder}: the dicom layout has no masks to compare with; read it without truth.")
    with _told_of(name := _name(files)):
        return _read(files, mapping, channels, name)


def _read(files: CaseFiles, mapping: ChannelMapping | None, channels: Sequence[str] | None, name: str) -> Scan:
    study, by_uid = by_series(files.images)
    if files.case_id != _case_id(_STUDY, study):
        raise ScanError("its files have changed since it was found; look for it again.")
    series = list(by_uid.values())
    summaries = [_summary(paths) for paths in series]
    choices = select_series(summaries, channels, mapping.channels if mapping else {}, name)
    volumes = {
        place: open_volume(series[place], f"{name}: {summaries[place].name}")
        for place in dict.fromkeys(choice.series for choice in choices.values())
    }
    check_one_patient(list(volumes.values()))
    reference = REFERENCE_CHANNEL if REFERENCE_CHANNEL in choices else next(iter(choices))
    target = choices[reference].series
    others = tuple(volume.source for place, volume in volumes.items() if place != target)
    geometry = replace(_geometry(volumes[target]), others=others)
    voxels, origins = _on_one_grid(choices, volumes, summaries, reference)
    names = tuple(choices)
    return Scan(
        files=files,
        channels=names,
        voxels=voxels,
        geometry=geometry,
        replaced=replaced_channels(voxels, names),
        origins=origins,
    )


def write_case(scan: Scan, root: Path) -> Path:
    """Refuse: studies come from scanners, or from `tumortrace phantom --layout dicom`.

    Raises:
        ScanError: always.
    """
    raise ScanError(f"{scan.case_id}: no study is written in the dicom layout; write it as nifti.")


def _folder_of(path: Path) -> Path:
    """The folder of whose studies something unread may be: of an empty folder that one itself, which has none."""
    if not why_closed(path) and path.is_dir():
        return path
    return path.parent.parent if path.parent.name in COPYING_FOLDERS else path.parent


def _case_id(kind: str, key: str) -> str:
    return f"{kind}-{sha256_bytes(os.fsencode(key))[:_ID_DIGITS]}"


def _case(kind: str, root: Path, key: str, paths: Sequence[Path]) -> CaseFiles:
    case_id = _case_id(kind, key)
    return CaseFiles(case_id, case_id, site="", layout="dicom", folder=root, images=tuple(paths))


def _name(files: CaseFiles) -> str:
    """What to call a study in an error: by the folder that all its files are in, and its case."""
    return f"{Path(os.path.commonpath([path.parent for path in files.images]))} ({files.case_id})"


@contextmanager
def _told_of(name: str) -> Iterator[None]:
    """Let every refusal in a `with` block name the study."""
    try:
        yield
    except ScanError as problem:
        told = str(problem)
        raise ScanError(told if told.startswith(name) else f"{name}: {told}") from problem


def _summary(paths: Sequence[Path]) -> SeriesSummary:
    header = read_header(paths[0])
    return summarise(header, paths[0], instances=len(paths), unsuitable=unsuitable(header, paths[0]))


def _geometry(volume: Volume) -> DicomGeometry:
    return geometry_of(volume.source, volume.frame_of_reference_uid)


def _on_one_grid(
    choices: Mapping[str, Choice], volumes: Mapping[int, Volume], summaries: Sequence[SeriesSummary], reference: str
) -> tuple[npt.NDArray[np.generic], tuple[ChannelOrigin, ...]]:
    """The channels as (slices, rows, columns, channels), and where they came from."""
    target = volumes[choices[reference].series]
    read: dict[int, tuple[Pixels, str | None, float]] = {}
    for place, volume in volumes.items():
        _check_frame_of_reference(volume, target)
        read[place] = _on_grid(volume, target, reference)
    planes = [read[choice.series][0] for choice in choices.values()]
    voxels = np.empty((len(planes), *planes[0].shape), np.result_type(*(each.dtype for each in planes)))
    np.stack(planes, out=voxels)
    origins = tuple(
        ChannelOrigin(
            channel,
            summaries[choice.series].name,
            choice.reasons,
            *read[choice.series][1:],
            doubt=doubt_of(volumes[choice.series]),
            header_says=choice.header_says,
        )
        for channel, choice in choices.items()
    )
    return np.moveaxis(voxels, 0, -1), origins


def _on_grid(volume: Volume, target: Volume, reference: str) -> tuple[Pixels, str | None, float]:
    """The values of a volume on the grid of another, how they came there, and what share of it they cover."""
    values = read_values(volume)
    own, grid = _geometry(volume), _geometry(target)
    shape = _turned_shape(target)
    if same_grid(own, grid, _turned_shape(volume), shape):
        return values, None, 1.0
    resampled, covered = resample(values, own, grid, shape, volume.name)
    return resampled, f"{METHOD}, onto the grid of {reference}", round(covered, 4)


def _turned_shape(volume: Volume) -> tuple[int, int, int]:
    slices, rows, columns = volume.source.to_scan(np.broadcast_to(np.uint8(0), volume.source.shape)).shape
    return slices, rows, columns


def _check_frame_of_reference(volume: Volume, target: Volume) -> None:
    if volume.frame_of_reference_uid != target.frame_of_reference_uid:
        raise ScanError(
            f"{volume.name}: has another frame of reference than {target.name.rpartition(': ')[2]}, so how they lie to "
            "each other is not known; register them first."
        )
