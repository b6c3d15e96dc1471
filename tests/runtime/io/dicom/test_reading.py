"""Voxels lie where the headers put them, in every orientation, and masks go back there."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import pytest

from tumortrace.phantom import DicomForm, write_phantom
from tumortrace_runtime.io import find_cases, read_case
from tumortrace_runtime.io.dicom import DicomGeometry

from .truth import AXES, FORMS, places_by_the_standard

Array = npt.NDArray[Any]


def test_there_are_24_orientations() -> None:
    assert len(set(AXES)) == 24


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.axes}-{form.enhanced:d}-{form.tilt_degrees[0]:g}")
def test_every_voxel_is_where_the_standard_puts_it(study: Any, form: DicomForm) -> None:
    folder = study.write(form=form)
    scan = study.read()
    np.testing.assert_array_equal(scan.voxels[..., 0], study.voxels())
    assert isinstance(scan.geometry, DicomGeometry)
    np.testing.assert_allclose(scan.geometry.spacing_mm, study.spacing_mm, atol=1e-9)
    wanted = places_by_the_standard(folder)
    for index in np.ndindex(*study.shape):
        place = scan.geometry.affine[:3] @ (*index, 1)
        np.testing.assert_allclose(place, wanted[int(scan.voxels[(*index, 0)])], atol=1e-6)


@pytest.mark.parametrize("enhanced", [False, True])
@pytest.mark.parametrize("axes", ["LPS", "PIR", "RAS"])
def test_a_writer_gets_the_slices_as_they_are_stored(study: Any, axes: str, enhanced: bool) -> None:
    folder = study.write(form=DicomForm(enhanced, axes))
    scan = study.read()
    assert isinstance(scan.geometry, DicomGeometry)
    source = scan.geometry.source
    back = source.to_stored(scan.voxels[..., 0])
    images = {str(image.SOPInstanceUID): image for image in map(pydicom.dcmread, folder.iterdir())}
    assert [str(header.SOPInstanceUID) for header in source.headers] == list(
        dict.fromkeys(each.sop_instance_uid for each in source.slices)
    )
    for pixels, each in zip(back, source.slices, strict=True):
        stored = images[each.sop_instance_uid].pixel_array
        np.testing.assert_array_equal(pixels, stored if each.frame is None else stored[each.frame - 1])
    image = next(iter(images.values()))
    assert (source.study_uid, source.series_uid) == (image.StudyInstanceUID, image.SeriesInstanceUID)
    assert (source.sop_class_uid, source.multi_frame) == (image.SOPClassUID, enhanced)
    assert scan.geometry.frame_of_reference_uid == image.FrameOfReferenceUID
    assert not any("PixelData" in header for header in source.headers)


def test_slices_are_sorted_by_place_and_not_by_name_or_number(study: Any) -> None:
    folder = study.write()
    paths = sorted(folder.iterdir())
    for number, path in enumerate(paths):
        path.rename(folder / f"{(number * 5) % len(paths)}")
    study.edit(lambda image: setattr(image, "InstanceNumber", 1))
    np.testing.assert_array_equal(study.read().voxels[..., 0], study.voxels())


@pytest.mark.parametrize(
    ("kept", "doubt"),
    [
        (slice(0, 6), ""),
        (slice(2, 6), "its 4 images have numbers from 3 to 6"),
        (slice(0, 6, 2), "its 3 images have numbers from 1 to 5"),
        (slice(0, 1), ""),
        (slice(5, 6), "its image is number 6"),
    ],
)
def test_numbers_that_do_not_begin_at_the_first_speak_of_missing_slices(study: Any, kept: slice, doubt: str) -> None:
    paths = sorted(study.write().iterdir())
    for path in set(paths) - set(paths[kept]):
        path.unlink()
    assert study.read().origins[0].doubt == doubt


@pytest.mark.parametrize("number", [None, 4])
def test_equal_numbers_or_none_say_nothing_of_missing_slices(study: Any, number: int | None) -> None:
    study.write()
    study.edit(lambda image: setattr(image, "InstanceNumber", number))
    assert study.read().origins[0].doubt == ""


def test_an_image_with_frames_may_have_any_number(study: Any) -> None:
    study.write(form=DicomForm(enhanced=True))
    study.edit(lambda image: setattr(image, "InstanceNumber", 4))
    assert study.read().origins[0].doubt == ""


def test_several_images_with_frames_are_numbered_like_others(study: Any) -> None:
    folder = study.write(form=DicomForm(enhanced=True))
    (whole,) = folder.iterdir()
    for number, frames in ((3, slice(0, 2)), (4, slice(2, 6))):
        image = pydicom.dcmread(whole)
        image.PixelData = image.pixel_array[frames].tobytes()
        image.PerFrameFunctionalGroupsSequence = image.PerFrameFunctionalGroupsSequence[frames]
        image.NumberOfFrames = len(image.PerFrameFunctionalGroupsSequence)
        image.InstanceNumber, image.SOPInstanceUID = number, f"1.2.{number}"
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.save_as(folder / f"{number}.dcm")
    whole.unlink()
    scan = study.read()
    np.testing.assert_array_equal(scan.voxels[..., 0], study.voxels())
    assert scan.origins[0].doubt == "its 2 images have numbers from 3 to 4"


@pytest.mark.parametrize("form", [DicomForm(), DicomForm(enhanced=True, axes="PIR"), DicomForm(tilt_degrees=(9, 9, 9))])
def test_a_phantom_reads_the_same_from_nifti_and_from_dicom(tmp_path: Path, form: DicomForm) -> None:
    write_phantom(tmp_path / "nifti", "nifti", 7, 2, size_px=32)
    phantom = write_phantom(tmp_path / "dicom", "dicom", 7, 2, size_px=32, form=form)
    (nifti,), (dicom,) = find_cases(tmp_path / "nifti"), find_cases(tmp_path / "dicom")
    wanted, scan = read_case(nifti), read_case(dicom, with_truth=False)
    assert (wanted.channels, wanted.replaced) == (scan.channels, scan.replaced)
    np.testing.assert_array_equal(wanted.voxels, scan.voxels)
    np.testing.assert_allclose(wanted.geometry.spacing_mm, scan.geometry.spacing_mm, atol=1e-6)
    assert isinstance(scan.geometry, DicomGeometry)
    assert isinstance(phantom.scan.geometry, DicomGeometry)
    np.testing.assert_allclose(phantom.scan.geometry.affine, scan.geometry.affine, atol=1e-6)


def test_a_single_slice_is_as_thick_as_its_header_says(study: Any) -> None:
    study.write(voxels=study.voxels((1, 7, 8)))
    scan = study.read()
    assert scan.geometry.spacing_mm == pytest.approx(study.spacing_mm)


def test_a_case_is_named_without_the_patient(study: Any) -> None:
    study.write()
    scan = study.read()
    assert scan.case_id == scan.files.patient_id
    assert scan.case_id.startswith("study-")
    assert scan.files.layout == "dicom"


def test_highdicom_puts_the_volume_in_the_same_place(study: Any) -> None:
    highdicom = pytest.importorskip("highdicom")
    folder = study.write(form=DicomForm(axes="PIR", tilt_degrees=(5, 10, -15)))
    scan = study.read()
    volume = highdicom.get_volume_from_series([pydicom.dcmread(path) for path in folder.iterdir()])
    assert isinstance(scan.geometry, DicomGeometry)
    own = scan.geometry.source.to_scan(scan.geometry.source.to_stored(scan.voxels[..., 0]))
    for index in product(*((0, size - 1) for size in study.shape)):
        place = scan.geometry.affine[:3] @ (*index, 1)
        there = np.linalg.inv(volume.affine) @ (*place, 1)
        np.testing.assert_allclose(there, np.rint(there), atol=1e-6)
        assert volume.array[tuple(np.rint(there[:3]).astype(int))] == own[index]
