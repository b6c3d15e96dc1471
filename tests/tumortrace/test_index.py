from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from tumortrace.commands.prepare import command
from tumortrace.index import load_index, open_case, prepare, save_index, verify_case
from tumortrace_runtime.errors import DatasetError, ScanError
from tumortrace_runtime.files import sha256_file
from tumortrace_runtime.io import ChannelMapping, find_cases

NAMES = ("TCGA_CS_4942_19970222", "TCGA_DU_5849_19950405", "TCGA_HT_7884_19980913", "TCGA_HT_8111_19980330")


def write_lgg(folder: Path, slices: int = 3, tumour: int = 6, *, replaced: bool = False) -> Path:
    """A case of the public layout with `tumour` voxels in its second slice."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(sum(folder.name.encode()))
    for number in range(1, slices + 1):
        pixels = random.integers(0, 255, (8, 7, 3), dtype=np.uint8)
        if replaced:
            pixels[..., 2] = pixels[..., 1]
        mask = np.zeros((8, 7), np.uint8)
        mask.flat[: tumour if number == 2 else 0] = 255
        Image.fromarray(pixels).save(folder / f"{folder.name}_{number}.tif")
        Image.fromarray(mask).save(folder / f"{folder.name}_{number}_mask.tif")
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "kaggle_3m"
    for position, name in enumerate(NAMES):
        write_lgg(root / name, 3 + position, 6 * position, replaced=position == 2)
    (root / "data.csv").write_text("beside the cases")
    return root


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
    return path


def saved(data: Path) -> Path:
    path = data.parent / "index.json"
    save_index(prepare(data), path)
    return path


def test_every_case_is_recorded(data: Path) -> None:
    index = prepare(data)
    assert [case.case_id for case in index.cases] == list(NAMES)
    assert index.refused == ()
    first, third = index.cases[0], index.case(NAMES[2])
    assert (first.patient_id, first.site, first.layout) == ("TCGA_CS_4942", "CS", "lgg")
    assert (first.shape, first.spacing_mm, first.tumour_voxels, first.tumour_free) == ((3, 8, 7), None, 0, True)
    assert (third.channels, third.replaced) == (("t1", "flair", "t1ce"), ("t1ce",))
    assert (third.slices, third.tumour_voxels, third.tumour_free) == (5, 12, False)
    for record in (*third.images, *third.truth):
        path = data / record.path
        assert (record.size_bytes, record.sha256) == (path.stat().st_size, sha256_file(path))
    assert len(third.images) == len(third.truth) == 5


def test_a_single_case_folder_is_a_data_set(data: Path) -> None:
    index = prepare(data / NAMES[1])
    assert [case.folder for case in index.cases] == ["."]
    assert open_case(index, NAMES[1]).voxels.shape == (4, 8, 7, 3)


def break_gap(case: Path) -> None:
    (case / f"{case.name}_2.tif").unlink()


def break_mask(case: Path) -> None:
    (case / f"{case.name}_2_mask.tif").unlink()


def break_all_masks(case: Path) -> None:
    for path in case.glob("*_mask.tif"):
        path.unlink()


def break_size(case: Path) -> None:
    Image.new("RGB", (9, 9)).save(case / f"{case.name}_2.tif")


def break_file(case: Path) -> None:
    path = case / f"{case.name}_2.tif"
    path.write_bytes(path.read_bytes()[:100])


def break_images(case: Path) -> None:
    for path in set(case.iterdir()) - set(case.glob("*_mask.tif")):
        path.unlink()


def break_everything(case: Path) -> None:
    shutil.rmtree(case)
    case.mkdir()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (break_gap, "has no slice 2 between"),
        (break_mask, "has no mask of slice 2"),
        (break_all_masks, "has no mask of slice 1, 2, 3, 4"),
        (break_size, "is 9 x 9 pixels"),
        (break_file, "cannot be decoded"),
        (break_images, "holds no image of the lgg layout"),
        (break_everything, "holds no image of the lgg layout"),
    ],
)
@pytest.mark.filterwarnings("ignore:Truncated File Read")
def test_one_bad_case_is_refused_with_its_reason_and_the_rest_goes_on(
    data: Path, damage: Callable[[Path], None], reason: str
) -> None:
    damage(data / NAMES[1])
    index = prepare(data)
    assert [case.case_id for case in index.cases] == [NAMES[0], NAMES[2], NAMES[3]]
    (refusal,) = index.refused
    assert refusal.folder == str(data / NAMES[1])
    assert reason in refusal.reason
    assert NAMES[1] in refusal.reason


def test_nothing_to_prepare_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="holds no case"):
        prepare(tmp_path)


def test_an_index_reads_back_the_same(data: Path) -> None:
    (data / "empty").mkdir()
    index = prepare(data)
    save_index(index, data.parent / "index.json")
    again = load_index(data.parent / "index.json")
    assert again == index
    assert again.sha256 == index.sha256


def test_the_hash_is_of_the_cases_and_not_of_their_place(data: Path) -> None:
    before = prepare(data)
    moved = data.rename(data.with_name("moved"))
    (moved / "empty").mkdir()
    after = prepare(moved)
    assert (after.root, after.sha256) == (moved, before.sha256)
    path = moved / NAMES[0] / f"{NAMES[0]}_1.tif"
    Image.fromarray(np.array(Image.open(path)) ^ 1).save(path)
    assert prepare(moved).sha256 != before.sha256


def test_a_moved_data_set_is_opened_from_its_new_root(data: Path) -> None:
    path = saved(data)
    moved = data.rename(data.with_name("moved"))
    with pytest.raises(DatasetError, match=r"is gone\. If the data was moved"):
        open_case(load_index(path), NAMES[0])
    assert open_case(load_index(path, root=moved), NAMES[0]).case_id == NAMES[0]


def test_an_opened_case_is_what_the_reader_gives(data: Path) -> None:
    index = load_index(saved(data))
    scan = open_case(index, NAMES[3])
    assert scan.files == find_cases(data)[3]
    assert scan.truth is not None
    assert np.count_nonzero(scan.truth) == index.case(NAMES[3]).tumour_voxels
    assert open_case(index, NAMES[3], with_truth=False).truth is None


def test_a_file_of_another_size_is_noticed_when_the_case_is_opened(data: Path) -> None:
    index = prepare(data)
    Image.new("RGB", (7, 9)).save(data / NAMES[0] / f"{NAMES[0]}_1.tif")
    with pytest.raises(DatasetError, match=r"_1\.tif: was changed since the index was made"):
        open_case(index, NAMES[0])


def test_a_changed_byte_is_noticed_by_verify(data: Path) -> None:
    index = prepare(data)
    verify_case(index, NAMES[0])
    path = data / NAMES[0] / f"{NAMES[0]}_1_mask.tif"
    content = bytearray(path.read_bytes())
    content[-1] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"_1_mask\.tif: was changed"):
        verify_case(index, NAMES[0])


def test_an_unknown_case_is_refused(data: Path) -> None:
    with pytest.raises(DatasetError, match="TCGA_XX: is not in the index"):
        open_case(prepare(data), "TCGA_XX")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda value: value["cases"][0].update(tumour_voxels=7), "do not match its hash"),
        (lambda value: value["cases"].pop(), "do not match its hash"),
        (lambda value: value.update(sha256="0" * 64), "do not match its hash"),
        (lambda value: value.update(version=2), "of version 2; version 1 is wanted"),
        (lambda value: value.update(format="tumortrace-split"), "is not a tumortrace-index file"),
        (lambda value: value.pop("cases"), "is not a whole index"),
        (lambda value: value.pop("root"), "is not a whole index"),
        (lambda value: value.pop("sha256"), "is not a whole index"),
    ],
)
def test_an_altered_index_is_refused(data: Path, change: Callable[[dict[str, Any]], object], reason: str) -> None:
    path = edit(saved(data), change)
    with pytest.raises(DatasetError) as caught:
        load_index(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert reason in str(caught.value)


@pytest.mark.parametrize("content", ["", "[]", "null", '{"cases"'])
def test_a_file_that_is_no_index_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "index.json").write_text(content)
    with pytest.raises(DatasetError):
        load_index(tmp_path / "index.json")


def write_nifti(folder: Path, names: tuple[str, ...]) -> None:
    folder.mkdir(parents=True)
    for seed, name in enumerate(names):
        data = np.random.default_rng(seed).integers(0, 2, (4, 5, 6), dtype=np.uint8)
        nib.Nifti1Image(data, np.diag((-1, -1, 2, 1))).to_filename(folder / name)


def test_the_mapping_is_kept_in_the_index(tmp_path: Path) -> None:
    mapping = ChannelMapping({"t1ce": "T1c.nii", "flair": "Flair.nii"}, "OT.nii", {0: 0, 1: 1})
    write_nifti(tmp_path / "data" / "pat1", ("Flair.nii", "T1c.nii", "OT.nii"))
    write_nifti(tmp_path / "data" / "pat2", ("Flair.nii", "OT.nii"))
    index = prepare(tmp_path / "data", mapping=mapping)
    assert [(case.case_id, case.channels, case.spacing_mm) for case in index.cases] == [
        ("pat1", ("flair", "t1ce"), (2.0, 1.0, 1.0))
    ]
    assert "no file T1c.nii for the channel t1ce" in index.refused[0].reason
    save_index(index, tmp_path / "index.json")
    assert open_case(load_index(tmp_path / "index.json"), "pat1").channels == ("flair", "t1ce")
    assert open_case(load_index(tmp_path / "index.json"), "pat1", channels=("flair",)).channels == ("flair",)


def test_a_channel_that_appears_after_prepare_does_not_change_the_case(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "case"
    write_nifti(folder, ("case_flair.nii", "case_seg.nii"))
    index = prepare(tmp_path / "data")
    shutil.copy(folder / "case_flair.nii", folder / "case_t2.nii")
    assert open_case(index, "case").channels == ("flair",)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def test_the_command_prints_a_summary(data: Path) -> None:
    result = run(data, "-o", data.parent / "index.json")
    assert result.exit_code == 0
    for line in (
        "4 cases of 4 patients, 18 slices",
        "sites: CS 1, DU 1, HT 2",
        "tumour-free cases: 1",
        "replaced by FLAIR: 1",
        f"  {NAMES[2]}: t1ce",
        "refused: 0",
    ):
        assert line in result.stdout
    assert len(load_index(data.parent / "index.json").cases) == 4


def test_the_command_names_what_it_refused_and_ends_with_5(data: Path) -> None:
    break_gap(data / NAMES[1])
    (data / "empty").mkdir()
    result = run(data, "-o", data.parent / "index.json", "--json")
    assert result.exit_code == 5
    assert "has no slice 2 between" in result.stderr
    assert f"Refused: {data / 'empty'}: holds no image" in result.stderr
    summary = json.loads(result.stdout)
    assert (summary["cases"], summary["slices"], len(summary["refused"])) == (3, 14, 2)
    assert summary["sha256"] == load_index(data.parent / "index.json").sha256


def test_the_command_writes_nothing_when_all_are_refused(data: Path) -> None:
    for name in NAMES:
        break_gap(data / name)
    result = run(data, "-o", data.parent / "index.json")
    assert isinstance(result.exception, DatasetError)
    assert "all 4 cases were refused" in str(result.exception)
    assert result.stderr.count("has no slice 2 between") == 4
    assert not (data.parent / "index.json").exists()


def test_the_real_set(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    root = real_data("kaggle_3m")
    few = tmp_path / "few"
    few.mkdir()
    for name in ("TCGA_CS_4942_19970222", "TCGA_DU_6407_19860514", "TCGA_HT_A616_19991226"):
        (few / name).symlink_to(root / name)
    index = prepare(few)
    assert index.refused == ()
    assert {case.patient_id: case.replaced for case in index.cases} == {
        "TCGA_CS_4942": (),
        "TCGA_DU_6407": ("t1ce",),
        "TCGA_HT_A616": ("t1", "t1ce"),
    }
    assert all(case.tumour_voxels > 0 for case in index.cases)
