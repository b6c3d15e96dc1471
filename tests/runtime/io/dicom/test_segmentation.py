"""Segmentations, read back with highdicom: where they are, what they refer to, what they say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom
import nibabel
import numpy as np
import pytest
from pydicom import dcmread

from tumortrace_runtime.algorithm import Algorithm, Code, Segment
from tumortrace_runtime.errors import ScanError
from tumortrace_runtime.io import Geometry
from tumortrace_runtime.io.dicom import StoredSlice
from tumortrace_runtime.io.dicom.identity import identity
from tumortrace_runtime.io.dicom.writing import write_mask

from .stored import ALGORITHM, PATIENT, ROTATIONS, SHAPE, Series, oblique, write_classic, write_enhanced

EXACT_MM = 0.001
WRITERS = {"classic": write_classic, "enhanced": write_enhanced}
LAYOUTS = [*ROTATIONS, oblique(17, -8, 33), oblique(-44, 44, 12), oblique(3, 90, 45)]


def write(series: Series, folder: Path, algorithm: Algorithm = ALGORITHM) -> tuple[Path, Path]:
    segmentation, nifti = write_mask(series.scan, series.lesion(), folder, algorithm)
    return segmentation, nifti


def points(at: Callable[[Any], Any], mask: Any) -> Any:
    """The centroid of a mask, the corners of its grid and each of its voxels in mm, by where an index is."""
    voxels = np.argwhere(mask)
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(mask.shape) - 1)
    return np.vstack([at(voxels).mean(axis=0), in_order(at(corners)), in_order(at(voxels))])


def in_order(positions: Any) -> Any:
    """The same positions, whatever the order of the axes by which they were found."""
    return positions[np.lexsort(positions.round(2).T)]


def by_affine(affine: Any) -> Callable[[Any], Any]:
    return lambda index: index @ affine[:3, :3].T + affine[:3, 3]


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("number", range(len(LAYOUTS)))
def test_masks_lie_where_the_truth_lies(kind: str, number: int, tmp_path: Path) -> None:
    series = WRITERS[kind](tmp_path / "in", LAYOUTS[number])
    truth = points(series.position_mm, series.source.to_stored(series.lesion()))
    segmentation, nifti = write(series, tmp_path / "out")

    volume = highdicom.seg.segread(segmentation).get_volume(combine_segments=True)
    np.testing.assert_allclose(points(by_affine(volume.affine), volume.array), truth, atol=EXACT_MM)

    image = nibabel.load(nifti)
    lps = np.diag((-1, -1, 1, 1)) @ image.affine
    np.testing.assert_allclose(points(by_affine(lps), np.asarray(image.dataobj)), truth, atol=EXACT_MM)
    np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=EXACT_MM)


@pytest.mark.parametrize("kind", WRITERS)
def test_each_frame_refers_to_the_slice_that_it_lies_on(kind: str, tmp_path: Path) -> None:
    series = WRITERS[kind](tmp_path / "in", oblique(10, 20, 30))
    segmentation = highdicom.seg.segread(write(series, tmp_path / "out")[0])
    stored = series.source.to_stored(series.lesion())
    assert segmentation.NumberOfFrames == SHAPE[0]
    referred = set()
    for frame, pixels in zip(segmentation.PerFrameFunctionalGroupsSequence, segmentation.pixel_array, strict=True):
        (image,) = frame.DerivationImageSequence[0].SourceImageSequence
        slice_ = StoredSlice(image.ReferencedSOPInstanceUID, image.get("ReferencedFrameNumber"))
        number = series.source.slices.index(slice_)
        at = np.array(frame.PlanePositionSequence[0].ImagePositionPatient)
        np.testing.assert_allclose(at, series.position_mm((number, 0, 0)), atol=EXACT_MM)
        np.testing.assert_array_equal(pixels, stored[number])
        assert image.ReferencedSOPClassUID == series.source.sop_class_uid
        assert image.SpatialLocationsPreserved == "YES"
        referred.add(number)
    assert referred == set(range(SHAPE[0]))
    (referenced,) = segmentation.ReferencedSeriesSequence
    assert referenced.SeriesInstanceUID == series.source.series_uid
    uids = [item.ReferencedSOPInstanceUID for item in referenced.ReferencedInstanceSequence]
    assert uids == list(dict.fromkeys(each.sop_instance_uid for each in series.source.slices))
    assert segmentation.FrameOfReferenceUID == "2.25.7"


def test_it_refers_to_the_series_of_other_channels_too(tmp_path: Path) -> None:
    series, other = write_classic(tmp_path / "in"), write_classic(tmp_path / "other", series=8)
    scan = replace(series.scan, geometry=replace(series.scan.geometry, others=(other.source,)))
    header = dcmread(write_mask(scan, series.lesion(), tmp_path / "out", ALGORITHM)[0])
    assert [item.SeriesInstanceUID for item in header.ReferencedSeriesSequence] == ["2.25.5", "2.25.8"]
    assert len(header.SourceImageSequence) == 2 * SHAPE[0]
    assert header.SOPInstanceUID != dcmread(write(series, tmp_path / "alone")[0]).SOPInstanceUID


def test_it_says_what_it_shows_and_what_made_it(tmp_path: Path) -> None:
    segmentation = highdicom.seg.segread(write(write_classic(tmp_path / "in"), tmp_path / "out")[0])
    assert segmentation.SegmentationType == "BINARY"
    (segment,) = segmentation.SegmentSequence
    assert (segment.SegmentLabel, segment.SegmentAlgorithmType) == ("Lesion", "AUTOMATIC")
    assert codes(segment.SegmentedPropertyTypeCodeSequence) == ("52988006", "SCT", "Lesion")
    assert codes(segment.SegmentedPropertyCategoryCodeSequence)[:2] == ("49755003", "SCT")
    (made_by,) = segment.SegmentationAlgorithmIdentificationSequence
    assert (made_by.AlgorithmName, made_by.AlgorithmVersion) == ("tiny", "ab" * 32)
    assert made_by.AlgorithmParameters == "backend=openvino 2026.4.1,precision=int8"
    assert segment.TrackingUID.startswith("2.25.")
    assert "not a medical device" in segmentation.ContentDescription


def codes(sequence: Any) -> tuple[str, str, str]:
    (item,) = sequence
    return item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning


def test_an_empty_mask_is_a_segmentation_too(tmp_path: Path) -> None:
    series = write_classic(tmp_path / "in")
    path, _ = write_mask(series.scan, np.zeros_like(series.lesion()), tmp_path / "out", ALGORITHM)
    segmentation = highdicom.seg.segread(path)
    assert segmentation.number_of_segments == 1
    volume = segmentation.get_volume(combine_segments=True)
    assert volume.array.shape == SHAPE
    assert not volume.array.any()


def test_a_class_is_a_segment_of_its_own(tmp_path: Path) -> None:
    series = write_classic(tmp_path / "in")
    mask = series.lesion()
    mask[mask.astype(bool) & (np.arange(mask.shape[2]) % 2 == 0)] = 2
    oedema = Segment(
        "Oedema", Code("49755003", "SCT", "Morphologically Abnormal Structure"), Code("1", "99X", "Oedema")
    )
    two = replace(ALGORITHM, segments=(*ALGORITHM.segments, oedema))
    path, _ = write_mask(series.scan, mask, tmp_path / "out", two)
    volume = highdicom.seg.segread(path).get_volume(combine_segments=True)
    np.testing.assert_array_equal(np.bincount(volume.array.ravel()), np.bincount(mask.ravel()))
    with pytest.raises(ScanError, match="class 2; tiny describes 1"):
        write_mask(series.scan, mask, tmp_path / "none", ALGORITHM)
    assert not (tmp_path / "none").exists()


def test_the_same_input_and_model_give_the_same_bytes(tmp_path: Path) -> None:
    series = write_classic(tmp_path / "in")
    first, again = (write(series, tmp_path / name)[0].read_bytes() for name in ("first", "again"))
    assert first == again


def test_another_model_setting_image_or_mask_gives_another_instance(tmp_path: Path) -> None:
    series = write_classic(tmp_path / "in")
    other = write_classic(tmp_path / "other", series=8)
    paths = [
        write(series, tmp_path / "a")[0],
        write(series, tmp_path / "b", replace(ALGORITHM, version="cd" * 32))[0],
        write(series, tmp_path / "c", replace(ALGORITHM, parameters={"precision": "fp32"}))[0],
        write(other, tmp_path / "d")[0],
        write_mask(series.scan, np.zeros_like(series.lesion()), tmp_path / "e", ALGORITHM)[0],
    ]
    headers = [dcmread(path) for path in paths]
    assert len({header.SOPInstanceUID for header in headers}) == 5
    assert len({header.SeriesInstanceUID for header in headers}) == 4  # another mask is of the same series


def test_it_belongs_to_the_patient_and_study_of_its_source(tmp_path: Path) -> None:
    path, _ = write(write_classic(tmp_path / "in"), tmp_path / "out")
    header = dcmread(path)
    assert {keyword: str(header[keyword].value) for keyword in PATIENT} == PATIENT
    assert (header.StudyInstanceUID, header.StudyDate, header.StudyTime) == ("2.25.1", "20240229", "101500")
    assert (header.ContentDate, header.ContentTime) == ("20240229", "103012.5")
    assert "InstanceCreationDate" not in header


def test_a_source_without_patient_or_dates_is_enough(tmp_path: Path) -> None:
    series = write_classic(tmp_path / "in")
    for file in series.files:
        header = dcmread(file)
        for keyword in (*PATIENT, "StudyDate", "StudyTime", "ContentDate", "ContentTime", "SpecificCharacterSet"):
            delattr(header, keyword)
        header.save_as(file)
    header = dcmread(write(series, tmp_path / "out")[0])
    assert (header.PatientID, header.PatientName, header.StudyDate) == ("", "", "")
    assert header.ContentDate == "19000101"


@pytest.mark.filterwarnings("error")
def test_odd_values_are_neither_printed_nor_in_the_way(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    series = write_classic(tmp_path / "in")
    for file in series.files:
        content = file.read_bytes().replace("Müller^Jörg".encode(), b"SECRET NAME \xff")
        for old, new in ((b"19611231", b"SECRET 1"), (b"CS\x02\x00M ", b"CS\x02\x00Q?"), (b"20240229", b"SECRET 2")):
            content = content.replace(old, new)
        file.write_bytes(content)
    write(series, tmp_path / "out")
    assert "SECRET" not in caplog.text + "".join(capfd.readouterr())


def test_a_scan_that_is_not_from_dicom_or_of_no_known_algorithm_is_refused(tmp_path: Path) -> None:
    series = write_classic(tmp_path / "in")
    with pytest.raises(ScanError, match="give its algorithm"):
        write_mask(series.scan, series.lesion(), tmp_path / "out")
    with pytest.raises(ScanError, match="was not read from DICOM"):
        write_mask(replace(series.scan, geometry=Geometry()), series.lesion(), tmp_path / "out", ALGORITHM)
    with pytest.raises(ScanError, match="uint8 is wanted"):
        write_mask(series.scan, series.lesion()[1:], tmp_path / "out", ALGORITHM)
    assert not (tmp_path / "out").exists()


def test_who_it_is_is_told_to_those_who_ask(tmp_path: Path) -> None:
    told = identity(write_classic(tmp_path / "in").source)
    assert told == {
        "PatientName": "Müller^Jörg",
        "PatientID": "PID-4711",
        "PatientBirthDate": "19611231",
        "PatientSex": "M",
        "AccessionNumber": "ACC-0815",
        "StudyDate": "20240229",
        "StudyInstanceUID": "2.25.1",
    }
