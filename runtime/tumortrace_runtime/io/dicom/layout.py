"""The dicom layout: a study a case, found in a folder, by a DICOMDIR or as a single file, with a series a channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.errors import ScanError
from tumortrace_runtime.files import sha256_bytes
from tumortrace_runtime.io.dicom.files import instance_files, read_header
from tumortrace_runtime.io.dicom.geometry import DicomGeometry, geometry_of
from tumortrace_runtime.io.dicom.grids import METHOD, resample, same_grid
from tumortrace_runtime.io.dicom.pixels import Pixels
from tumortrace_runtime.io.dicom.selection import Choice, select_series
from tumortrace_runtime.io.dicom.series import (
    Volume,
    by_series,
    by_study,
    doubt_of,
    open_volume,
    read_values,
    unsuitable,
)
from tumortrace_runtime.io.dicom.summary import SeriesSummary, summarise
from tumortrace_runtime.io.scan import CaseFiles, ChannelMapping, ChannelOrigin, Scan
from tumortrace_runtime.preprocess import REFERENCE_CHANNEL, replaced_channels

WANTED = "DICOM files of MR series"

_ID_DIGITS = 16


def find(root: Path, mapping: ChannelMapping | None = None) -> list[CaseFiles]:
    """The studies in a folder and the folders below it, of a DICOMDIR, or of a single file; sorted by name.

    A case is named by a hash of its StudyInstanceUID, and taken for a patient of its own: names and identifiers of
    patients stay in the files.

    Raises:
        ScanError: a file is damaged, or has no UID of a study.
        InputError: there are DICOM files, and pydicom is not installed.
    """
    studies = by_study(instance_files(root))
    return sorted((_case(root, study, paths) for study, paths in studies.items()), key=lambda files: files.case_id)


def read(
    files: CaseFiles,
    mapping: ChannelMapping | None = None,
    *,
    channels: Sequence[str] | None = None,
    with_truth: bool = True,
) -> Scan:
    """Choose the series of a study, read them, and bring them onto the grid of the first: of FLAIR, where it is there.

    Raises:
        ScanError: masks are asked for; a channel has no series, or several that could be it; or a chosen series is
            damaged, makes no regular grid, or has another frame of reference.
        InputError: pydicom, or what decodes the pixels, is not installed.
    """
    if with_truth:
        raise ScanError(f"{files.folder}: the dicom layout has no masks to compare with; read it without truth.")
    name = str(files.folder)
    series = list(by_series(files.images).values())
    summaries = [_summary(paths) for paths in series]
    choices = select_series(summaries, channels, mapping.channels if mapping else {}, name)
    volumes = {
        place: open_volume(series[place], f"{name}: {summaries[place].name}")
        for place in dict.fromkeys(choice.series for choice in choices.values())
    }
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


def _case(root: Path, study_uid: str, paths: Sequence[Path]) -> CaseFiles:
    case_id = f"study-{sha256_bytes(study_uid.encode())[:_ID_DIGITS]}"
    return CaseFiles(case_id, case_id, site="", layout="dicom", folder=root, images=tuple(paths))


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
