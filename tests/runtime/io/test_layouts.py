from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from tumortrace_runtime.errors import ScanError
from tumortrace_runtime.io import ChannelMapping, find_cases

Writer = Callable[..., Path]


def nifti_case(folder: Path, channel: str = "flair") -> Path:
    folder.mkdir(parents=True)
    nib.Nifti1Image(np.zeros((3, 3, 3), np.uint8), np.eye(4)).to_filename(folder / f"{folder.name}_{channel}.nii.gz")
    return folder


def test_a_folder_of_cases_is_found_in_the_order_of_names(lgg_case: Writer) -> None:
    names = ["TCGA_HT_7884_19980913", "TCGA_CS_4942_19970222", "TCGA_DU_5849_19950405"]
    root = {lgg_case(name, 2).parent for name in names}.pop()
    (root / "README.md").write_text("beside the cases")
    assert [case.case_id for case in find_cases(root)] == sorted(names)


def test_a_case_folder_is_found_as_itself(lgg_case: Writer) -> None:
    folder = lgg_case(slices=11)
    (case,) = find_cases(folder)
    assert (case.folder, case.layout) == (folder, "lgg")
    assert [path.stem.rsplit("_", 1)[1] for path in case.images] == [str(number) for number in range(1, 12)]


def test_a_case_folder_given_by_a_relative_path_has_its_own_name(
    lgg_case: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = lgg_case(slices=2)
    monkeypatch.chdir(folder)
    assert find_cases(Path())[0].case_id == folder.name


def test_nifti_cases_are_known_by_their_files(tmp_path: Path) -> None:
    folder = nifti_case(tmp_path / "BraTS2021_00006")
    assert [case.layout for case in find_cases(tmp_path)] == ["nifti"]
    assert [case.case_id for case in find_cases(folder)] == ["BraTS2021_00006"]


def test_a_case_folder_that_may_not_be_read_is_told_and_stops_no_other(
    lgg_case: Writer, run_as_anybody: Callable[[str], str]
) -> None:
    root = lgg_case("TCGA_HT_7884_19980913", 2).parent
    closed = root / "TCGA_CS_4942_19970222"
    closed.mkdir()
    closed.chmod(0)
    program = f"""
from pathlib import Path
from tumortrace_runtime.io import find_cases, without_case
root = Path({str(root)!r})
print([files.case_id for files in find_cases(root)], *without_case(root, find_cases(root))[0])
"""
    said = run_as_anybody(program)
    closed.chmod(0o700)
    assert said == f"['TCGA_HT_7884_19980913'] {closed} cannot be read (Permission denied).\n"


def test_a_mapping_means_nifti(tmp_path: Path) -> None:
    nifti_case(tmp_path / "a", "anything")
    (case,) = find_cases(tmp_path, mapping=ChannelMapping({"flair": "*_anything.nii.gz"}))
    assert case.layout == "nifti"


@pytest.mark.parametrize("content", [[], ["notes.txt"], ["image_1.png"], ["TCGA_CS_4942_19970222_1_mask.tif"]])
def test_a_folder_without_cases_is_refused_with_what_was_wanted(tmp_path: Path, content: list[str]) -> None:
    for name in content:
        (tmp_path / name).touch()
    with pytest.raises(ScanError) as caught:
        find_cases(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}: holds no case")
    assert "NAME_<n>.tif (lgg) or *_flair.nii.gz" in str(caught.value)


def test_a_folder_with_cases_of_two_layouts_is_refused_until_one_is_named(lgg_case: Writer) -> None:
    root = lgg_case(slices=2).parent
    nifti_case(root / "BraTS2021_00006")
    with pytest.raises(ScanError, match=r"several layouts \(lgg, nifti\)"):
        find_cases(root)
    assert [case.case_id for case in find_cases(root, "nifti")] == ["BraTS2021_00006"]


def test_loose_images_beside_case_folders_are_refused(lgg_case: Writer) -> None:
    root = lgg_case(slices=2).parent
    Image.new("RGB", (4, 4)).save(root / "stray_1.tif")
    with pytest.raises(ScanError, match="holds images of its own and case folders"):
        find_cases(root)


def test_a_place_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="does not exist; a folder of scans is wanted"):
        find_cases(tmp_path / "missing")
    (tmp_path / "file").touch()
    with pytest.raises(ScanError, match="is a file; a folder of scans is wanted"):
        find_cases(tmp_path / "file")


def test_an_unknown_layout_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="no layout 'dicm'; choose one of lgg, nifti, dicom"):
        find_cases(tmp_path, "dicm")


def test_the_lgg_layout_takes_no_mapping(lgg_case: Writer) -> None:
    with pytest.raises(ScanError, match="takes no mapping"):
        find_cases(lgg_case(slices=2), "lgg", ChannelMapping({"flair": "x.nii"}))


def test_hidden_folders_and_files_are_no_cases(lgg_case: Writer) -> None:
    folder = lgg_case(slices=2)
    (folder / f".{folder.name}_9.tif").touch()
    (folder / f"._{folder.name}_9.tif").touch()
    lgg_case(".partial-case", 2)
    (case,) = find_cases(folder.parent)
    assert len(case.images) == 2


def test_finding_cases_loads_no_decoder(lgg_case: Writer) -> None:
    root = lgg_case(slices=2).parent
    program = (
        "import sys; from pathlib import Path; from tumortrace_runtime.io import find_cases;"
        f"assert len(find_cases(Path({str(root)!r}))) == 1;"
        "print(sorted({'PIL', 'nibabel', 'pydicom', 'torch'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
