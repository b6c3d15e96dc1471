"""The public LGG layout: a folder a case, `NAME_<n>.tif` a slice, `NAME_<n>_mask.tif` its mask.

Channels are (t1, flair, t1ce) as uint8 RGB, masks 0 and 255; slice numbers are not padded. Source: Buda et al. 2019,
"Association of genomic subtypes of lower-grade gliomas with shape features automatically extracted by a deep learning
algorithm", Computers in Biology and Medicine 109.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.algorithm import Algorithm
from tumortrace_runtime.errors import ScanError
from tumortrace_runtime.files import atomic_directory
from tumortrace_runtime.io.folders import case_folders, file_names, write_together
from tumortrace_runtime.io.images import read_tiff, write_tiff
from tumortrace_runtime.io.pictures import write_overlay as write_overlay
from tumortrace_runtime.io.scan import MAX_VOXELS, CaseFiles, ChannelMapping, Geometry, Scan, check_channels, check_mask
from tumortrace_runtime.libraries import import_library
from tumortrace_runtime.preprocess import replaced_channels

LAYOUT_CHANNELS = ("t1", "flair", "t1ce")
WANTED = "slices NAME_<n>.tif"

_SLICE = re.compile(r"(?P<name>.+)_(?P<number>\d+)(?P<mask>_mask)?\.tif", re.IGNORECASE)
_LISTED = 8
"""So many numbers are named in an error."""

_PATIENT = re.compile(r"TCGA_(?P<site>[A-Z0-9]{2})_[A-Z0-9]+")


class _Slice(NamedTuple):
    number: int
    name: str
    is_mask: bool
    path: Path


def find(root: Path, mapping: ChannelMapping | None = None) -> list[CaseFiles]:
    """The cases in `root` (a case folder or a folder of them), sorted by name; empty where there are none.

    Raises:
        ScanError: a mapping was given, which this layout has no use for, or `root` mixes images and case folders.
    """
    if mapping is not None:
        raise ScanError("The lgg layout has fixed channels and takes no mapping; leave the mapping out.")
    return [_case(folder) for folder in case_folders(root, _holds_slices)]


def read(
    files: CaseFiles,
    mapping: ChannelMapping | None = None,
    *,
    channels: Sequence[str] | None = None,
    with_truth: bool = True,
) -> Scan:
    """Read and validate one case: (slices, rows, columns, 3) uint8, and truth with classes 0 and 1.

    Raises:
        ScanError: a slice is missing, unreadable or of another size; or, with truth, a mask is missing, has no slice,
            or holds other values than 0 and 255.
        InputError: Pillow is not installed.
    """
    check_channels(files, LAYOUT_CHANNELS, channels or ())
    slices = _ordered(files.folder, files.images)
    voxels = _read_stack([each.path for each in slices], lambda path: read_tiff(path, ("RGB",)))
    return Scan(
        files=files,
        channels=LAYOUT_CHANNELS,
        voxels=voxels,
        geometry=Geometry(),
        replaced=replaced_channels(voxels, LAYOUT_CHANNELS),
        truth=_read_truth(files, slices, voxels.shape[1:3]) if with_truth else None,
    )


def write_case(scan: Scan, root: Path) -> Path:
    """Write slices, and masks where the scan has truth, into the new folder `root`/`scan.case_id`.

    Raises:
        ScanError: the scan is not uint8 of t1, flair, t1ce, or its truth has other classes than 0 and 1.
        OutputError: the folder exists, or could not be written; nothing is left behind.
    """
    if set(scan.channels) != set(LAYOUT_CHANNELS) or scan.voxels.dtype != np.uint8:
        raise ScanError(
            f"{scan.case_id}: has {', '.join(scan.channels)} as {scan.voxels.dtype}; "
            f"the lgg layout holds {', '.join(LAYOUT_CHANNELS)} as uint8."
        )
    pixels = scan.select(LAYOUT_CHANNELS).astype(np.uint8, copy=False)
    truth = None if scan.truth is None else _as_pixels(scan, scan.truth)
    target = root / scan.case_id
    with atomic_directory(target) as partial:
        for position, image in enumerate(pixels):
            write_tiff(partial / f"{scan.case_id}_{position + 1}.tif", image)
            if truth is not None:
                write_tiff(partial / f"{scan.case_id}_{position + 1}_mask.tif", truth[position])
    return target


def prepare_writing() -> None:
    """Load what writing takes.

    Raises:
        InputError: Pillow is not installed.
    """
    import_library("PIL.Image")


def write_mask(scan: Scan, mask: npt.NDArray[np.uint8], folder: Path, algorithm: Algorithm | None = None) -> list[Path]:
    """Write `mask`, (slices, rows, columns) of 0 and 1, as `NAME_<n>_mask.tif` of 0 and 255, a file a slice.

    Raises:
        ScanError: the mask is not on the scan's grid, or has other classes than 0 and 1.
        OutputError: a file could not be written; nothing is left behind.
    """
    pixels = _as_pixels(scan, mask)
    stems = [path.stem for path in scan.files.images] or [f"{scan.case_id}_{n + 1}" for n in range(len(pixels))]
    names = [f"{stem}_mask.tif" for stem in stems]
    return write_together(folder, names, lambda path, position: write_tiff(path, pixels[position]))


def _case(folder: Path) -> CaseFiles:
    slices = sorted(_slices(folder))
    images = [each for each in slices if not each.is_mask]
    known = _PATIENT.match(images[0].name)
    return CaseFiles(
        case_id=folder.name,
        patient_id=known.group() if known else folder.name,
        site=known["site"] if known else "",
        layout="lgg",
        folder=folder,
        images=tuple(each.path for each in images),
        truth=tuple(each.path for each in slices if each.is_mask),
    )


def _parse(path: Path) -> _Slice | None:
    found = _SLICE.fullmatch(path.name)
    return _Slice(int(found["number"]), found["name"], bool(found["mask"]), path) if found else None


def _slices(folder: Path) -> list[_Slice]:
    return [parsed for name in file_names(folder) if (parsed := _parse(folder / name))]


def _holds_slices(folder: Path) -> bool:
    return any(not each.is_mask for each in _slices(folder))


def _ordered(folder: Path, images: Sequence[Path]) -> list[_Slice]:
    """The slices by number, refused unless they are of one scan and number n, n + 1, … from 0 or 1."""
    slices = sorted(parsed for path in images if (parsed := _parse(path)))
    if not slices:
        raise ScanError(f"{folder}: holds no {WANTED}.")
    if len(names := sorted({each.name for each in slices})) > 1:
        raise ScanError(f"{folder}: holds slices of several scans ({', '.join(names)}); one scan a folder is wanted.")
    numbers = Counter(each.number for each in slices)
    first, last = min(1, slices[0].number), slices[-1].number
    if gap := list(islice((number for number in range(first, last + 1) if number not in numbers), _LISTED + 1)):
        raise ScanError(f"{folder}: has no slice {_listed(gap)} between {first} and {last}; every slice is wanted.")
    if twice := [number for number, count in numbers.items() if count > 1]:
        raise ScanError(f"{folder}: has slice {_listed(twice)} more than once; one file a slice is wanted.")
    return slices


def _read_truth(files: CaseFiles, slices: Sequence[_Slice], size: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    masks = {path.name: path for path in files.truth}
    wanted = [f"{each.path.stem}_mask.tif" for each in slices]
    if missing := [each.number for each, name in zip(slices, wanted, strict=True) if name not in masks]:
        raise ScanError(f"{files.folder}: has no mask of slice {_listed(missing)}; NAME_<n>_mask.tif is wanted.")
    if orphans := sorted(set(masks) - set(wanted)):
        raise ScanError(f"{files.folder}: {orphans[0]} has no slice {orphans[0].replace('_mask', '')}.")
    return _read_stack([masks[name] for name in wanted], lambda path: _read_mask(path, size))


def _read_mask(path: Path, size: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    pixels = read_tiff(path, ("L", "1"))
    if pixels.shape != size:
        raise ScanError(f"{path}: is {_size(pixels.shape)}; the slice is {_size(size)}.")
    others = np.setdiff1d(pixels, (0, 255))
    if others.size:
        raise ScanError(f"{path}: holds the value {others[0]}; a mask of 0 and 255 is wanted.")
    return pixels // np.uint8(255)


def _read_stack(paths: Sequence[Path], read_one: Callable[[Path], npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    """Images of one size, one above the other; refused before memory is taken for more voxels than are read."""
    first = read_one(paths[0])
    rows, columns = first.shape[:2]
    if len(paths) * rows * columns > MAX_VOXELS:
        raise ScanError(
            f"{paths[0]}: is {_size(first.shape)}, and there are {len(paths)} slices; "
            f"at most {MAX_VOXELS} voxels are read."
        )
    stacked = np.empty((len(paths), *first.shape), first.dtype)
    stacked[0] = first
    for place, path in enumerate(paths[1:], start=1):
        image = read_one(path)
        if image.shape != first.shape:
            raise ScanError(f"{path}: is {_size(image.shape)}; the first slice is {_size(first.shape)}.")
        stacked[place] = image
    return stacked


def _as_pixels(scan: Scan, mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    check_mask(scan, mask)
    if mask.max(initial=0) > 1:
        raise ScanError(f"{scan.case_id}: the mask has class {mask.max()}; the lgg layout holds classes 0 and 1.")
    return mask * np.uint8(255)


def _size(shape: Sequence[int]) -> str:
    return f"{shape[1]} x {shape[0]} pixels"


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(str(number) for number in numbers[:_LISTED]) + (", …" if len(numbers) > _LISTED else "")
