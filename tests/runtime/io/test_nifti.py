from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import permutations, product, takewhile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tumortrace_runtime.errors import InputError, OutputError, ScanError
from tumortrace_runtime.io import (
    CaseFiles,
    ChannelMapping,
    Geometry,
    Scan,
    find_cases,
    gz,
    read_case,
    write_case,
    write_mask,
)
from tumortrace_runtime.io.volumes import SCAN_AXES, read_volume

SHAPE = (4, 5, 6)
AFFINE = np.array([[-1, 0, 0, 90], [0, -1.5, 0, 126], [0, 0, 3, -72], [0, 0, 0, 1.0]])
ORIENTATIONS = [
    tuple(pair[flip] for pair, flip in zip(axes, flips, strict=True))
    for axes in permutations(("RL", "AP", "IS"))
    for flips in product((0, 1), repeat=3)
]


def volume(seed: int = 0, dtype: str = "int16") -> npt.NDArray[Any]:
    return np.random.default_rng(seed).integers(0, 1000, SHAPE).astype(dtype)


def save(path: Path, data: npt.NDArray[Any], affine: npt.NDArray[Any] = AFFINE) -> Path:
    nib.Nifti1Image(data, affine, dtype=data.dtype).to_filename(path)
    return path


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """A case folder with BraTS names, written with nibabel alone."""
    folder = tmp_path / "data" / "BraTS2021_00006"
    folder.mkdir(parents=True)
    for seed, name in enumerate(("flair", "t1", "t1ce", "t2")):
        save(folder / f"{folder.name}_{name}.nii.gz", volume(seed))
    labels = np.random.default_rng(9).choice([0, 1, 2, 4], SHAPE).astype(np.uint8)
    save(folder / f"{folder.name}_seg.nii.gz", labels)
    return folder


def read(folder: Path, mapping: ChannelMapping | None = None, *, with_truth: bool = True) -> Scan:
    (files,) = find_cases(folder, "nifti", mapping)
    return read_case(files, mapping, with_truth=with_truth)


def refusal(folder: Path, mapping: ChannelMapping | None = None) -> str:
    with pytest.raises(ScanError) as caught:
        read(folder, mapping)
    return str(caught.value)


def named(folder: Path, channel: str, suffix: str = ".nii.gz") -> Path:
    return folder / f"{folder.name}_{channel}{suffix}"


def to_scan_axes(path: Path) -> npt.NDArray[Any]:
    """What nibabel itself makes of a file when asked for the axes of a scan."""
    image = nib.load(path)
    turn = nib.orientations.ornt_transform(nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(SCAN_AXES))
    return np.asanyarray(image.as_reoriented(turn).dataobj)


def test_a_case_with_brats_names_is_read_as_stored(case: Path) -> None:
    scan = read(case)
    assert scan.channels == ("t1", "flair", "t1ce", "t2")
    assert scan.voxels.dtype == np.int16
    assert scan.geometry.spacing_mm == (3.0, 1.5, 1.0)
    for position, name in enumerate(scan.channels):
        stored = np.asanyarray(nib.load(named(case, name)).dataobj)
        np.testing.assert_array_equal(scan.voxels[..., position], stored.T)
    labels = np.asanyarray(nib.load(named(case, "seg")).dataobj)
    np.testing.assert_array_equal(scan.truth, labels.T > 0)
    assert (scan.case_id, scan.files.patient_id, scan.files.site) == (case.name, case.name, "")


@pytest.mark.parametrize("axes", ORIENTATIONS, ids="".join)
def test_every_orientation_is_read_the_same_and_a_mask_goes_back_in_place(
    tmp_path: Path, axes: tuple[str, ...]
) -> None:
    canonical = nib.Nifti1Image(volume(), AFFINE)
    turn = nib.orientations.ornt_transform(nib.io_orientation(AFFINE), nib.orientations.axcodes2ornt(axes))
    folder = tmp_path / "case"
    folder.mkdir()
    path = named(folder, "flair")
    canonical.as_reoriented(turn).to_filename(path)
    stored = nib.load(path)
    assert nib.aff2axcodes(stored.affine) == axes

    scan = read(folder, with_truth=False)
    np.testing.assert_array_equal(scan.voxels[..., 0], volume().T)
    assert scan.geometry.spacing_mm == (3.0, 1.5, 1.0)

    turned = stored.as_reoriented(
        nib.orientations.ornt_transform(nib.io_orientation(stored.affine), nib.orientations.axcodes2ornt(SCAN_AXES))
    )
    assert scan.geometry.affine_lps is not None
    np.testing.assert_allclose(scan.geometry.affine_lps, np.diag((-1, -1, 1, 1)) @ turned.affine, atol=1e-4)

    mask = np.random.default_rng(3).integers(0, 2, scan.voxels.shape[:3], dtype=np.uint8)
    (written,) = write_mask(scan, mask, tmp_path / "out")
    image = nib.load(written)
    assert (written.name, image.shape, image.get_data_dtype()) == ("case_mask.nii.gz", stored.shape, np.uint8)
    np.testing.assert_array_equal(image.affine, stored.affine)
    np.testing.assert_array_equal(to_scan_axes(written), mask)


@pytest.mark.parametrize("codes", [(1, 0), (0, 1), (1, 1)])
def test_one_code_is_enough_to_know_where_the_patient_is(tmp_path: Path, codes: tuple[int, int]) -> None:
    image = nib.Nifti1Image(volume(), AFFINE)
    image.set_qform(AFFINE, codes[0])
    image.set_sform(AFFINE, codes[1])
    image.to_filename(tmp_path / "volume.nii")
    found = read_volume(tmp_path / "volume.nii")[1].affine_lps
    assert found is not None
    np.testing.assert_allclose(found @ (0, 0, 0, 1), np.diag((-1, -1, 1, 1)) @ AFFINE @ (0, 0, 0, 1), atol=1e-4)


def test_without_codes_nobody_knows_where_the_patient_is(tmp_path: Path) -> None:
    image = nib.Nifti1Image(volume(), None)
    assert (image.header["qform_code"], image.header["sform_code"]) == (0, 0)
    image.to_filename(tmp_path / "volume.nii")
    assert read_volume(tmp_path / "volume.nii")[1].affine_lps is None


@given(
    angles=st.tuples(*[st.floats(-0.6, 0.6)] * 3),
    zooms=st.tuples(*[st.floats(0.3, 8)] * 3),
    axes=st.sampled_from(ORIENTATIONS),
    shape=st.tuples(*[st.integers(1, 6)] * 3),
)
@settings(max_examples=40, deadline=None)
def test_oblique_volumes_are_turned_as_nibabel_turns_them(
    tmp_path_factory: pytest.TempPathFactory,
    angles: tuple[float, ...],
    zooms: tuple[float, ...],
    axes: tuple[str, ...],
    shape: tuple[int, ...],
) -> None:
    path = tmp_path_factory.mktemp("oblique") / "volume.nii"
    affine = nib.affines.from_matvec(nib.eulerangles.euler2mat(*angles) @ np.diag(zooms), (5, -7, 11))
    data = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    image = nib.Nifti1Image(data, affine)
    turn = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(axes))
    image.as_reoriented(turn).to_filename(path)
    voxels, geometry = read_volume(path)
    np.testing.assert_array_equal(voxels, to_scan_axes(path))
    assert geometry.spacing_mm is not None
    np.testing.assert_allclose(np.prod(geometry.spacing_mm), np.prod(zooms), rtol=1e-4)


@pytest.mark.parametrize(("qform", "sform"), [(0, 2), (2, 1), (1, 0), (0, 0), (1, 4)])
def test_a_mask_keeps_both_forms_and_their_codes(tmp_path: Path, qform: int, sform: int) -> None:
    folder = tmp_path / "case"
    folder.mkdir()
    image = nib.Nifti1Image(volume(), None)
    image.header.set_zooms((1, 1.5, 3))
    image.header.set_qform(AFFINE, qform)
    image.header.set_sform(AFFINE if sform else None, sform)
    image.to_filename(named(folder, "t1"))
    scan = read(folder, with_truth=False)
    (path,) = write_mask(scan, np.ones(scan.voxels.shape[:3], np.uint8), tmp_path / "out")
    before, after = nib.load(named(folder, "t1")).header, nib.load(path).header
    assert (int(after["qform_code"]), int(after["sform_code"])) == (qform, sform)
    np.testing.assert_array_equal(after.get_best_affine(), before.get_best_affine())
    for field in ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "srow_x", "srow_z", "pixdim", "xyzt_units"):
        np.testing.assert_array_equal(after[field], before[field])


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "int32", "float32", "float64"])
def test_the_stored_dtype_is_kept(tmp_path: Path, dtype: str) -> None:
    data = (volume() % 100).astype(dtype)
    voxels, _ = read_volume(save(tmp_path / "a.nii", data))
    assert voxels.dtype == dtype
    np.testing.assert_array_equal(voxels, data.T)


def test_a_big_endian_file_is_read_in_the_order_of_the_machine(tmp_path: Path) -> None:
    image = nib.Nifti1Image(volume(), AFFINE)
    nib.Nifti1Image(volume(), AFFINE, image.header.as_byteswapped(">")).to_filename(tmp_path / "a.nii")
    voxels, _ = read_volume(tmp_path / "a.nii")
    assert voxels.dtype.isnative
    np.testing.assert_array_equal(voxels, volume().T)


def test_scaled_values_are_float32(tmp_path: Path) -> None:
    image = nib.Nifti1Image(volume(), AFFINE)
    image.header.set_slope_inter(0.5, -20)
    image.to_filename(tmp_path / "a.nii.gz")
    voxels, _ = read_volume(tmp_path / "a.nii.gz")
    assert voxels.dtype == np.float32
    np.testing.assert_array_equal(voxels, volume().T * np.float32(0.5) - 20)


def test_nifti_2_is_read_and_its_mask_is_nifti_2(tmp_path: Path) -> None:
    folder = tmp_path / "case"
    folder.mkdir()
    nib.Nifti2Image(volume(), AFFINE).to_filename(named(folder, "t2"))
    scan = read(folder, with_truth=False)
    (path,) = write_mask(scan, np.zeros(scan.voxels.shape[:3], np.uint8), tmp_path)
    assert isinstance(nib.load(path), nib.Nifti2Image)


def test_units_other_than_millimetres_are_converted(tmp_path: Path) -> None:
    image = nib.Nifti1Image(volume(), np.diag((1e-3, 1e-3, 2e-3, 1)))
    image.header.set_xyzt_units("meter")
    image.to_filename(tmp_path / "a.nii")
    _, geometry = read_volume(tmp_path / "a.nii")
    np.testing.assert_allclose(np.asarray(geometry.spacing_mm), (2, 1, 1), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["<u1", "<i2", ">i2", "<u2", ">i4", "<f4", ">f8"])
@given(
    scaling=st.sampled_from([(1.0, 0.0), (0.5, 0.0), (1.0, -20.0), (3.7e-3, 1e4), (-2.0, 0.25)]),
    extension=st.binary(max_size=40),
    trailing=st.integers(0, 2),
    suffix=st.sampled_from([".nii", ".nii.gz"]),
    kind=st.sampled_from([nib.Nifti1Image, nib.Nifti2Image]),
)
@settings(max_examples=12, deadline=None)
def test_values_are_what_nibabel_reads(
    tmp_path_factory: pytest.TempPathFactory,
    dtype: str,
    scaling: tuple[float, float],
    extension: bytes,
    trailing: int,
    suffix: str,
    kind: Any,
) -> None:
    header = kind.header_class(endianness=dtype[0])
    header.set_data_dtype(np.dtype(dtype))
    image = kind((volume() % 200).reshape(SHAPE + (1,) * trailing), AFFINE, header)
    if extension:
        image.header.extensions.append(nib.nifti1.Nifti1Extension(6, extension))
    content = image.to_bytes()
    header = kind.header_class(content[: header.structarr.nbytes], endianness=dtype[0])
    header["scl_slope"], header["scl_inter"] = scaling  # as they are: to_bytes would scale the values back
    content = header.binaryblock + content[header.structarr.nbytes :]
    path = tmp_path_factory.mktemp("values") / f"volume{suffix}"
    path.write_bytes(gzip.compress(content) if suffix == ".nii.gz" else content)

    expected = to_scan_axes(path).reshape(SHAPE[::-1])
    voxels, _ = read_volume(path)
    assert voxels.dtype == (np.dtype(dtype).newbyteorder("=") if scaling == (1, 0) else np.float32)
    np.testing.assert_array_equal(voxels, expected.astype(voxels.dtype))


def test_channels_of_several_dtypes_become_the_one_that_holds_them_all(case: Path) -> None:
    save(named(case, "t1ce"), volume(5, "float32") / 7)
    scan = read(case)
    assert scan.voxels.dtype == np.float32
    np.testing.assert_array_equal(scan.voxels[..., 2], volume(5, "float32").T / 7)
    np.testing.assert_array_equal(scan.voxels[..., 1], volume(0).T)


def test_each_channel_is_by_itself_in_memory(case: Path) -> None:
    voxels = read(case).voxels
    assert all(voxels[..., number].flags.c_contiguous for number in range(4))


def test_files_of_channels_that_are_not_wanted_are_not_read(case: Path) -> None:
    (files,) = find_cases(case)
    whole = read_case(files)
    named(case, "t2").write_bytes(b"damaged")
    scan = read_case(files, channels=("t1ce", "flair", "t1"))
    assert scan.channels == ("t1", "flair", "t1ce")
    np.testing.assert_array_equal(scan.voxels, whole.voxels[..., :3])
    np.testing.assert_array_equal(scan.truth, whole.truth)


def test_flair_is_read_in_any_case_because_others_are_compared_with_it(case: Path) -> None:
    named(case, "t1ce").write_bytes(named(case, "flair").read_bytes())
    (files,) = find_cases(case)
    scan = read_case(files, channels=("t1ce",), with_truth=False)
    assert (scan.channels, scan.replaced) == (("flair", "t1ce"), ("t1ce",))


def test_a_wanted_channel_that_is_missing_is_told_before_any_is_read(case: Path) -> None:
    for name in ("flair", "t1", "t1ce"):
        named(case, name).write_bytes(b"damaged")
    named(case, "t2").unlink()
    (files,) = find_cases(case)
    with pytest.raises(ScanError, match="has channels t1, flair, t1ce; t2 wanted too"):
        read_case(files, channels=("flair", "t2"))


def test_of_several_problems_that_of_the_first_file_is_told(case: Path) -> None:
    damaged = bytearray(named(case, "t1").read_bytes())
    damaged[-1] ^= 1  # of the length, at the very end
    elsewhere = AFFINE.copy()
    elsewhere[0, 3] += 50
    named(case, "seg").write_text("not an image")
    save(named(case, "t2"), np.full(SHAPE, np.nan, np.float32))
    assert refusal(case).startswith(f"{named(case, 't2')}: has 120 voxels that are NaN")
    save(named(case, "t1ce"), volume(), elsewhere)
    assert refusal(case).startswith(f"{named(case, 't1ce')}: its affine")
    save(named(case, "flair"), np.zeros((4, 5), np.int16))
    assert refusal(case).startswith(f"{named(case, 'flair')}: has the shape")
    named(case, "t1").write_bytes(damaged)
    assert refusal(case).startswith(f"{named(case, 't1')}: cannot be decoded")


def test_a_case_without_t2_is_read_and_a_model_that_wants_it_is_told(case: Path) -> None:
    named(case, "t2").unlink()
    scan = read(case)
    assert scan.channels == ("t1", "flair", "t1ce")
    with pytest.raises(ScanError, match="has channels t1, flair, t1ce; t2 wanted too"):
        scan.select(("t1", "t2"))


def test_uncompressed_files_are_found_by_brats_names(case: Path) -> None:
    expected = read(case)
    for path in list(case.iterdir()):
        nib.load(path).to_filename(path.with_suffix(""))
        path.unlink()
    np.testing.assert_array_equal(read(case).voxels, expected.voxels)


def test_a_mapping_wants_all_its_channels(case: Path) -> None:
    mapping = ChannelMapping({"flair": "*_flair.nii.gz", "t1": "*_pre.nii.gz"})
    (files,) = find_cases(case, mapping=mapping)
    with pytest.raises(ScanError, match=r"has no file \*_pre.nii.gz for the channel t1"):
        read_case(files, mapping, with_truth=False)


def test_channels_do_not_depend_on_the_order_of_the_mapping(case: Path) -> None:
    forward = ChannelMapping({"t1ce": "*_t1ce.nii.gz", "flair": "*_flair.nii.gz", "adc": "*_t2.nii.gz"})
    backward = ChannelMapping(dict(reversed(forward.channels.items())))
    assert read(case, forward, with_truth=False).channels == ("flair", "t1ce", "adc")
    assert read(case, backward, with_truth=False).channels == ("flair", "t1ce", "adc")


def test_two_files_for_one_channel_are_refused(case: Path) -> None:
    save(case / "again_flair.nii.gz", volume())
    assert "has several files" in refusal(case)


def test_a_missing_mask_is_refused_only_when_it_is_wanted(case: Path) -> None:
    named(case, "seg").unlink()
    assert "has no mask" in refusal(case)
    assert read(case, with_truth=False).truth is None


def test_a_mapping_without_truth_says_which_key_to_add(case: Path) -> None:
    assert "add the key 'truth'" in refusal(case, ChannelMapping({"flair": "*_flair.nii.gz"}))


def test_a_sequence_replaced_by_flair_is_recorded(case: Path) -> None:
    named(case, "t1ce").write_bytes(named(case, "flair").read_bytes())
    assert read(case).replaced == ("t1ce",)


def test_a_channel_of_another_shape_is_refused(case: Path) -> None:
    save(named(case, "t1ce"), np.zeros((4, 5, 7), np.int16))
    assert refusal(case) == f"{named(case, 't1ce')}: has the shape (4, 5, 7); the other channels have (4, 5, 6)."


@pytest.mark.parametrize(("moved_mm", "accepted"), [(1e-4, True), (0.09, True), (0.11, False), (5, False)])
def test_a_channel_or_mask_elsewhere_is_refused(case: Path, moved_mm: float, accepted: bool) -> None:
    affine = AFFINE.copy()
    affine[1, 3] += moved_mm
    save(named(case, "seg"), np.zeros(SHAPE, np.uint8), affine)
    if accepted:
        assert read(case).truth is not None
    else:
        assert "must share one grid" in refusal(case)


def test_a_mask_mirrored_by_its_affine_is_refused(case: Path) -> None:
    save(named(case, "seg"), np.zeros(SHAPE, np.uint8), np.diag((-1, 1, 1, 1)) @ AFFINE)
    assert "must share one grid" in refusal(case)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_finite_are_refused(case: Path, value: float) -> None:
    data = volume(dtype="float32")
    data[1, 2, 3] = value
    path = save(named(case, "t2"), data)
    assert refusal(case) == f"{path}: has 1 voxels that are NaN or infinite; finite values are wanted."


def test_a_trailing_axis_of_one_is_accepted_and_kept(tmp_path: Path) -> None:
    folder = tmp_path / "case"
    folder.mkdir()
    save(named(folder, "flair"), volume()[..., None])
    scan = read(folder, with_truth=False)
    np.testing.assert_array_equal(scan.voxels[..., 0], volume().T)
    (path,) = write_mask(scan, np.ones(scan.voxels.shape[:3], np.uint8), tmp_path)
    assert nib.load(path).shape == (*SHAPE, 1)


@pytest.mark.parametrize("shape", [(4, 5, 6, 2), (4, 5), (4, 5, 6, 1, 3)])
def test_other_than_one_volume_is_refused(case: Path, shape: tuple[int, ...]) -> None:
    save(named(case, "flair"), np.zeros(shape, np.int16))
    assert f"has the shape {shape}; one 3-D volume is wanted" in refusal(case)


def test_complex_voxels_are_refused(case: Path) -> None:
    save(named(case, "flair"), np.zeros(SHAPE, np.complex64))
    assert "has complex64 voxels" in refusal(case)


@pytest.fixture(params=gz.GZIP)
def gzip_library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The module that files are read and written with; those that would be preferred to it are not there."""
    name = str(request.param)
    pytest.importorskip(name)
    for other in takewhile(lambda other: other != name, gz.GZIP):
        monkeypatch.setitem(sys.modules, other, None)
    return name


def test_every_gzip_library_writes_the_same_each_time_and_python_reads_it(gzip_library: str, tmp_path: Path) -> None:
    scan = synthetic()
    folders = [write_case("nifti", scan, tmp_path / name) for name in ("once", "again")]
    np.testing.assert_array_equal(read(folders[0]).voxels, scan.voxels)
    first, second = (named(folder, "flair").read_bytes() for folder in folders)
    assert first == second
    assert first[:8] == b"\x1f\x8b\x08\0\0\0\0\0"  # neither a file name nor a time
    np.testing.assert_array_equal(to_scan_axes(named(folders[0], "flair")), scan.voxels[..., 1])


@pytest.mark.parametrize("kept", [0, 5, 100, 0.5, -12, -8, -1])
def test_a_truncated_gzip_is_refused_by_name(gzip_library: str, case: Path, kept: float) -> None:
    path = named(case, "t1ce")
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if kept == 0.5 else int(kept)])
    assert refusal(case).startswith(f"{path}: cannot be decoded as NIfTI (")


def test_a_file_of_several_gzip_members_is_one_volume(gzip_library: str, case: Path) -> None:
    expected = read(case).voxels
    content = gzip.decompress(named(case, "t1").read_bytes())
    members = [content[:100], content[100:360], content[360:]]
    named(case, "t1").write_bytes(b"".join(map(gzip.compress, members)) + bytes(512))
    np.testing.assert_array_equal(read(case).voxels, expected)


@pytest.mark.parametrize("kept", [0, 100, 348, 400, -1])
def test_a_truncated_plain_file_is_refused_by_name(case: Path, kept: int) -> None:
    named(case, "t1ce").unlink()
    path = save(named(case, "t1ce", ".nii"), volume())
    path.write_bytes(path.read_bytes()[:kept])
    assert refusal(case).startswith(f"{path}: cannot be decoded as NIfTI (")


def test_a_flipped_byte_in_the_stream_is_refused(gzip_library: str, case: Path) -> None:
    path = named(case, "t1ce")
    content = bytearray(path.read_bytes())
    for position in range(20, len(content), 11):
        damaged = bytearray(content)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        assert refusal(case).startswith(f"{path}: ")


def test_a_header_that_promises_too_much_is_refused_before_it_is_read(case: Path) -> None:
    header = bytearray(gzip.decompress(named(case, "t1ce").read_bytes()))
    header[42:48] = np.array([30000, 30000, 30000], "<i2").tobytes()  # dim[1..3]
    named(case, "t1ce").write_bytes(gzip.compress(bytes(header)))
    assert "voxels are read" in refusal(case)


SHORT_OF_MEMORY = """
import resource, sys
from pathlib import Path
from tumortrace_runtime.errors import ResourceError
from tumortrace_runtime.io import find_cases, read_case
(files,) = find_cases(Path(sys.argv[1]))
read_case(files, channels=("flair",))
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 200_000_000, resource.RLIM_INFINITY))
try:
    read_case(files)
except ResourceError as problem:
    print(problem)
"""


def test_a_scan_for_which_memory_is_short_is_one_typed_error(case: Path) -> None:
    named(case, "t2").unlink()
    header = nib.Nifti1Image(np.zeros((1, 1, 1), np.int16), AFFINE).header
    header.set_data_shape((600, 600, 700))
    with named(case, "t2", ".nii").open("wb") as file:
        file.write(header.binaryblock)
        file.truncate(352 + 600 * 600 * 700 * 2)  # no block of which is on the disk
    done = subprocess.run([sys.executable, "-c", SHORT_OF_MEMORY, case], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "too little memory for this scan; end other programs, or segment a smaller one.\n"


def test_another_file_under_the_name_of_a_nifti_is_refused(case: Path) -> None:
    named(case, "t2").write_text("not an image")
    assert refusal(case).startswith(f"{named(case, 't2')}: cannot be decoded as NIfTI")


@pytest.mark.parametrize("column", [(0, 0, 0), (np.nan, 0, 0)])
def test_an_affine_that_places_nothing_is_refused(case: Path, column: tuple[float, ...]) -> None:
    image = nib.load(named(case, "flair"))
    data = np.asanyarray(image.dataobj)
    header = image.header.copy()
    for row, value in zip(("srow_x", "srow_y", "srow_z"), column, strict=True):
        header[row][0] = value
    nib.Nifti1Image(data, None, header).to_filename(named(case, "flair"))
    assert refusal(case).startswith(str(named(case, "flair")))


@pytest.mark.parametrize(("value", "shown"), [(3, None), (5, "5"), (7, "7"), (255, "255")])
def test_label_values_outside_the_mapping_are_refused(case: Path, value: int, shown: str | None) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[0, 0, 0] = value
    save(named(case, "seg"), labels)
    if shown is None:
        assert np.count_nonzero(read(case).truth) == 1
    else:
        assert f"has the label values {shown}; the mapping knows 0, 1, 2, 3, 4" in refusal(case)


@pytest.mark.parametrize("value", [0.5, 1.01, 3.9990])
def test_labels_that_are_not_integers_are_refused(case: Path, value: float) -> None:
    save(named(case, "seg"), np.full(SHAPE, value, np.float32))
    assert f"has the label values {value:g};" in refusal(case)


def test_integers_stored_as_floats_or_with_scaling_are_labels(case: Path) -> None:
    labels = np.random.default_rng(1).integers(0, 5, SHAPE)
    image = nib.Nifti1Image(labels.astype(np.float32), AFFINE)
    image.set_data_dtype(np.int16)
    image.to_filename(named(case, "seg"))
    np.testing.assert_array_equal(read(case).truth, labels.T > 0)


def test_labels_become_the_classes_of_the_mapping(case: Path) -> None:
    mapping = ChannelMapping({"t1": "*_t1.nii.gz"}, "*_seg.nii.gz", {0: 0, 1: 1, 2: 2, 4: 3})
    stored = np.asanyarray(nib.load(named(case, "seg")).dataobj).T
    np.testing.assert_array_equal(read(case, mapping).truth, np.array([0, 1, 2, 0, 3], np.uint8)[stored])


def synthetic(spacing_mm: tuple[float, float, float] | None = (5.0, 0.9, 1.1), dtype: str = "uint8") -> Scan:
    random = np.random.default_rng(2)
    voxels = random.integers(0, 255, (7, 9, 8, 3)).astype(dtype)
    truth = random.integers(0, 2, (7, 9, 8), dtype=np.uint8)
    files = CaseFiles("phantom_0001", "phantom_0001", "", "nifti", Path(), ())
    return Scan(files, ("t1", "flair", "t1ce"), voxels, Geometry(spacing_mm), truth=truth)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int64", "float32"])
def test_a_case_that_was_written_reads_back_the_same(tmp_path: Path, dtype: str) -> None:
    scan = synthetic(dtype=dtype)
    folder = write_case("nifti", scan, tmp_path)
    again = read(folder)
    assert {path.name for path in folder.iterdir()} == {
        f"phantom_0001_{name}.nii.gz" for name in ("t1", "flair", "t1ce", "seg")
    }
    assert (again.channels, again.voxels.dtype) == (scan.channels, scan.voxels.dtype)
    np.testing.assert_array_equal(again.voxels, scan.voxels)
    np.testing.assert_array_equal(again.truth, scan.truth)
    np.testing.assert_allclose(np.asarray(again.geometry.spacing_mm), (5.0, 0.9, 1.1), rtol=1e-6)
    header = nib.load(folder / "phantom_0001_flair.nii.gz").header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (1, 1)


def test_a_case_read_from_nifti_is_written_in_its_own_geometry(case: Path, tmp_path: Path) -> None:
    folder = write_case("nifti", read(case), tmp_path / "copy")
    for name in ("t1", "flair", "t1ce", "t2"):
        before, after = nib.load(named(case, name)), nib.load(named(folder, name))
        np.testing.assert_array_equal(after.affine, before.affine)
        np.testing.assert_array_equal(np.asanyarray(after.dataobj), np.asanyarray(before.dataobj))


def test_a_scan_that_nifti_cannot_hold_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="has no spacing"):
        write_case("nifti", synthetic(None), tmp_path)
    with pytest.raises(ScanError, match="cannot hold float16"):
        write_case("nifti", synthetic(dtype="float16"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing_behind(
    case: Path, tmp_path: Path, files_of_at_most: Callable[[int], AbstractContextManager[None]]
) -> None:
    scan = read(case)
    with files_of_at_most(64), pytest.raises(OutputError):
        write_mask(scan, np.ones(scan.voxels.shape[:3], np.uint8), tmp_path / "out")
    with files_of_at_most(64), pytest.raises(OutputError):
        write_case("nifti", scan, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_mask_off_the_grid_is_refused(case: Path, tmp_path: Path) -> None:
    scan = read(case)
    with pytest.raises(ScanError, match="uint8 is wanted"):
        write_mask(scan, np.ones(scan.voxels.shape[:3], bool).view(np.int8), tmp_path)  # type: ignore[arg-type]
    with pytest.raises(ScanError, match="uint8 is wanted"):
        write_mask(replace(scan), np.ones(SHAPE, np.uint8), tmp_path)


def test_a_missing_nibabel_is_named_with_the_command(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(InputError, match=r"nibabel .* pip install 'tumortrace\[nifti\]'"):
        read(case)


def test_the_real_brats_2021_case(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    folder = real_data("brats") / "BraTS2021_00006"
    scan = read(folder)
    assert (scan.channels, scan.voxels.shape) == (("t1", "flair", "t1ce", "t2"), (155, 240, 240, 4))
    assert (scan.voxels.dtype, scan.geometry.spacing_mm) == (np.int16, (1.0, 1.0, 1.0))
    labels = nib.load(named(folder, "seg"))
    assert scan.truth is not None
    assert np.count_nonzero(scan.truth) == np.count_nonzero(np.asanyarray(labels.dataobj))
    (path,) = write_mask(scan, scan.truth, tmp_path)
    np.testing.assert_array_equal(np.asanyarray(nib.load(path).dataobj), np.asanyarray(labels.dataobj) > 0)
    np.testing.assert_array_equal(nib.load(path).affine, labels.affine)


def test_the_real_brats_2013_case_is_read_through_a_mapping(real_data: Callable[[str], Path]) -> None:
    mapping = ChannelMapping(
        {"flair": "Flair_subtrMeanDivStd.nii.gz", "t1ce": "T1c_subtrMeanDivStd.nii.gz"}, "OTMultiClass.nii.gz"
    )
    scan = read(real_data("brats") / "brats_2013_pat0005_1", mapping)
    assert (scan.channels, scan.voxels.dtype) == (("flair", "t1ce"), np.float32)
    assert float(scan.voxels.min()) < -3  # z-scored: negatives are tissue
    assert np.count_nonzero(scan.truth) == 80682
