"""A sagittal-oblique MPRAGE from a scanner: 64 of its slices, with a hundred private elements each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import highdicom
import nibabel as nib
import numpy as np
import pydicom
import pytest

from tumortrace_runtime.errors import ScanError
from tumortrace_runtime.io import CaseFiles, ChannelMapping, find_cases, read_case, write_mask
from tumortrace_runtime.io.dicom import DicomGeometry

from .truth import ALGORITHM


@pytest.fixture
def series(real_data: Callable[[str], Path]) -> CaseFiles:
    (files,) = find_cases(real_data("dicom"))
    return files


def test_it_is_a_t1_and_lies_where_its_slices_do(series: CaseFiles, tmp_path: Path) -> None:
    scan = read_case(series, with_truth=False)
    assert (scan.channels, scan.voxels.shape, scan.voxels.dtype) == (("t1",), (256, 256, 64, 1), np.uint16)
    assert scan.geometry.spacing_mm == pytest.approx((0.859375, 0.859375, 0.9), abs=1e-6)
    assert scan.origins[0].doubt == "its 64 images have numbers from 65 to 128"
    assert isinstance(scan.geometry, DicomGeometry)
    to_index = np.linalg.inv(scan.geometry.affine)
    for path in series.images[::21]:
        image = pydicom.dcmread(path)
        along_row, along_column = np.reshape(np.float64(image.ImageOrientationPatient), (2, 3))
        for row, column in ((0, 0), (100, 130), (255, 255)):
            place = np.float64(image.ImagePositionPatient) + 0.859375 * (along_row * column + along_column * row)
            index = to_index @ (*place, 1)
            nearest = np.rint(index[:3]).astype(int)
            assert np.linalg.norm(scan.geometry.affine @ (index - (*nearest, 1))) < 1e-3
            assert scan.voxels[(*nearest, 0)] == image.pixel_array[row, column]

    mask = (scan.voxels[..., 0] > 100).astype(np.uint8)
    segmentation, nifti = write_mask(scan, mask, tmp_path, ALGORITHM)
    centroid = nib.affines.apply_affine(scan.geometry.affine, np.argwhere(mask).mean(axis=0))
    volume = highdicom.seg.segread(segmentation).get_volume(combine_segments=True)
    written = nib.affines.apply_affine(volume.affine, np.argwhere(volume.array).mean(axis=0))
    np.testing.assert_allclose(written, centroid, atol=1e-3)
    image = nib.load(nifti)
    written = nib.affines.apply_affine(image.affine, np.argwhere(image.dataobj).mean(axis=0))
    np.testing.assert_allclose(written * (-1, -1, 1), centroid, atol=1e-3)


def test_what_it_lacks_is_refused_unless_it_is_mapped(series: CaseFiles) -> None:
    with pytest.raises(
        ScanError, match=r"no series that is flair\. It has series 5 \(GR/IR, TR 2000, TE 2\.52, TI 900"
    ):
        read_case(series, channels=("t1", "flair", "t1ce"), with_truth=False)
    mapping = ChannelMapping(dict.fromkeys(("t1", "flair", "t1ce"), "SeriesDescription~mprage"))
    scan = read_case(series, mapping, channels=("t1", "flair", "t1ce"), with_truth=False)
    assert scan.replaced == ("t1", "t1ce")
    np.testing.assert_array_equal(scan.voxels[..., 0], scan.voxels[..., 1])


def test_a_slice_that_is_left_out_is_missed(series: CaseFiles) -> None:
    some = replace(series, images=(*series.images[:30], *series.images[31:]))
    with pytest.raises(ScanError, match="lacks 1 slice after"):
        read_case(some, with_truth=False)
