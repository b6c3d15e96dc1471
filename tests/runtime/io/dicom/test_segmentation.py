"""Segmentations, read back with highdicom: where they are, what they refer to, what they say."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom
import nibabel
import numpy as np
import pytest
from pydicom import DataElement, dcmread

from tumortrace.phantom import DicomForm, write_phantom
from tumortrace_runtime.algorithm import Algorithm, Code, Segment
from tumortrace_runtime.errors import InputError, ScanError
from tumortrace_runtime.io import Geometry, Scan, find_cases, read_case, write_mask
from tumortrace_runtime.io.dicom import DicomGeometry, StoredSlice
from tumortrace_runtime.io.dicom.identity import identity

from .truth import ALGORITHM, FORMS, PATIENT, name_patient, places_by_the_standard

EXACT_MM = 0.001
OBLIQUE = DicomForm(axes="PIR", tilt_degrees=(5, 10, -15))


def lesion(scan: Scan) -> Any:
    """A box, and two corners of the grid, so that no turned or flipped grid has it in the same place."""
    mask = np.zeros(scan.voxels.shape[:3], np.uint8)
    mask[1:3, 2:6, 3:5] = 1
    mask[0, 0, 0] = mask[-1, -1, -2] = 1
    return mask


def write(scan: Scan, folder: Path, algorithm: Algorithm = ALGORITHM) -> tuple[Path, Path]:
    segmentation, nifti = write_mask(scan, lesion(scan), folder, algorithm)
    return segmentation, nifti


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.axes}-{form.enhanced:d}-{form.tilt_degrees[0]:g}")
def test_masks_lie_where_the_standard_puts_their_voxels(study: Any, tmp_path: Path, form: DicomForm) -> None:
    places = places_by_the_standard(study.write(form=form))
    scan = study.read()
    segmentation, nifti = write(scan, tmp_path / "out")
    inside = in_order(np.array([places[int(value)] for value in study.voxels()[lesion(scan) > 0]]))
    corners = in_order(np.array([places[int(value)] for value in study.voxels()[::5, ::6, ::7].ravel()]))

    volume = highdicom.seg.segread(segmentation).get_volume(combine_segments=True)
    image = nibabel.load(nifti)
    to_lps = np.diag((-1, -1, 1, 1))
    for array, affine in (
        (volume.array, volume.affine),
        (np.asarray(image.dataobj), to_lps @ image.get_sform()),
        (np.asarray(image.dataobj), to_lps @ image.get_qform()),
    ):
        found = in_order(nibabel.affines.apply_affine(affine, np.argwhere(array)))
        np.testing.assert_allclose(found.mean(axis=0), inside.mean(axis=0), atol=EXACT_MM)
        np.testing.assert_allclose(found, inside, atol=EXACT_MM)
        ends = np.array(list(np.ndindex(2, 2, 2))) * (np.array(array.shape) - 1)
        np.testing.assert_allclose(in_order(nibabel.affines.apply_affine(affine, ends)), corners, atol=EXACT_MM)


def in_order(places: Any) -> Any:
    """The same places, whatever the order of the axes by which they were found."""
    return places[np.lexsort(places.round(2).T)]


@pytest.mark.parametrize("enhanced", [False, True])
def test_each_frame_refers_to_the_slice_that_it_lies_on(study: Any, tmp_path: Path, enhanced: bool) -> None:
    study.write(form=replace(OBLIQUE, enhanced=enhanced))
    scan = study.read()
    source = scan.geometry.source
    segmentation = highdicom.seg.segread(write(scan, tmp_path / "out")[0])
    stored = source.to_stored(lesion(scan))
    referred = []
    for frame, pixels in zip(segmentation.PerFrameFunctionalGroupsSequence, segmentation.pixel_array, strict=True):
        (image,) = frame.DerivationImageSequence[0].SourceImageSequence
        number = source.slices.index(StoredSlice(image.ReferencedSOPInstanceUID, image.get("ReferencedFrameNumber")))
        at = np.array(frame.PlanePositionSequence[0].ImagePositionPatient)
        np.testing.assert_allclose(at, source.affine[:3] @ (number, 0, 0, 1), atol=EXACT_MM)
        np.testing.assert_array_equal(pixels, stored[number])
        assert image.ReferencedSOPClassUID == source.sop_class_uid
        assert image.SpatialLocationsPreserved == "YES"
        referred.append(number)
    assert sorted(referred) == list(range(source.shape[0]))
    assert segmentation.FrameOfReferenceUID == scan.geometry.frame_of_reference_uid


def test_it_refers_to_the_images_of_every_channel(study: Any, tmp_path: Path) -> None:
    study.write("t1", number=1)
    study.write("flair", number=2)
    scan = study.read()
    header = dcmread(write(scan, tmp_path / "out")[0])
    sources = (scan.geometry.source, *scan.geometry.others)
    assert [item.SeriesInstanceUID for item in header.ReferencedSeriesSequence] == [each.series_uid for each in sources]
    assert len(sources) == 2
    wanted = [each.sop_instance_uid for source in sources for each in source.slices]
    assert [item.ReferencedSOPInstanceUID for item in header.SourceImageSequence] == wanted
    for item, source in zip(header.ReferencedSeriesSequence, sources, strict=True):
        assert len(item.ReferencedInstanceSequence) == len(source.slices)


def test_it_says_what_it_shows_and_what_made_it(study: Any, tmp_path: Path) -> None:
    study.write()
    segmentation = highdicom.seg.segread(write(study.read(), tmp_path / "out")[0])
    assert segmentation.SegmentationType == "BINARY"
    (segment,) = segmentation.SegmentSequence
    assert (segment.SegmentLabel, segment.SegmentAlgorithmType) == ("Lesion", "AUTOMATIC")
    assert code(segment.SegmentedPropertyTypeCodeSequence) == ("52988006", "SCT", "Lesion")
    assert code(segment.SegmentedPropertyCategoryCodeSequence)[:2] == ("49755003", "SCT")
    (made_by,) = segment.SegmentationAlgorithmIdentificationSequence
    assert (made_by.AlgorithmName, made_by.AlgorithmVersion) == ("tiny", "ab" * 32)
    assert made_by.AlgorithmParameters == "backend=openvino 2026.4.1,precision=int8"
    assert segment.TrackingUID.startswith("2.25.")
    assert "not a medical device" in segmentation.ContentDescription


def code(sequence: Any) -> tuple[str, str, str]:
    (item,) = sequence
    return item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning


def test_an_empty_mask_is_a_segmentation_too(study: Any, tmp_path: Path) -> None:
    study.write()
    scan = study.read()
    path, _ = write_mask(scan, np.zeros_like(lesion(scan)), tmp_path / "out", ALGORITHM)
    segmentation = highdicom.seg.segread(path)
    assert segmentation.number_of_segments == 1
    volume = segmentation.get_volume(combine_segments=True)
    assert volume.array.shape == scan.geometry.source.shape
    assert not volume.array.any()


def test_a_class_is_a_segment_of_its_own(study: Any, tmp_path: Path) -> None:
    study.write()
    scan = study.read()
    mask = lesion(scan)
    mask[(mask > 0) & (np.arange(mask.shape[2]) % 2 == 0)] = 2
    oedema = Segment("Oedema", ALGORITHM.segments[0].category, Code("1", "99TEST", "Oedema"))
    two = replace(ALGORITHM, segments=(*ALGORITHM.segments, oedema))
    path, _ = write_mask(scan, mask, tmp_path / "out", two)
    volume = highdicom.seg.segread(path).get_volume(combine_segments=True)
    np.testing.assert_array_equal(np.bincount(volume.array.ravel()), np.bincount(mask.ravel()))
    with pytest.raises(ScanError, match="class 2; tiny describes 1"):
        write_mask(scan, mask, tmp_path / "none", ALGORITHM)
    assert not (tmp_path / "none").exists()


def test_the_same_input_and_model_give_the_same_bytes(study: Any, tmp_path: Path) -> None:
    study.write()
    first, again = (write(study.read(), tmp_path / name)[0].read_bytes() for name in ("first", "again"))
    assert first == again


def test_another_model_setting_image_or_mask_gives_another_instance(study: Any, tmp_path: Path) -> None:
    study.write()
    scan = study.read()
    other = type(study)(tmp_path / "other")
    other.write(number=2)
    paths = [
        write(scan, tmp_path / "a")[0],
        write(scan, tmp_path / "b", replace(ALGORITHM, version="cd" * 32))[0],
        write(scan, tmp_path / "c", replace(ALGORITHM, parameters={"precision": "fp32"}))[0],
        write(other.read(), tmp_path / "d")[0],
        write_mask(scan, np.zeros_like(lesion(scan)), tmp_path / "e", ALGORITHM)[0],
    ]
    headers = [dcmread(path) for path in paths]
    assert len({header.SOPInstanceUID for header in headers}) == 5
    assert len({header.SeriesInstanceUID for header in headers}) == 4  # another mask is of the same series


def test_it_belongs_to_the_patient_and_study_of_its_source(study: Any, tmp_path: Path) -> None:
    study.write()
    study.edit(name_patient)
    source = dcmread(next(study.root.rglob("*.dcm")))
    header = dcmread(write(study.read(), tmp_path / "out")[0])
    assert {keyword: str(header[keyword].value) for keyword in PATIENT} == PATIENT
    for keyword in ("StudyInstanceUID", "StudyDate", "StudyTime", "ContentDate", "ContentTime"):
        assert header[keyword].value == source[keyword].value
    assert "InstanceCreationDate" not in header


def test_a_source_without_patient_or_dates_is_enough(study: Any, tmp_path: Path) -> None:
    def forget(image: Any) -> None:
        for keyword in (
            *PATIENT,
            *(f"{of}{what}" for of in ("Study", "Series", "Content") for what in ("Date", "Time")),
        ):
            delattr(image, keyword)

    study.write()
    study.edit(forget)
    header = dcmread(write(study.read(), tmp_path / "out")[0])
    assert (header.PatientID, header.PatientName, header.StudyDate) == ("", "", "")
    assert (header.ContentDate, header.ContentTime) == ("19000101", "000000")


def test_odd_values_of_a_patient_are_neither_printed_nor_in_the_way(study: Any, tmp_path: Path) -> None:
    study.write()
    study.edit(name_patient)
    odd = {"Müller^Jörg".encode(): b"SECRET NAME \xff", b"19611231": b"SECRET 1", b"CS\x02\x00M ": b"CS\x02\x00Q?"}
    for file in study.root.rglob("*.dcm"):
        content = file.read_bytes()
        for old, new in odd.items():
            assert old in content
            content = content.replace(old, new)
        file.write_bytes(content)
    program = f"""
import logging
from pathlib import Path
import numpy as np
from tumortrace_runtime.algorithm import Algorithm
from tumortrace_runtime.io import find_cases, read_case, write_mask
logging.basicConfig(level=logging.INFO)
(files,) = find_cases(Path({str(study.root)!r}))
scan = read_case(files, with_truth=False)
write_mask(scan, np.zeros(scan.voxels.shape[:3], np.uint8), Path({str(tmp_path / "out")!r}), Algorithm("a", "b", {{}}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert b"SECRET" not in done.stdout + done.stderr
    assert len(list((tmp_path / "out").iterdir())) == 2


@pytest.mark.parametrize(
    ("charset", "name", "stored"),
    [
        ("ISO_IR 100", "Müller^Jörg", b"M\xfcller^J\xf6rg"),
        ("ISO_IR 192", "Müller^Jörg", "Müller^Jörg".encode()),
        ("GB18030", "王^小东", "王^小东".encode("gb18030")),
        ("", "Müller^Jörg", b"M\xfcller^J\xf6rg"),  # not allowed, and met with
        ("ISO_IR 192", "", b"M\xfcller^J\xf6rg"),  # no UTF-8: left out
    ],
)
def test_a_name_is_kept_whatever_its_characters(
    study: Any, tmp_path: Path, charset: str, name: str, stored: bytes
) -> None:
    def call(image: Any) -> None:
        image.SpecificCharacterSet = charset
        image[0x00100010] = DataElement(0x00100010, "UN", stored + b" " * (len(stored) % 2))

    study.write()
    study.edit(call)
    assert dcmread(write(study.read(), tmp_path / "out")[0]).PatientName == name


def test_a_header_that_cannot_be_used_is_refused_without_a_word_of_it(
    study: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def degrade(image: Any) -> None:
        image.LossyImageCompression, image.LossyImageCompressionRatio = "01", "3.25"

    study.write()
    study.edit(degrade)
    for file in study.root.rglob("*.dcm"):
        content = file.read_bytes()
        assert content.count(b"DS\x04\x003.25") == 1
        file.write_bytes(content.replace(b"DS\x04\x003.25", b"DS\x04\x00SECR"))
    with pytest.raises(ScanError, match=r"header cannot go into what is made of it \(\w+\); it is damaged") as caught:
        write(study.read(), tmp_path / "out")
    assert "SECR" not in str(caught.value) + caplog.text
    assert not (tmp_path / "out").exists()


def test_who_it_is_is_told_to_those_who_ask(study: Any) -> None:
    study.write()
    study.edit(name_patient)
    told = identity(study.read().geometry.source)
    assert {
        "PatientName": "Müller^Jörg",
        "PatientID": "PID-4711",
        "AccessionNumber": "ACC-0815",
    }.items() <= told.items()


def test_a_mask_of_no_known_algorithm_or_grid_is_refused(study: Any, tmp_path: Path) -> None:
    study.write()
    scan = study.read()
    with pytest.raises(ScanError, match="give its algorithm"):
        write_mask(scan, lesion(scan), tmp_path / "out")
    with pytest.raises(ScanError, match="was not read from DICOM"):
        write_mask(replace(scan, geometry=Geometry()), lesion(scan), tmp_path / "out", ALGORITHM)
    with pytest.raises(ScanError, match="uint8 is wanted"):
        write_mask(scan, lesion(scan)[1:], tmp_path / "out", ALGORITHM)
    assert not (tmp_path / "out").exists()


def test_a_library_that_is_missing_is_named_with_its_command(
    study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.write()
    scan = study.read()
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(InputError, match=r"highdicom is not installed: pip install 'tumortrace\[dicom\]'"):
        write(scan, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_was_lossy_stays_lossy(study: Any, tmp_path: Path) -> None:
    def degrade(image: Any) -> None:
        image.LossyImageCompression = "01"
        image.LossyImageCompressionRatio = 8.5
        image.LossyImageCompressionMethod = "ISO_10918_1"

    study.write()
    study.edit(degrade)
    header = dcmread(write(study.read(), tmp_path / "out")[0])
    assert (header.LossyImageCompression, header.LossyImageCompressionRatio) == ("01", 8.5)


def test_a_series_with_rounded_positions_keeps_them(study: Any, tmp_path: Path) -> None:
    def round_off(image: Any) -> None:
        image.ImagePositionPatient = [round(float(value), 2) for value in image.ImagePositionPatient]

    study.write(affine=np.array([[0, 0, 0.75, -3], [0, 0.5, 0, 2], [3.3333, 0, 0, -8], [0, 0, 0, 1.0]]))
    study.edit(round_off)
    scan = study.read()
    segmentation = dcmread(write(scan, tmp_path / "out")[0])
    positions = {str(dcmread(file).SOPInstanceUID): dcmread(file).ImagePositionPatient for file in scan.files.images}
    for frame in segmentation.PerFrameFunctionalGroupsSequence:
        image = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        assert list(frame.PlanePositionSequence[0].ImagePositionPatient) == list(positions[image])


@pytest.mark.parametrize("form", [DicomForm(), replace(OBLIQUE, enhanced=True)])
def test_a_phantoms_lesions_lie_where_it_says(tmp_path: Path, form: DicomForm) -> None:
    phantom = write_phantom(tmp_path / "studies", "dicom", 1, 2, size_px=64, form=form)
    (files,) = find_cases(tmp_path / "studies")
    truth = phantom.scan.truth
    assert truth is not None
    path, _ = write_mask(read_case(files, with_truth=False), truth, tmp_path / "out", ALGORITHM)
    volume = highdicom.seg.segread(path).get_volume(combine_segments=True)
    assert isinstance(phantom.scan.geometry, DicomGeometry)
    to_phantom = np.linalg.inv(phantom.scan.geometry.affine) @ volume.affine
    mean_px = nibabel.affines.apply_affine(to_phantom, np.argwhere(volume.array)).mean(axis=0)
    sizes = [lesion.voxels for lesion in phantom.lesions]
    assert volume.array.sum() == sum(sizes) > 0
    told_px = np.average([lesion.centroid_px for lesion in phantom.lesions], axis=0, weights=sizes)
    apart_mm = phantom.scan.geometry.affine[:3, :3] @ (mean_px - told_px)
    np.testing.assert_allclose(apart_mm, 0, atol=EXACT_MM)
