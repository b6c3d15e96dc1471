"""Series on other grids come onto that of FLAIR: linear functions of the place do so exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumortrace.phantom.dicom import DicomForm, stored_affine
from tumortrace_runtime.io.dicom import DicomGeometry, Source, StoredSlice, geometry_of
from tumortrace_runtime.io.dicom.grids import resample

Array = npt.NDArray[Any]
GRADIENT = np.array([7.0, -11.0, 13.0])


def linear(affine: Array, shape: tuple[int, int, int]) -> Array:
    """A linear function of the place at every voxel."""
    indices = np.stack([*np.indices(shape), np.ones(shape)], axis=-1)
    return indices @ affine[:3].T @ GRADIENT + 1000


def geometry(shape: tuple[int, int, int], spacing: tuple[float, float, float], form: DicomForm) -> DicomGeometry:
    slices = tuple(StoredSlice(f"1.{number + 1}") for number in range(shape[0]))
    affine = stored_affine(shape, spacing, form)
    sizes = tuple(shape[2 - int(np.abs(affine[:3, axis]).argmax())] for axis in range(3))
    return geometry_of(Source("1.1", "1.2", "1.3", slices, (), (sizes[0], sizes[1], sizes[2]), affine), "1.4")


@given(
    axes=st.sampled_from(["LPS", "PIR", "LIP", "RAS", "SLP"]),
    tilt=st.tuples(*[st.floats(-20, 20)] * 3),
    spacing=st.tuples(*[st.floats(0.5, 4)] * 3),
)
def test_a_linear_function_is_resampled_exactly(
    axes: str, tilt: tuple[float, float, float], spacing: tuple[float, float, float]
) -> None:
    shape, grid_shape = (40, 41, 42), (5, 6, 7)
    own = geometry(shape, spacing, DicomForm(axes=axes, tilt_degrees=tilt))
    grid = geometry(grid_shape, (1.0, 0.7, 0.9), DicomForm())
    result, covered = resample(linear(own.affine, shape), own, grid, grid_shape, "t1")
    assert covered == 1
    np.testing.assert_allclose(result, linear(grid.affine, grid_shape), rtol=1e-5)


def test_beyond_half_a_voxel_there_is_nothing() -> None:
    own = geometry((2, 2, 2), (1.0, 1.0, 1.0), DicomForm())
    grid = geometry((1, 1, 7), (0.5, 0.5, 0.5), DicomForm())
    result, covered = resample(np.array([[[3, 5]] * 2] * 2), own, grid, (1, 1, 7), "t1")
    np.testing.assert_allclose(result[0, 0], [0, 3, 3, 4, 5, 5, 0])
    assert covered == pytest.approx(5 / 7)


def test_channels_come_onto_the_grid_of_flair_and_the_result_says_so(study: Any) -> None:
    study.write("flair", number=1)
    shape = (9, 20, 30)
    affine = stored_affine(shape, (2.5, 0.4, 0.3), DicomForm(axes="PIR", tilt_degrees=(4, -3, 2)))
    placed = geometry(shape, (2.5, 0.4, 0.3), DicomForm(axes="PIR", tilt_degrees=(4, -3, 2)))
    study.write("t1", np.rint(linear(placed.affine, shape)).astype(np.uint16), number=2, affine=affine)
    scan = study.read(["t1", "flair"])
    assert scan.voxels.dtype == np.float32
    np.testing.assert_array_equal(scan.voxels[..., 1], study.voxels())
    np.testing.assert_allclose(scan.voxels[..., 0], linear(scan.geometry.affine, study.shape), atol=1)
    t1, flair = scan.origins
    assert (t1.channel, t1.resampled, t1.covered) == ("t1", "trilinear, onto the grid of flair", 1.0)
    assert (flair.channel, flair.resampled, flair.covered) == ("flair", None, 1.0)
    assert scan.geometry.source.series_uid == scan.geometry.source.headers[0].SeriesInstanceUID


def test_without_flair_the_first_channel_gives_the_grid(study: Any) -> None:
    study.write("t1ce", number=1, voxels=study.voxels((5, 6, 7)))
    study.write("t1", number=2)
    scan = study.read(["t1ce", "t1"])
    assert scan.channels == ("t1", "t1ce")
    assert scan.voxels.shape[:3] == study.shape
    assert [origin.resampled for origin in scan.origins] == [None, "trilinear, onto the grid of t1"]


def test_series_on_one_grid_are_as_they_are_stored(study: Any) -> None:
    for number, channel in enumerate(("flair", "t1", "t1ce"), start=1):
        study.write(channel, study.voxels() + number, number=number)
    scan = study.read()
    assert scan.voxels.dtype == np.uint16
    np.testing.assert_array_equal(scan.voxels, np.stack([study.voxels() + number for number in (2, 1, 3)], axis=-1))
    assert {origin.resampled for origin in scan.origins} == {None}
