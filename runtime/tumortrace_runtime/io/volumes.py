"""NIfTI volumes as arrays, through nibabel, turned without loss to the axes that a scan has."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.errors import InputError, ScanError
from tumortrace_runtime.io import gz
from tumortrace_runtime.io.scan import Geometry
from tumortrace_runtime.libraries import import_library

SCAN_AXES = ("S", "P", "L")
"""Where slices, rows and columns of a scan run to: superior, posterior, the patient's left."""

MAX_VOXELS = 1 << 28
"""A volume of more voxels is refused before it is decoded."""

_MM_PER_UNIT: Mapping[int, float] = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
"""By the spatial code of xyzt_units in the NIfTI-1 standard: unknown (taken for mm), metre, millimetre, micron."""


@dataclass(frozen=True)
class NiftiGeometry(Geometry):
    """Where a NIfTI volume's voxels are.

    Attributes:
        header: the nibabel header as stored, with qform, sform and their codes.
        shape: of the stored array, which has the file's own axes and may end in ones.
        affine: (4, 4) float64, stored voxel indices to millimetres right, anterior, superior.
    """

    header: Any = None
    shape: tuple[int, ...] = ()
    affine: npt.NDArray[np.float64] | None = None


def read_volume(path: Path) -> tuple[npt.NDArray[np.generic], NiftiGeometry]:
    """Decode a NIfTI-1 or NIfTI-2 file, plain or gzip.

    Returns:
        (slices, rows, columns) with the axes `SCAN_AXES`, in the stored dtype where no scaling is stored, else float32:
        a view, of any strides and maybe read-only, of the values as they were stored; and its geometry.

    Raises:
        ScanError: missing, not NIfTI, truncated, damaged, not 3-D, too large, without a usable affine, or with values
            that are complex, NaN or infinite.
        InputError: nibabel is not installed.
    """
    try:
        image = _open(path)
        values = _values(path, image)
    except (InputError, MemoryError):
        raise
    except Exception as problem:  # a decoder given a damaged file raises almost anything, from EOFError to zlib.error
        raise _undecodable(path, problem) from problem
    if values.dtype.kind == "f" and (bad := values.size - np.count_nonzero(np.isfinite(values))):
        raise ScanError(f"{path}: has {bad} voxels that are NaN or infinite; finite values are wanted.")
    geometry = _geometry(path, image)
    turned = nibabel().orientations.apply_orientation(values.reshape(values.shape[:3]), _turn(geometry.affine))
    return turned, geometry


def write_volume(path: Path, voxels: npt.NDArray[np.generic], geometry: NiftiGeometry) -> None:
    """Write (slices, rows, columns) voxels in the stored axes, shape, affine and codes of `geometry`, unscaled.

    Raises:
        ScanError: NIfTI has no such dtype.
        InputError: nibabel is not installed.
    """
    nib = nibabel()
    back = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt(SCAN_AXES), nib.io_orientation(geometry.affine)
    )
    stored = nib.orientations.apply_orientation(voxels, back).reshape(geometry.shape)
    header = geometry.header.copy()
    header.extensions.clear()
    for field in ("cal_min", "cal_max"):  # the display range of the image says nothing about what is written here
        header[field] = 0
    try:
        header.set_data_dtype(stored.dtype)
    except nib.spatialimages.HeaderDataError as problem:
        raise ScanError(f"{path.name}: NIfTI cannot hold {stored.dtype} voxels.") from problem
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    content = kind(stored, None, header).to_bytes()
    path.write_bytes(gz.compress(content) if _is_gzip(path) else content)


def axis_aligned(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> NiftiGeometry:
    """A geometry for (slices, rows, columns) voxels that have none but spacing: stored as (columns, rows, slices).

    Raises:
        InputError: nibabel is not installed.
    """
    slice_mm, row_mm, column_mm = spacing_mm
    return placed((shape[2], shape[1], shape[0]), np.diag((-column_mm, -row_mm, slice_mm, 1.0)))


def placed(shape: tuple[int, int, int], affine: npt.NDArray[np.float64]) -> NiftiGeometry:
    """The geometry of voxels stored with this shape and affine, (4, 4) to millimetres right, anterior, superior.

    Raises:
        InputError: nibabel is not installed.
    """
    header = nibabel().Nifti1Header()
    header.set_data_shape(shape)
    header.set_xyzt_units("mm")
    header.set_qform(affine, code="scanner")
    header.set_sform(affine, code="scanner")
    sizes_mm = np.linalg.norm(affine[:3, :3], axis=0)
    slice_mm, row_mm, column_mm = (float(sizes_mm[axis]) for axis in _stored_axes(affine))
    return NiftiGeometry((slice_mm, row_mm, column_mm), header, shape, affine)


def grid_distance_mm(first: NiftiGeometry, second: NiftiGeometry) -> float:
    """The furthest that a corner of the first volume's grid is from where the second puts it, in millimetres."""
    corners = np.array([(*corner, 1.0) for corner in product(*((0, size - 1) for size in first.shape[:3]))])
    assert first.affine is not None
    assert second.affine is not None
    apart = (corners @ (first.affine - second.affine).T)[:, :3]
    return float(np.linalg.norm(apart, axis=1).max())


def nibabel() -> Any:
    """The library.

    Raises:
        InputError: it is not installed.
    """
    return import_library("nibabel")


def _open(path: Path) -> Any:
    """The image, of which only the header was read."""
    nib = nibabel()
    image = nib.load(path)
    if not isinstance(image, nib.Nifti1Image):
        raise ScanError(f"{path}: is {type(image).__name__}; a NIfTI file (.nii or .nii.gz) is wanted.")
    _check_shape(path, image.shape)
    if image.dataobj.dtype.kind not in "iuf":
        raise ScanError(f"{path}: has {image.dataobj.dtype} voxels; integers or floats are wanted.")
    return image


def _values(path: Path, image: Any) -> npt.NDArray[Any]:
    """What `image.dataobj` holds, in the file's own axes, without the copies that reading it would take."""
    content = _stored_bytes(path, image.dataobj)
    stored: npt.NDArray[Any] = np.ndarray(image.shape, image.dataobj.dtype, buffer=content, order="F")
    slope, inter = image.dataobj.slope, image.dataobj.inter
    if (slope, inter) != (1, 0):
        stored = nibabel().volumeutils.apply_read_scaling(stored, slope, inter).astype(np.float32)
    return stored.astype(stored.dtype.newbyteorder("="), copy=False)


def _stored_bytes(path: Path, stored: Any) -> bytes:
    """The voxels' bytes; the file is read to its end, which is where gzip keeps its checksum, but not kept."""
    size_bytes = math.prod(stored.shape) * stored.dtype.itemsize
    with gz.open_file(path) if _is_gzip(path) else path.open("rb") as stream:
        stream.seek(stored.offset)
        content = stream.read(size_bytes)
        while stream.read(1 << 20):
            pass
    if len(content) < size_bytes:
        raise EOFError(f"{len(content)} of {size_bytes} bytes of voxels are there")
    return content


def _is_gzip(path: Path) -> bool:
    return path.suffix == ".gz"


def _check_shape(path: Path, shape: tuple[int, ...]) -> None:
    if len(shape) < 3 or any(size != 1 for size in shape[3:]) or 0 in shape:
        raise ScanError(f"{path}: has the shape {shape}; one 3-D volume is wanted.")
    if np.prod(shape, dtype=np.float64) > MAX_VOXELS:
        raise ScanError(f"{path}: has the shape {shape}; at most {MAX_VOXELS} voxels are read.")


def _geometry(path: Path, image: Any) -> NiftiGeometry:
    affine = np.asarray(image.affine, np.float64)
    usable = np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 1e-12
    if not usable:
        raise ScanError(f"{path}: its affine does not say where the voxels are; an invertible one is wanted.")
    affine[:3] *= _mm_per_unit(path, image)
    sizes_mm = np.linalg.norm(affine[:3, :3], axis=0)
    slice_mm, row_mm, column_mm = (float(sizes_mm[axis]) for axis in _stored_axes(affine))
    return NiftiGeometry((slice_mm, row_mm, column_mm), image.header.copy(), tuple(image.shape), affine)


def _mm_per_unit(path: Path, image: Any) -> float:
    code = int(image.header["xyzt_units"]) % 8
    if code not in _MM_PER_UNIT:
        raise ScanError(f"{path}: its header has the unit code {code}; metre (1), millimetre (2) or micron (3) wanted.")
    return _MM_PER_UNIT[code]


def _turn(affine: npt.NDArray[np.float64] | None) -> npt.NDArray[np.float64]:
    """What `nibabel.orientations.apply_orientation` needs to go from the stored axes to `SCAN_AXES`."""
    nib = nibabel()
    turn: npt.NDArray[np.float64] = nib.orientations.ornt_transform(
        nib.io_orientation(affine), nib.orientations.axcodes2ornt(SCAN_AXES)
    )
    return turn


def _stored_axes(affine: npt.NDArray[np.float64]) -> list[int]:
    """For slices, rows and columns, the stored axis that becomes it."""
    return [int(axis) for axis in np.argsort(_turn(affine)[:, 0])]


def _undecodable(path: Path, problem: Exception) -> ScanError:
    lines = str(problem).strip().splitlines()
    return ScanError(f"{path}: cannot be decoded as NIfTI ({lines[0] if lines else type(problem).__name__}).")
