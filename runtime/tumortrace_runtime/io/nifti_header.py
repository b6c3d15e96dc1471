"""The header of a NIfTI file: nibabel's, but with nothing put right that nibabel would put right by a guess."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.errors import ScanError
from tumortrace_runtime.libraries import import_library

Affine = npt.NDArray[np.float64]

RIGHT_ANGLE_TOLERANCE = 1e-3
"""The cosine of the angle between two axes may be that far from 0."""

FORMS_TOLERANCE = 0.5
"""qform and sform of one code may put a corner of the grid this far apart, as a part of the smallest voxel side."""

_HEADERS = {348: "Nifti1Header", 540: "Nifti2Header"}
"""By their size in bytes, with which they begin."""

_EXTENDER_BYTES = 4

_MAGIC = (b"n+1", b"n+2")
"""Of files that hold the voxels too."""

_MOST_BYTES_BEFORE = 1 << 26
"""More than that before the voxels is refused: a small gzip file may hold any amount."""

_FARTHEST_MM = 1e6

_CODES = range(6)
"""qform_code and sform_code: unknown, scanner, aligned, Talairach, MNI, another template."""

_MM_PER_UNIT: Mapping[int, float] = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
"""By the spatial code of xyzt_units in the NIfTI-1 standard: unknown (taken for mm), metre, millimetre, micron."""


def read_header(path: Path, stream: BinaryIO) -> Any:
    """The header with which a file begins, as a nibabel object; extensions are left unread.

    Raises:
        ScanError: it says that voxels begin in it, or far behind it.
        ValueError: it is no header of a NIfTI file.
        InputError: nibabel is not installed.
    """
    nib = import_library("nibabel")
    block = stream.read(max(_HEADERS))
    size_bytes = next((size for size in _HEADERS if _begins_with(block, size)), 0)
    if not size_bytes or len(block) < size_bytes:
        raise ValueError("it has no whole header of NIfTI-1 or NIfTI-2")
    header = getattr(nib, _HEADERS[size_bytes])(block[:size_bytes], check=False)
    if header["magic"].item()[:3] not in _MAGIC:
        raise ValueError(f"its header says that it is {header['magic'].item()!r}, not a single NIfTI file")
    if header["pixdim"][0] == 0:
        header["pixdim"][0] = 1  # which the standard says that 0 means
    if header["vox_offset"] == 0:
        header["vox_offset"] = size_bytes + _EXTENDER_BYTES  # which is where voxels begin at the earliest
    offset = header.get_data_offset()
    if not size_bytes <= offset <= _MOST_BYTES_BEFORE:
        raise ScanError(f"{path}: its voxels begin at byte {offset}; {size_bytes} to {_MOST_BYTES_BEFORE} are wanted.")
    return header


def affine_of(path: Path, header: Any) -> Affine:
    """Where the voxels are: (4, 4), stored indices to millimetres right, anterior, superior.

    Raises:
        ScanError: the header does not say, or says two things; axes are not at right angles; or it is absurdly far.
        ValueError: a quaternion is none.
    """
    _check_codes(path, header)
    affine = np.array(header.get_best_affine(), np.float64)
    affine[:3] *= _mm_per_unit(path, header)
    if not (np.abs(affine) < _FARTHEST_MM).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        raise ScanError(f"{path}: its affine does not say where the voxels are; an invertible one is wanted.")
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    directions = affine[:3, :3] / sizes
    if np.abs(directions.T @ directions - np.eye(3)).max() > RIGHT_ANGLE_TOLERANCE:
        raise ScanError(f"{path}: its axes are not at right angles; resample it onto a grid whose axes are.")
    if header["qform_code"] == header["sform_code"] != 0:
        _check_forms(path, header)
    return affine


def grid_distance_mm(shape: tuple[int, ...], first: Affine, second: Affine) -> float:
    """How far the affine `second` puts some corner of a grid of this shape from where `first` does, in millimetres."""
    corners = np.array([(*corner, 1.0) for corner in product(*((0, size - 1) for size in shape[:3]))])
    return float(np.linalg.norm((corners @ (first - second).T)[:, :3], axis=1).max())


def _begins_with(block: bytes, size_bytes: int) -> bool:
    return block[:4] in (size_bytes.to_bytes(4, "little"), size_bytes.to_bytes(4, "big"))


def _check_codes(path: Path, header: Any) -> None:
    for name in ("qform_code", "sform_code"):
        if header[name] not in _CODES:
            raise ScanError(f"{path}: its {name} is {header[name]}; one of {_CODES[0]} to {_CODES[-1]} is wanted.")
    if header["sform_code"] == 0 and (header["pixdim"][1:4] <= 0).any():
        raise ScanError(f"{path}: its voxels have sides of {header['pixdim'][1:4]}; positive ones are wanted.")


def _check_forms(path: Path, header: Any) -> None:
    """Refuse a qform and an sform that say that they are of one space, but put the volume in two places."""
    qform, sform = header.get_qform(), header.get_sform()
    smallest_side = np.linalg.norm(sform[:3, :3], axis=0).min()
    if not grid_distance_mm(header.get_data_shape(), qform, sform) <= FORMS_TOLERANCE * smallest_side:
        raise ScanError(
            f"{path}: its qform and its sform put it in two places, and both have the code {header['qform_code']}; "
            "correct the one that is wrong, or set its code to 0."
        )


def _mm_per_unit(path: Path, header: Any) -> float:
    code = int(header["xyzt_units"]) % 8
    if code not in _MM_PER_UNIT:
        raise ScanError(f"{path}: its header has the unit code {code}; metre (1), millimetre (2) or micron (3) wanted.")
    return _MM_PER_UNIT[code]
