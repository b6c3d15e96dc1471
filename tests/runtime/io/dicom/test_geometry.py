from __future__ import annotations

from itertools import permutations, product

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumortrace_runtime.io.dicom import Source, StoredSlice, geometry_of

Matrix = npt.NDArray[np.float64]

ROTATIONS = [
    matrix
    for axes in permutations(range(3))
    for signs in product((-1, 1), repeat=3)
    if np.linalg.det(matrix := np.eye(3)[list(axes)] * signs) > 0
]
"""The 24 ways in which DICOM's stored axes (column, row, normal) lie along patient axes."""


def source(rotation: Matrix, spacing: tuple[float, float, float], shape: tuple[int, int, int]) -> Source:
    affine = np.eye(4)
    affine[:3, :3] = rotation[:, ::-1] * spacing
    affine[:3, 3] = (12.5, -30.25, 7.125)
    slices = tuple(StoredSlice(f"2.25.{number + 1}") for number in range(shape[0]))
    return Source("2.25.98", "2.25.99", "1.2.840.10008.5.1.4.1.1.4", slices, (), shape, affine)


def turned_by_nibabel(stored: npt.NDArray[np.int16], affine: Matrix) -> npt.NDArray[np.int16]:
    """What nibabel makes of an array in LPS coordinates when asked for a scan's axes."""
    image = nib.Nifti1Image(stored, np.diag((-1.0, -1.0, 1.0, 1.0)) @ affine)
    wanted = nib.orientations.axcodes2ornt(("S", "P", "L"))
    return np.asarray(
        image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(image.affine), wanted)).dataobj
    )


@pytest.mark.parametrize("rotation", ROTATIONS, ids=range(24))
def test_a_scan_of_any_orientation_runs_to_superior_posterior_and_left(rotation: Matrix) -> None:
    stored = source(rotation, (3.0, 0.5, 0.75), (4, 5, 6))
    geometry = geometry_of(stored, "2.25.1")
    directions = geometry.affine[:3, :3] / geometry.spacing_mm
    np.testing.assert_allclose(directions, np.eye(3)[:, ::-1], atol=1e-12)
    array = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    np.testing.assert_array_equal(stored.to_scan(array), turned_by_nibabel(array, stored.affine))


@given(
    angles=st.tuples(*[st.floats(-3.2, 3.2)] * 3),
    spacing=st.tuples(*[st.floats(0.1, 12)] * 3),
    shape=st.tuples(*[st.integers(1, 5)] * 3),
    rotation=st.sampled_from(ROTATIONS),
)
def test_every_voxel_stays_where_it_is_and_goes_back(
    angles: tuple[float, ...],
    spacing: tuple[float, float, float],
    shape: tuple[int, int, int],
    rotation: Matrix,
) -> None:
    stored = source(nib.eulerangles.euler2mat(*angles) @ rotation, spacing, shape)
    geometry = geometry_of(stored, "2.25.1")
    array = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    scan = stored.to_scan(array)
    np.testing.assert_array_equal(stored.to_stored(scan), array)
    np.testing.assert_array_equal(scan, turned_by_nibabel(array, stored.affine))
    for index in np.ndindex(*scan.shape):
        before = stored.affine @ (*np.unravel_index(scan[index], shape), 1)
        np.testing.assert_allclose(geometry.affine @ (*index, 1), before, atol=1e-9)
