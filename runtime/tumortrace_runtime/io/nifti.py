"""The NIfTI layout: a folder a case, a file a channel, with BraTS names unless a mapping gives others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.algorithm import Algorithm
from tumortrace_runtime.errors import ScanError
from tumortrace_runtime.files import atomic_directory, atomic_file
from tumortrace_runtime.io.folders import case_folders, file_names
from tumortrace_runtime.io.nifti_header import grid_distance_mm
from tumortrace_runtime.io.pictures import write_overlay as write_overlay
from tumortrace_runtime.io.scan import CHANNELS, CaseFiles, ChannelMapping, Scan, check_channels, check_mask
from tumortrace_runtime.io.volumes import (
    NiftiGeometry,
    axis_aligned,
    nibabel,
    read_volume,
    write_volume,
)
from tumortrace_runtime.preprocess import REFERENCE_CHANNEL, replaced_channels

WANTED = "*_flair.nii.gz, *_t1.nii.gz, *_t1ce.nii.gz, *_t2.nii.gz, or the files of a mapping"

BRATS = ChannelMapping({name: f"*_{name}.nii*" for name in CHANNELS}, "*_seg.nii*")
"""BraTS names, `.nii.gz` and `.nii`. Not every channel need be there: a model says which it wants."""

GRID_TOLERANCE = 0.1
"""Files of one case may put a corner of their grid this far apart, as a part of the smallest voxel side."""

FILES_AT_ONCE = 4
"""So many files of a case are read at the same time: those of a BraTS case without its mask."""

LABEL_TOLERANCE = 1e-4
"""A label stored as a float or with scaling is an integer when it is this near to one."""


def find(root: Path, mapping: ChannelMapping | None = None) -> list[CaseFiles]:
    """The cases in `root` (a case folder or a folder of them), sorted by name; empty where there are none.

    A folder is a case when it holds a file of one channel. The layout names no patient or site: each case is taken
    for a patient of its own.

    Raises:
        ScanError: `root` mixes images and case folders.
    """
    mapping = mapping or BRATS
    patterns = tuple(mapping.channels.values())
    folders = case_folders(root, lambda folder: bool(_matching(file_names(folder), patterns)))
    return [_case(folder, mapping) for folder in folders]


def read(
    files: CaseFiles,
    mapping: ChannelMapping | None = None,
    *,
    channels: Sequence[str] | None = None,
    with_truth: bool = True,
) -> Scan:
    """Read and validate one case.

    Every channel of a mapping must be there; with BraTS names (no mapping), those present are read. Of files of
    channels that are not wanted, only the names are looked at.

    Raises:
        ScanError: a file is missing, there twice, unreadable or on another grid; holds NaN; or a label is unmapped.
        InputError: nibabel is not installed.
    """
    names = mapping or BRATS
    paths = _wanted(files, _channel_paths(files, names, all_wanted=mapping is not None), channels)
    truth = [_truth_path(files, names)] if with_truth else []
    volumes, geometry = _read_on_one_grid([*paths.values(), *truth], files.folder)
    voxels = _last_axis(volumes[: len(paths)])
    return Scan(
        files=files,
        channels=tuple(paths),
        voxels=voxels,
        geometry=geometry,
        replaced=replaced_channels(voxels, tuple(paths)),
        truth=_to_classes(truth[0], volumes[-1], names.labels) if truth else None,
    )


def write_case(scan: Scan, root: Path) -> Path:
    """Write the new folder `root`/`scan.case_id` with BraTS names, `_seg` where the scan has truth.

    Raises:
        ScanError: the scan has no spacing, or NIfTI cannot hold its dtype.
        OutputError: the folder exists, or could not be written; nothing is left behind.
    """
    geometry = _geometry(scan)
    target = root / scan.case_id
    with atomic_directory(target) as folder:
        for position, name in enumerate(scan.channels):
            write_volume(folder / f"{scan.case_id}_{name}.nii.gz", scan.voxels[..., position], geometry)
        if scan.truth is not None:
            write_volume(folder / f"{scan.case_id}_seg.nii.gz", scan.truth, geometry)
    return target


def prepare_writing() -> None:
    """Load what writing takes.

    Raises:
        InputError: nibabel is not installed.
    """
    nibabel()


def write_mask(scan: Scan, mask: npt.NDArray[np.uint8], folder: Path, algorithm: Algorithm | None = None) -> list[Path]:
    """Write `mask`, (slices, rows, columns) classes, as `<case_id>_mask.nii.gz` on the grid of the scan's own files.

    Raises:
        ScanError: the mask is not on the scan's grid, or the scan has no spacing.
        OutputError: the file could not be written; nothing is left behind.
    """
    check_mask(scan, mask)
    target = folder / f"{scan.case_id}_mask.nii.gz"
    geometry = _geometry(scan)
    with atomic_file(target) as path:
        write_volume(path, mask, geometry)
    return [target]


def _case(folder: Path, mapping: ChannelMapping) -> CaseFiles:
    names = file_names(folder)
    return CaseFiles(
        case_id=folder.name,
        patient_id=folder.name,
        site="",
        layout="nifti",
        folder=folder,
        images=tuple(folder / name for name in _matching(names, mapping.channels.values())),
        truth=tuple(folder / name for name in _matching(names, [mapping.truth])),
    )


def _matching(names: Sequence[str], patterns: Iterable[str]) -> list[str]:
    volumes = [name for name in names if name.endswith((".nii", ".nii.gz"))]
    return [name for name in volumes if any(fnmatchcase(name, pattern) for pattern in patterns)]


def _channel_paths(files: CaseFiles, mapping: ChannelMapping, *, all_wanted: bool) -> Mapping[str, Path]:
    """Channel to file, in the order of `CHANNELS` and then by name, whatever the order of the mapping's keys."""
    order = [name for name in CHANNELS if name in mapping.channels]
    order += sorted(set(mapping.channels) - set(CHANNELS))
    found = {name: _only(files, files.images, mapping.channels[name]) for name in order}
    if all_wanted and (missing := [name for name in order if found[name] is None]):
        raise ScanError(f"{files.folder}: has no file {mapping.channels[missing[0]]} for the channel {missing[0]}.")
    present = {name: path for name, path in found.items() if path is not None}
    if not present:
        raise ScanError(f"{files.folder}: holds none of {', '.join(mapping.channels.values())}.")
    return present


def _only(files: CaseFiles, paths: Sequence[Path], pattern: str) -> Path | None:
    matching = [path for path in paths if fnmatchcase(path.name, pattern)]
    if len(matching) > 1:
        names = ", ".join(path.name for path in matching)
        raise ScanError(f"{files.folder}: has several files {pattern} ({names}); one is wanted.")
    return matching[0] if matching else None


def _wanted(files: CaseFiles, paths: Mapping[str, Path], channels: Sequence[str] | None) -> Mapping[str, Path]:
    """Of channel to file, the channels that are wanted, and the one that others are compared with."""
    if channels is None:
        return paths
    check_channels(files, tuple(paths), channels)
    return {name: path for name, path in paths.items() if name in channels or name == REFERENCE_CHANNEL}


def _read_on_one_grid(paths: Sequence[Path], folder: Path) -> tuple[list[npt.NDArray[np.generic]], NiftiGeometry]:
    """Volumes that lie where the first does, and its geometry. Of several problems, the first file's is told."""
    with ThreadPoolExecutor(FILES_AT_ONCE) as readers:
        read = readers.map(read_volume, paths)
        first, geometry = next(read)
        volumes = [first]
        for path, (voxels, own) in zip(paths[1:], read, strict=True):
            _check_grid(path, own, geometry, folder)
            volumes.append(voxels)
    return volumes, geometry


def _last_axis(volumes: Sequence[npt.NDArray[np.generic]]) -> npt.NDArray[np.generic]:
    """Volumes of one shape as (slices, rows, columns, volumes), each one by itself in memory, slice after slice."""
    dtype = np.result_type(*(volume.dtype for volume in volumes))
    planes = np.empty((len(volumes), *volumes[0].shape), dtype)
    np.stack(volumes, out=planes)
    return np.moveaxis(planes, 0, -1)


def _check_grid(path: Path, own: NiftiGeometry, geometry: NiftiGeometry, folder: Path) -> None:
    if own.shape[:3] != geometry.shape[:3]:
        raise ScanError(f"{path}: has the shape {own.shape[:3]}; the other channels have {geometry.shape[:3]}.")
    assert geometry.spacing_mm is not None
    assert geometry.affine is not None
    assert own.affine is not None
    apart_mm = grid_distance_mm(geometry.shape, geometry.affine, own.affine)
    if apart_mm > GRID_TOLERANCE * min(geometry.spacing_mm):
        raise ScanError(
            f"{path}: its affine puts voxels {apart_mm:.3g} mm from where the first channel has them; "
            f"all files of {folder.name} must share one grid (resample them first)."
        )


def _truth_path(files: CaseFiles, mapping: ChannelMapping) -> Path:
    if not mapping.truth:
        raise ScanError(f"{files.folder}: the mapping names no label map; add the key 'truth'.")
    path = _only(files, files.truth, mapping.truth)
    if path is None:
        raise ScanError(f"{files.folder}: has no mask; {mapping.truth} is wanted.")
    return path


def _to_classes(path: Path, stored: npt.NDArray[np.generic], labels: Mapping[int, int]) -> npt.NDArray[np.uint8]:
    values = stored
    if stored.dtype.kind == "f":
        whole = np.rint(stored)
        values = np.where(np.abs(stored - whole) <= LABEL_TOLERANCE, whole, stored)
    classes = np.zeros(values.shape, np.uint8)
    mapped = np.zeros(values.shape, bool)
    for value, number in labels.items():
        here = values == value
        classes[here] = number
        mapped |= here
    if not mapped.all():
        found = ", ".join(f"{value:g}" for value in np.unique(values[~mapped])[:5])
        known = ", ".join(str(value) for value in sorted(labels))
        raise ScanError(f"{path}: has the label values {found}; the mapping knows {known}.")
    return classes


def _geometry(scan: Scan) -> NiftiGeometry:
    if isinstance(scan.geometry, NiftiGeometry):
        return scan.geometry
    if scan.geometry.spacing_mm is None:
        raise ScanError(f"{scan.case_id}: has no spacing, which NIfTI needs; write it in the lgg layout.")
    slices, rows, columns = scan.voxels.shape[:3]
    return axis_aligned((slices, rows, columns), scan.geometry.spacing_mm)
