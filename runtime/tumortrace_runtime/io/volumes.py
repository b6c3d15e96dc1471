"""NIfTI volumes as arrays, through nibabel, turned without loss to the axes that a scan has."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.errors import InputError, ScanError
from tumortrace_runtime.io import gz
from tumortrace_runtime.io.nifti_header import affine_of, read_header
from tumortrace_runtime.io.scan import MAX_VOXELS, Geometry, check_sides
from tumortrace_runtime.libraries import import_library

SCAN_AXES = ("S", "P", "L")
"""Where slices, rows and columns of a scan run to: superior, posterior, the patient's left."""

RAS_TO_LPS = np.diag((-1.0, -1.0, 1.0, 1.0))
"""From the coordinates of NIfTI to those of DICOM; and back, being its own inverse."""

_MOST_BYTES_PER_VOXEL = 8

_MOST_BYTES_BEHIND = 1 << 20
"""More than that behind the voxels is refused: a small gzip file may hold any amount."""

_MOST_EXPANDED = 1032
"""Deflate makes no more bytes of one (zlib's technical details)."""


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

    @property
    def affine_lps(self) -> npt.NDArray[np.float64] | None:
        """See `Geometry`; None where the file does not say how the patient lies."""
        if self.affine is None or not (self.header["qform_code"] or self.header["sform_code"]):
            return None
        to_stored = nibabel().orientations.inv_ornt_aff(_turn(self.affine), self.shape[:3])
        return np.asarray(RAS_TO_LPS @ self.affine @ to_stored, np.float64)


def read_volume(path: Path) -> tuple[npt.NDArray[np.generic], NiftiGeometry]:
    """Decode a NIfTI-1 or NIfTI-2 file, plain or gzip.

    Returns:
        (slices, rows, columns) with the axes `SCAN_AXES`, in the stored dtype where no scaling is stored, else float32:
        a view, of any strides and maybe read-only, of the values as they were stored; and its geometry.

    Raises:
        ScanError: missing, not NIfTI, truncated, damaged, not 3-D, too large, complex, not saying where it is or
            contradicting itself, or with values that are NaN or infinite.
        InputError: nibabel is not installed.
    """
    try:
        with gz.open_file(path) if _is_gzip(path) else path.open("rb") as stream:
            header = read_header(path, stream)
            _check_voxels(path, header.get_data_shape(), header.get_data_dtype())
            geometry = _geometry(path, header)
            values = _values(path, stream, header)
    except (InputError, MemoryError):
        raise
    except Exception as problem:  # a decoder given a damaged file raises almost anything, from EOFError to zlib.error
        raise _undecodable(path, problem) from problem
    if values.dtype.kind == "f" and (bad := values.size - np.count_nonzero(np.isfinite(values))):
        raise ScanError(f"{path}: has {bad} voxels that are NaN or infinite; finite values are wanted.")
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
    write_stored(path, nib.orientations.apply_orientation(voxels, back).reshape(geometry.shape), geometry.header)


def write_stored(path: Path, stored: npt.NDArray[np.generic], header: Any) -> None:
    """Write an array in the file's own axes, unscaled, with the codes, qform and sform of a nibabel header.

    Raises:
        ScanError: NIfTI has no such dtype.
        InputError: nibabel is not installed.
    """
    nib = nibabel()
    header = header.copy()
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
    affine = np.diag((-column_mm, -row_mm, slice_mm, 1.0))
    return NiftiGeometry(spacing_mm, scanner_header(shape[::-1], affine), shape[::-1], affine)


def scanner_header(shape: tuple[int, ...], affine: npt.NDArray[np.float64]) -> Any:
    """A nibabel header for stored indices that an affine takes to millimetres right, anterior, superior.

    Raises:
        InputError: nibabel is not installed.
    """
    header = nibabel().Nifti1Header()
    header.set_data_shape(shape)
    header.set_xyzt_units("mm")
    header.set_qform(affine, code="scanner")
    header.set_sform(affine, code="scanner")
    return header


def nibabel() -> Any:
    """The library.

    Raises:
        InputError: it is not installed.
    """
    return import_library("nibabel")


def _values(path: Path, stream: BinaryIO, header: Any) -> npt.NDArray[Any]:
    """The voxels in the file's own axes, without the copies that nibabel would take, and without numbers it leaves."""
    shape, dtype = header.get_data_shape(), header.get_data_dtype()
    content = _stored_bytes(path, stream, header.get_data_offset(), math.prod(shape) * dtype.itemsize)
    stored: npt.NDArray[Any] = np.ndarray(shape, dtype, buffer=content, order="F")
    if np.isinf(header["scl_slope"]):  # NaN is for nibabel, as for the standard's own library, that nothing is scaled
        raise ValueError("its slope is infinite")
    slope, inter = header.get_slope_inter()
    if slope is not None and (slope, inter) != (1, 0):
        with np.errstate(over="ignore", invalid="ignore"):  # what becomes infinite is told later
            stored = nibabel().volumeutils.apply_read_scaling(stored, slope, inter).astype(np.float32)
    return stored.astype(stored.dtype.newbyteorder("="), copy=False)


def _stored_bytes(path: Path, stream: BinaryIO, offset: int, size_bytes: int) -> bytes:
    """The voxels' bytes; the file is read to its end, which is where gzip keeps its checksum, but not kept."""
    most_bytes = path.stat().st_size * (_MOST_EXPANDED if _is_gzip(path) else 1)
    if size_bytes > most_bytes:
        raise EOFError(f"at most {most_bytes} of {size_bytes} bytes of voxels are there")
    stream.seek(offset)
    content = stream.read(size_bytes)
    if len(content) < size_bytes:
        raise EOFError(f"{len(content)} of {size_bytes} bytes of voxels are there")
    behind = 0
    while block := stream.read(_MOST_BYTES_BEHIND):
        behind += len(block)
        if behind > _MOST_BYTES_BEHIND:
            raise ValueError("it goes on for over a megabyte behind its voxels")
    return content


def _is_gzip(path: Path) -> bool:
    return path.suffix == ".gz"


def _check_voxels(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if len(shape) < 3 or any(size != 1 for size in shape[3:]) or min(shape) < 1:
        raise ScanError(f"{path}: has the shape {shape}; one 3-D volume is wanted.")
    if math.prod(shape) > MAX_VOXELS:
        raise ScanError(f"{path}: has the shape {shape}; at most {MAX_VOXELS} voxels are read.")
    if dtype.kind not in "iuf" or dtype.itemsize > _MOST_BYTES_PER_VOXEL:
        raise ScanError(f"{path}: has {dtype} voxels; integers or floats of up to 64 bits are wanted.")


def _geometry(path: Path, header: Any) -> NiftiGeometry:
    affine = affine_of(path, header)
    sizes_mm = np.linalg.norm(affine[:3, :3], axis=0)
    check_sides(sizes_mm.tolist(), str(path))
    slice_mm, row_mm, column_mm = (float(sizes_mm[axis]) for axis in _stored_axes(affine))
    return NiftiGeometry((slice_mm, row_mm, column_mm), header, tuple(header.get_data_shape()), affine)


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
