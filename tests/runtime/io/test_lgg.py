from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tumortrace_runtime.errors import InputError, OutputError, ScanError
from tumortrace_runtime.io import CaseFiles, Geometry, Scan, find_cases, read_case, write_case, write_mask

Writer = Callable[..., Path]
FullDisk = Callable[[], AbstractContextManager[None]]


def read(folder: Path, *, with_truth: bool = True) -> Scan:
    (files,) = find_cases(folder, "lgg")
    return read_case(files, with_truth=with_truth)


def refusal(folder: Path, *, with_truth: bool = True) -> str:
    with pytest.raises(ScanError) as caught:
        read(folder, with_truth=with_truth)
    return str(caught.value)


def test_slices_are_in_the_order_of_their_numbers_and_pixels_are_as_stored(lgg_case: Writer) -> None:
    folder = lgg_case(slices=12)
    scan = read(folder)
    stored = [np.array(Image.open(folder / f"{folder.name}_{n}.tif")) for n in range(1, 13)]
    masks = [np.array(Image.open(folder / f"{folder.name}_{n}_mask.tif")) for n in range(1, 13)]
    assert scan.channels == ("t1", "flair", "t1ce")
    assert scan.voxels.dtype == np.uint8
    np.testing.assert_array_equal(scan.voxels, np.stack(stored))
    assert scan.truth is not None
    np.testing.assert_array_equal(scan.truth, np.stack(masks) // 255)
    assert scan.geometry.spacing_mm is None
    assert scan.replaced == ()


@pytest.mark.parametrize(
    ("name", "patient", "site"),
    [
        ("TCGA_CS_4942_19970222", "TCGA_CS_4942", "CS"),
        ("TCGA_FG_A4MU_20030903", "TCGA_FG_A4MU", "FG"),
        ("TCGA_HT_A61B", "TCGA_HT_A61B", "HT"),
        ("phantom_0003", "phantom_0003", ""),
    ],
)
def test_patient_and_site_come_from_a_tcga_name(lgg_case: Writer, name: str, patient: str, site: str) -> None:
    (files,) = find_cases(lgg_case(name, 2))
    assert (files.case_id, files.patient_id, files.site) == (name, patient, site)


def test_the_patient_is_known_by_the_file_names_when_the_folder_was_renamed(lgg_case: Writer) -> None:
    folder = lgg_case("TCGA_DU_5849_19950405", 2)
    (files,) = find_cases(folder.rename(folder.with_name("second visit")))
    assert (files.case_id, files.patient_id) == ("second visit", "TCGA_DU_5849")


def test_sequences_replaced_by_flair_are_recorded(lgg_case: Writer) -> None:
    folder = lgg_case(slices=3)
    for path in folder.glob("*_[123].tif"):
        pixels = np.array(Image.open(path))
        pixels[..., 2] = pixels[..., 1]
        Image.fromarray(pixels).save(path)
    assert read(folder).replaced == ("t1ce",)


def test_one_slice_that_equals_flair_is_not_a_replaced_sequence(lgg_case: Writer) -> None:
    folder = lgg_case(slices=3)
    path = folder / f"{folder.name}_2.tif"
    Image.fromarray(np.repeat(np.array(Image.open(path))[..., 1:2], 3, axis=2)).save(path)
    assert read(folder).replaced == ()


def test_a_scan_without_masks_is_found_and_read_without_truth(lgg_case: Writer) -> None:
    folder = lgg_case(slices=3, masks=False)
    assert read(folder, with_truth=False).truth is None
    assert "has no mask of slice 1, 2, 3" in refusal(folder)


def test_a_channel_that_the_layout_has_not_is_refused(lgg_case: Writer) -> None:
    (files,) = find_cases(lgg_case(slices=2))
    assert read_case(files, channels=("flair",)).channels == ("t1", "flair", "t1ce")
    with pytest.raises(ScanError, match="has channels t1, flair, t1ce; t2 wanted too"):
        read_case(files, channels=("flair", "t2"))


def test_a_gap_in_slice_numbers_is_refused(lgg_case: Writer) -> None:
    folder = lgg_case(slices=6)
    (folder / f"{folder.name}_4.tif").unlink()
    assert "has no slice 4 between 1 and 6" in refusal(folder, with_truth=False)


def test_a_missing_first_slice_is_refused(lgg_case: Writer) -> None:
    folder = lgg_case(slices=4)
    (folder / f"{folder.name}_1.tif").unlink()
    assert "has no slice 1 between" in refusal(folder)


def test_a_slice_number_that_is_there_twice_is_refused(lgg_case: Writer) -> None:
    folder = lgg_case(slices=3)
    Image.new("RGB", (10, 12)).save(folder / f"{folder.name}_02.tif")
    assert "has slice 2 more than once" in refusal(folder)


def test_slices_of_two_scans_in_one_folder_are_refused(lgg_case: Writer) -> None:
    folder = lgg_case(slices=3)
    Image.new("RGB", (10, 12)).save(folder / "TCGA_DU_5849_19950405_4.tif")
    assert "several scans" in refusal(folder)


def test_slices_of_different_sizes_are_refused(lgg_case: Writer) -> None:
    folder = lgg_case(slices=3)
    Image.new("RGB", (10, 13)).save(folder / f"{folder.name}_3.tif")
    assert refusal(folder) == f"{folder}/{folder.name}_3.tif: is 10 x 13 pixels; the first slice is 10 x 12 pixels."


def test_a_mask_of_another_size_is_refused(lgg_case: Writer) -> None:
    folder = lgg_case(slices=3)
    Image.new("L", (12, 10)).save(folder / f"{folder.name}_3_mask.tif")
    assert "_3_mask.tif: is 12 x 10 pixels; the slice is 10 x 12 pixels" in refusal(folder)


@pytest.mark.parametrize("value", [1, 127, 254])
def test_mask_values_other_than_0_and_255_are_refused(lgg_case: Writer, value: int) -> None:
    folder = lgg_case(slices=3)
    Image.new("L", (10, 12), value).save(folder / f"{folder.name}_2_mask.tif")
    assert f"_2_mask.tif: holds the value {value}; a mask of 0 and 255 is wanted" in refusal(folder)


def test_a_mask_of_one_bit_a_pixel_is_read(lgg_case: Writer) -> None:
    folder = lgg_case(slices=3)
    before = read(folder).truth
    path = folder / f"{folder.name}_2_mask.tif"
    Image.open(path).convert("1").save(path)
    np.testing.assert_array_equal(read(folder).truth, before)


def test_one_missing_mask_is_refused_by_number(lgg_case: Writer) -> None:
    folder = lgg_case(slices=5)
    (folder / f"{folder.name}_3_mask.tif").unlink()
    assert "has no mask of slice 3" in refusal(folder)
    assert read(folder, with_truth=False).voxels.shape == (5, 12, 10, 3)


def test_a_mask_without_slice_is_refused(lgg_case: Writer) -> None:
    folder = lgg_case(slices=3)
    (folder / f"{folder.name}_3.tif").unlink()
    assert "_3_mask.tif has no slice" in refusal(folder)


@pytest.mark.parametrize("kept", [0, 1, 8, 30, 200, -1])
@pytest.mark.parametrize("suffix", ["", "_mask"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_truncated_file_is_refused_by_name(lgg_case: Writer, kept: int, suffix: str) -> None:
    folder = lgg_case(slices=3)
    path = folder / f"{folder.name}_2{suffix}.tif"
    path.write_bytes(path.read_bytes()[: min(kept, 100) if suffix else kept])
    assert refusal(folder).startswith(f"{path}: cannot be decoded as TIFF (")


def test_another_format_under_the_name_of_a_tiff_is_refused(lgg_case: Writer) -> None:
    folder = lgg_case(slices=2)
    path = folder / f"{folder.name}_1.tif"
    Image.new("RGB", (10, 12)).save(path, format="PNG")
    assert refusal(folder).startswith(f"{path}: cannot be decoded as TIFF")


def test_a_slice_with_missing_channels_is_refused(lgg_case: Writer) -> None:
    folder = lgg_case(slices=2)
    Image.new("L", (10, 12)).save(folder / f"{folder.name}_1.tif")
    assert "has pixel mode L; RGB wanted" in refusal(folder)


@pytest.mark.parametrize(("side", "reason"), [(5000, "at most 4096 a side are read"), (70000, "decompression bomb")])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(lgg_case: Writer, side: int, reason: str) -> None:
    folder = lgg_case(slices=2)
    path = folder / f"{folder.name}_2.tif"
    # width and height are the first two entries of a TIFF directory: tags 256 and 257, each 12 bytes long
    content = bytearray(path.read_bytes())
    directory = int.from_bytes(content[4:8], "little")
    for entry in (directory + 2, directory + 14):
        content[entry + 2 : entry + 4] = (4).to_bytes(2, "little")
        content[entry + 8 : entry + 12] = side.to_bytes(4, "little")
    path.write_bytes(content)
    message = refusal(folder)
    assert message.startswith(f"{path}: ")
    assert reason in message


def test_several_pages_in_one_file_are_refused(lgg_case: Writer) -> None:
    folder = lgg_case(slices=2)
    page = Image.new("RGB", (10, 12))
    page.save(folder / f"{folder.name}_2.tif", save_all=True, append_images=[page])
    assert "has several pages" in refusal(folder)


def test_a_missing_pillow_is_named_with_the_command(lgg_case: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = lgg_case(slices=2)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(InputError, match=r"pillow .* pip install 'tumortrace\[images\]'"):
        read(folder)


def test_a_mask_is_written_under_the_names_of_the_scan(lgg_case: Writer, tmp_path: Path) -> None:
    folder = lgg_case(slices=11)
    scan = read(folder)
    mask = np.random.default_rng(1).integers(0, 2, (11, 12, 10), dtype=np.uint8)
    out = tmp_path / "out"
    out.mkdir()
    (out / "other.txt").write_text("kept")
    paths = write_mask(scan, mask, out)
    assert [path.name for path in paths] == [f"{folder.name}_{n}_mask.tif" for n in range(1, 12)]
    for plane, path in zip(mask, paths, strict=True):
        np.testing.assert_array_equal(np.array(Image.open(path)), plane * 255)
    assert sorted(path.name for path in out.iterdir()) == sorted([*(path.name for path in paths), "other.txt"])


def test_a_mask_off_the_grid_or_with_other_classes_is_refused(lgg_case: Writer, tmp_path: Path) -> None:
    scan = read(lgg_case(slices=2))
    with pytest.raises(ScanError, match=r"\(2, 12, 10\) uint8 is wanted"):
        write_mask(scan, np.zeros((2, 10, 12), np.uint8), tmp_path / "out")
    with pytest.raises(ScanError, match="has class 2"):
        write_mask(scan, np.full((2, 12, 10), 2, np.uint8), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_no_mask_behind(lgg_case: Writer, tmp_path: Path, files_of_at_most: FullDisk) -> None:
    scan = read(lgg_case(slices=4))
    out = tmp_path / "out"
    with files_of_at_most(64), pytest.raises(OutputError, match="cannot be written"):
        write_mask(scan, np.ones((4, 12, 10), np.uint8), out)
    assert list(out.iterdir()) == []


def synthetic(channels: tuple[str, ...] = ("t1", "flair", "t1ce"), case_id: str = "phantom_0001") -> Scan:
    random = np.random.default_rng(2)
    voxels = random.integers(0, 255, (11, 9, 8, len(channels)), dtype=np.uint8)
    truth = random.integers(0, 2, (11, 9, 8), dtype=np.uint8)
    return Scan(CaseFiles(case_id, case_id, "", "lgg", Path(), ()), channels, voxels, Geometry((5, 1, 1)), truth=truth)


def test_a_case_that_was_written_reads_back_the_same(tmp_path: Path) -> None:
    scan = synthetic()
    folder = write_case("lgg", scan, tmp_path)
    again = read(folder)
    assert (folder, again.case_id) == (tmp_path / "phantom_0001", "phantom_0001")
    np.testing.assert_array_equal(again.voxels, scan.voxels)
    np.testing.assert_array_equal(again.truth, scan.truth)


def test_channels_are_written_in_the_order_of_the_layout(tmp_path: Path) -> None:
    scan = synthetic(("flair", "t1ce", "t1"))
    again = read(write_case("lgg", scan, tmp_path))
    np.testing.assert_array_equal(again.voxels, scan.voxels[..., [2, 0, 1]])


def test_a_scan_that_the_layout_cannot_hold_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="the lgg layout holds t1, flair, t1ce as uint8"):
        write_case("lgg", synthetic(("t1", "flair", "t2")), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_case_is_not_written_over_another(tmp_path: Path) -> None:
    write_case("lgg", synthetic(), tmp_path)
    with pytest.raises(OutputError, match="already exists"):
        write_case("lgg", synthetic(), tmp_path)


def test_a_full_disk_leaves_no_case_behind(tmp_path: Path, files_of_at_most: FullDisk) -> None:
    with files_of_at_most(64), pytest.raises(OutputError):
        write_case("lgg", synthetic(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_real_set_is_found_whole(real_data: Callable[[str], Path]) -> None:
    cases = find_cases(real_data("kaggle_3m"))
    slices = [len(case.images) for case in cases]
    assert (len(cases), sum(slices), min(slices), max(slices)) == (78, 2871, 20, 88)
    assert {case.site for case in cases} == {"CS", "DU", "EZ", "FG", "HT"}


@pytest.mark.parametrize(
    ("case_id", "replaced"),
    [("TCGA_DU_7013_19860523", ("t1", "t1ce")), ("TCGA_DU_6407_19860514", ("t1ce",)), ("TCGA_HT_A61A_20000127", ())],
)
def test_replaced_sequences_of_real_cases(
    real_data: Callable[[str], Path], case_id: str, replaced: tuple[str, ...]
) -> None:
    folder = real_data("kaggle_3m") / case_id
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    scan = read(folder)
    assert scan.replaced == replaced
    assert scan.truth is not None
    with_tumour = np.flatnonzero(scan.truth.any(axis=(1, 2)))
    np.testing.assert_array_equal(with_tumour, np.arange(with_tumour[0], with_tumour[-1] + 1))
