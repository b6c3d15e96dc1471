"""Studies are found in folders, by a DICOMDIR, and in single files."""

from __future__ import annotations

import gzip
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.fileset import FileSet

from tumortrace.phantom.dicom import DicomForm
from tumortrace_runtime.errors import ScanError
from tumortrace_runtime.io import find_cases, read_case


def a_dicomdir(study: Any, tmp_path: Path) -> Path:
    """A medium with a flair series, as pydicom writes it."""
    medium = FileSet()
    for path in study.write().iterdir():
        medium.add(path)
    medium.write(tmp_path / "medium")
    return tmp_path / "medium" / "DICOMDIR"


def test_files_are_found_in_folders_of_folders_whatever_their_names(study: Any) -> None:
    folder = study.write()
    deep = study.root / "a" / "b" / "c"
    deep.mkdir(parents=True)
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename((deep if number % 2 else folder) / f"IM{number}")
    (study.root / "README.txt").write_text("no image")
    (study.root / "empty.txt").touch()
    (study.root / ".hidden").write_text("no image either")
    (files,) = find_cases(study.root)
    assert files.layout == "dicom"
    assert len(files.images) == 6
    np.testing.assert_array_equal(study.read().voxels[..., 0], study.voxels())


def test_a_folder_with_several_studies_has_a_case_for_each(study: Any) -> None:
    study.write("t1", number=1)
    for name in ("second", "third"):
        shutil.copytree(study.root / "1-t1", study.root / name)
        study.edit(lambda image, n=name: setattr(image, "StudyInstanceUID", f"1.2.{len(n)}"), folder=study.root / name)
    cases = find_cases(study.root)
    assert len({files.case_id for files in cases}) == len(cases) == 3
    assert [files.case_id for files in cases] == sorted(files.case_id for files in cases)
    for files in cases:
        np.testing.assert_array_equal(read_case(files, with_truth=False).voxels[..., 0], study.voxels())


def test_a_dicomdir_leads_to_its_files(study: Any, tmp_path: Path) -> None:
    path = a_dicomdir(study, tmp_path)
    for root in (path, path.parent):
        (files,) = find_cases(root)
        assert len(files.images) == 6
        np.testing.assert_array_equal(read_case(files, with_truth=False).voxels[..., 0], study.voxels())


def test_a_dicomdir_on_a_medium_copied_in_small_letters_leads_to_its_files(study: Any, tmp_path: Path) -> None:
    path = a_dicomdir(study, tmp_path)
    for entry in sorted(path.parent.rglob("*"), key=lambda entry: -len(entry.parts)):
        if entry != path:
            entry.rename(entry.with_name(entry.name.lower()))
    assert len(find_cases(path)[0].images) == 6


def test_a_dicomdir_that_names_what_is_not_there_is_refused(study: Any, tmp_path: Path) -> None:
    path = a_dicomdir(study, tmp_path)
    lost = next(each for each in path.parent.rglob("*") if each.is_file() and each != path)
    lost.unlink()
    with pytest.raises(ScanError, match="which is not there; copy the medium whole"):
        find_cases(path)
    (files,) = find_cases(path.parent)
    with pytest.raises(ScanError, match=f"{re.escape(str(lost))}: is named by a link or a DICOMDIR, and not there"):
        read_case(files, with_truth=False)
    lost.touch()
    with pytest.raises(ScanError, match=f"{re.escape(str(lost))}: is empty; copy the file again"):
        read_case(find_cases(path.parent)[0], with_truth=False)


def test_a_dicomdir_of_another_folder_stops_nothing(study: Any, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    a_dicomdir(study, tmp_path / "elsewhere").rename(study.root / "DICOMDIR")
    assert study.read().channels == ("flair",)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("components", "reason"),
    [
        (["..", "study", "1-flair", "0001.dcm"], "names a file outside its folder"),
        (["A" * 300], "cannot be read (File name too long)"),
        (["A\0B"], "names a file outside its folder"),
    ],
)
def test_a_dicomdir_that_leads_where_no_medium_does_is_refused(
    study: Any, tmp_path: Path, components: list[str], reason: str
) -> None:
    path = a_dicomdir(study, tmp_path)
    directory = pydicom.dcmread(path)
    record = next(each for each in directory.DirectoryRecordSequence if "ReferencedFileID" in each)
    record.ReferencedFileID = components
    directory.save_as(path)
    with pytest.raises(ScanError, match=re.escape(reason)):
        find_cases(path)
    (files,) = find_cases(path.parent)
    assert len(files.images) == 6


def test_what_cannot_be_read_stops_the_studies_in_its_folder_alone(study: Any) -> None:
    for place, number in (("one/flair", 1), ("two/flair", 2)):
        shutil.move(study.write(number=1), study.root / place)
        study.edit(lambda image, n=number: setattr(image, "StudyInstanceUID", f"1.2.{n}"), folder=study.root / place)
    broken, lost = study.root / "one" / "flair" / "0007.dcm", study.root / "lost" / "0001.dcm"
    lost.parent.mkdir()
    for path in (broken, lost):
        path.write_bytes(bytes(128) + b"DICM" + b"\2\0")
    said, read = {}, []
    for files in find_cases(study.root):
        try:
            read.append(read_case(files, with_truth=False))
        except ScanError as problem:
            said[files.case_id] = str(problem)
    (scan,) = read
    assert {path.parent.parent.name for path in scan.files.images} == {"two"}
    assert len(said) == 2
    for path, folder in ((broken, "one/flair"), (lost, "lost")):
        (case_id,) = (case_id for case_id, text in said.items() if str(path) in text)
        assert said[case_id].startswith(f"{study.root / folder} ({case_id}): {path}: ")


def without_preamble(content: bytes) -> bytes:
    return content[132:]


def without_meta(content: bytes) -> bytes:
    return content[content.index(b"\x08\0\x08\0CS") :]


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("0006.dcm", lambda content: b""),
        ("0006.dcm", lambda content: content[:131]),
        ("0006.dcm", lambda content: b"no DICOM at all" * 20),
        ("IM6", lambda content: b""),
        ("IM6", lambda content: content[:131]),
        ("1.2.6", lambda content: b""),
        ("IM6", without_preamble),
        ("IM6", without_meta),
        ("IM6", lambda content: b"\xff" * 512 + content[512:]),
        ("IM6", lambda content: b"words" + content[5:100]),
        (".IM6.Gh3kLm", lambda content: content),
        (".IM6.icloud", lambda content: b"bplist00" + bytes(150)),
        ("IM6.gz", gzip.compress),
        ("IM6.part", lambda content: content[:100]),
        ("1a2b3c46-beef-4a7b-8c9d-0123456789ab", lambda content: b""),
        ("3F25040E6", lambda content: b""),
        (".rsync-partial/IM6", lambda content: content),
        (".~tmp~/0006.dcm", lambda content: content),
        ("0006.tif", lambda content: content),
        ("0006.tif", lambda content: b""),
        ("0006", lambda content: b""),
        ("0006.dcm.gz", gzip.compress),
        ("0006.dcm.part", lambda content: content[:100]),
        (".0006.dcm.x1y2", lambda content: content),
    ],
)
def test_no_file_that_may_be_a_slice_is_left_out_without_a_word(study: Any, name: str, harm: Any) -> None:
    folder = study.write()
    last = folder / "0006.dcm"
    content = last.read_bytes()
    last.unlink()
    if ".dcm" not in name and "0006" not in name:
        for number, path in enumerate(sorted(folder.iterdir())):
            path.rename(folder / re.sub(r".*(IM6).*", r"\1", name).replace("6", str(number), 1))
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(harm(content))
    (files,) = find_cases(study.root, "dicom")
    assert len(files.images) == 6
    if name.endswith(".tif") and harm(content):
        np.testing.assert_array_equal(read_case(files, with_truth=False).voxels[..., 0], study.voxels())
    else:
        with pytest.raises(
            ScanError, match=f"{re.escape(str(folder / name))}: (is empty|is hidden|does not begin as DICOM)"
        ):
            read_case(files, with_truth=False)


@pytest.mark.parametrize("suffix", [".dcm", ""])
def test_what_is_no_image_is_left_alone(study: Any, suffix: str) -> None:
    folder = study.write()
    if suffix == "":
        for path in folder.iterdir():
            path.rename(path.with_suffix(""))
    documents = ("notes.txt", "README", "README.1ST", "MD5SUMS", "sums.md5", "a1.mp4", "export.log.1")
    sidecars = ("x1.json", "0001.json", "0001.dcm.json", "0001.dcm.md5", "report-2024.pdf")
    of_systems = ("._0001", "._0001.dcm", ".hidden1", ".DS_Store", "Thumbs.db", "$IA1B2C3.pdf")
    for name in (*documents, *sidecars, *of_systems):
        (folder / name).write_bytes(b"\2\0\0\0\0\0\0\0 of another kind")
    for name in (
        "DONE",
        "_SUCCESS",
        "empty.txt",
        ".nothing1",
        "DONE_20240131",
        "export-2024.done",
        "20240131.done",
        "0001.ok",
    ):
        (folder / name).touch()
    os.mkfifo(folder / "0007")
    (study.root / "__MACOSX" / folder.name).mkdir(parents=True)
    (study.root / "__MACOSX" / folder.name / "._0001.dcm").write_bytes(b"words")
    (study.root / "lost+found").mkdir()
    (study.root / "PREVIEW").mkdir()
    for name in ("0001", "0001.db"):
        (study.root / "PREVIEW" / name).write_bytes(b"\xff\xd8\xff\xe0 a picture")
    viewer = study.root / "VIEWER"
    (viewer / "logs").mkdir(parents=True)
    for name in ("run64", "viewer.exe", "libviewer.so.1", "Leadtools.Dicom.dll"):
        (viewer / name).write_bytes(bytes(200))
    (files,) = find_cases(study.root)
    assert len(files.images) == 6


@pytest.mark.parametrize(
    "names",
    [["1.gz", "2.gz"], ["done"], [], ["1.IMA", "2.IMA"], ["1", "2"], [".hidden"], ["Thumbs.db"], ["1", ".DS_Store"]],
)
@pytest.mark.parametrize("suffix", [".dcm", ""])
def test_a_folder_in_which_nothing_is_read_is_told_beside_studies(study: Any, names: list[str], suffix: str) -> None:
    for path in study.write().iterdir():
        path.rename(path.with_suffix(suffix))
    empty = study.root / "2-t1"
    empty.mkdir()
    for name in names:
        (empty / name).touch()
    said = []
    for files in find_cases(study.root):
        try:
            assert read_case(files, with_truth=False).channels == ("flair",)
        except ScanError as problem:
            said.append(str(problem))
    (text,) = said
    assert text.endswith("has no file with anything in it; copy it again, or remove it.")
    assert str(empty) in text


def test_a_series_of_which_only_a_broken_link_is_there_is_told(study: Any) -> None:
    study.write()
    (study.root / "t1").symlink_to("nowhere")
    said = []
    for files in find_cases(study.root):
        try:
            read_case(files, with_truth=False)
        except ScanError as problem:
            said.append(str(problem))
    assert len(said) == 1
    assert f"{study.root / 't1'}: is named by a link or a DICOMDIR, and not there" in said[0]


def test_a_folder_of_links_is_not_empty(study: Any) -> None:
    folder = study.write()
    (study.root / "links").mkdir()
    for path in folder.iterdir():
        (study.root / "links" / path.name).symlink_to(path)
    assert study.read().channels == ("flair",)


def test_a_folder_whose_slices_are_all_damaged_is_told(study: Any) -> None:
    for number in (1, 2):
        for path in study.write(number=number).iterdir():
            path.rename(path.with_suffix(""))
    for path in (study.root / "2-flair").iterdir():
        path.write_bytes(b"\xff" * 1000)
    (study.root / "2-flair" / "series.json").write_text("{}")
    (study.root / "2-flair" / ".DS_Store").write_text("of a system")
    assert [files.case_id[:6] for files in find_cases(study.root)] == ["study-", "unread"]


def test_files_named_as_those_of_other_layouts_are_found_to_be_dicom(study: Any) -> None:
    for path in study.write().iterdir():
        path.rename(path.with_suffix(".tif"))
    (files,) = find_cases(study.root)
    assert files.layout == "dicom"


def test_a_cut_file_that_says_it_is_a_dicomdir_is_not_left_out(study: Any) -> None:
    path = sorted(study.write().iterdir())[5]
    image = pydicom.dcmread(path)
    image.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    pydicom.dcmwrite(path, image)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"\x20\0\x0d\0UI")])
    assert "0006.dcm: StudyInstanceUID is missing" in study.refusal()


def test_a_link_to_a_slice_of_the_study_is_no_other(study: Any) -> None:
    folder = study.write()
    (folder / "0000.dcm").symlink_to(folder / "0003.dcm")
    (files,) = find_cases(study.root)
    assert folder / "0003.dcm" in files.images
    np.testing.assert_array_equal(study.read().voxels[..., 0], study.voxels())


def test_a_link_leads_to_its_folder_once_and_one_to_nothing_is_told(study: Any, tmp_path: Path) -> None:
    study.write().rename(tmp_path / "elsewhere")
    (study.root / "link").symlink_to(tmp_path / "elsewhere")
    (study.root / "again").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(study.root)
    np.testing.assert_array_equal(study.read().voxels[..., 0], study.voxels())
    (tmp_path / "elsewhere" / "0007.dcm").symlink_to("nowhere")
    assert "0007.dcm: is named by a link or a DICOMDIR, and not there; copy the folder whole." in study.refusal()


@pytest.mark.parametrize("closed", ["one/flair/0003.dcm", "one/flair/notes.txt", "closed", "closed/flair"])
def test_what_may_not_be_read_stops_the_studies_beside_it_alone(
    study: Any, closed: str, run_as_anybody: Callable[[str], str]
) -> None:
    for place, number in (("one/flair", 1), ("two/flair", 2)):
        shutil.move(study.write(number=1), study.root / place)
        study.edit(lambda image, n=number: setattr(image, "StudyInstanceUID", f"1.2.{n}"), folder=study.root / place)
    path = study.root / closed
    if "closed" in closed:
        path.mkdir(parents=True)
    else:
        path.touch()
    path.chmod(0)
    program = f"""
from pathlib import Path
from tumortrace_runtime.errors import ScanError
from tumortrace_runtime.io import find_cases, read_case
for files in find_cases(Path({str(study.root)!r})):
    try:
        print("read", read_case(files, with_truth=False).voxels.shape)
    except ScanError as problem:
        print(problem)
"""
    lines = run_as_anybody(program).splitlines()
    path.chmod(0o700)
    assert lines.count("read (6, 7, 8, 1)") == (1 if closed.startswith("one") else 2)
    assert sum(f"{path}: cannot be read (Permission denied)." in line for line in lines) == 1


def test_what_may_not_be_read_is_told_where_nothing_else_is(
    tmp_path: Path, run_as_anybody: Callable[[str], str]
) -> None:
    program = f"""
from pathlib import Path
from tumortrace_runtime.errors import ScanError
from tumortrace_runtime.io import find_cases
try:
    find_cases(Path({str(tmp_path)!r}))
except ScanError as problem:
    print(problem)
"""
    (tmp_path / "0001.dcm").touch(0)
    assert run_as_anybody(program) == f"{tmp_path / '0001.dcm'}: cannot be read (Permission denied).\n"


def test_an_image_that_its_file_calls_a_dicomdir_is_an_image(study: Any) -> None:
    def claim(image: Any) -> None:
        image.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"

    study.write()
    for path in sorted(study.root.rglob("*.dcm"))[3:]:
        image = pydicom.dcmread(path)
        claim(image)
        pydicom.dcmwrite(path, image)
    assert len(find_cases(study.root)[0].images) == 6


def test_a_file_that_still_tells_its_study_stops_that_one_alone(study: Any) -> None:
    """In one folder with all, cut behind that."""
    for number in (1, 2):
        for path in study.write(number=1).iterdir():
            path.rename(study.root / f"{number}-{path.name}")
        (study.root / "1-flair").rmdir()
    for path in study.root.glob("2-*"):
        image = pydicom.dcmread(path)
        image.StudyInstanceUID = "1.2.3"
        image.save_as(path)
    cut = study.root / "1-0002.dcm"
    content = cut.read_bytes()
    cut.write_bytes(content[: content.index(b"\x28\x00\x10\x00US")])
    said, read = [], []
    for files in find_cases(study.root):
        try:
            read.append(read_case(files, with_truth=False))
        except ScanError as problem:
            said.append(str(problem))
    assert [{path.name[0] for path in scan.files.images} for scan in read] == [{"2"}]
    (text,) = said
    assert str(cut) in text


def test_files_that_change_after_they_were_found_are_refused(study: Any) -> None:
    """As where a study is still being received: what could not be read then may be of another study."""
    whole = {}
    for number in (1, 2):
        for path in study.write(number=number).iterdir():
            path.rename(study.root / f"{number}-{path.name}")
            whole[study.root / f"{number}-{path.name}"] = path
        (study.root / f"{number}-flair").rmdir()
    for path in study.root.glob("2-*"):
        image = pydicom.dcmread(path)
        image.StudyInstanceUID = "1.2.3"
        image.save_as(path)
        whole[path] = path.read_bytes()
        path.write_bytes(bytes(128) + b"DICM")
    (files,) = find_cases(study.root)
    for path in study.root.glob("2-*"):
        path.write_bytes(whole[path])
    with pytest.raises(ScanError, match="are of several studies, or became so"):
        read_case(files, with_truth=False)


def test_a_file_that_told_no_study_is_not_read_under_a_name_of_its_own(study: Any) -> None:
    folder = study.write()
    whole = {path: path.read_bytes() for path in folder.iterdir()}
    for path in whole:
        path.write_bytes(bytes(128) + b"DICM")
    (files,) = find_cases(study.root)
    for path, content in whole.items():
        path.write_bytes(content)
    with pytest.raises(ScanError, match="have changed since it was found"):
        read_case(files, with_truth=False)


def test_a_folder_named_as_a_study_is_not_that_study(study: Any) -> None:
    study.write()
    study.edit(lambda image: setattr(image, "StudyInstanceUID", "1.2.3"))
    (study.root / "1.2.3").mkdir()
    (study.root / "1.2.3" / "lost.dcm").write_bytes(bytes(128) + b"DICM")
    assert sorted(len(files.images) for files in find_cases(study.root)) == [1, 6]


@pytest.mark.parametrize("enhanced", [False, True])
def test_a_single_file_is_a_case(study: Any, enhanced: bool) -> None:
    path = sorted(study.write(form=DicomForm(enhanced)).iterdir())[0]
    (files,) = find_cases(path)
    wanted = study.voxels() if enhanced else study.voxels()[:1]
    np.testing.assert_array_equal(read_case(files, with_truth=False).voxels[..., 0], wanted)


def test_reading_leaves_other_series_alone(study: Any) -> None:
    study.write("flair", number=1)
    folder = study.write("t1", number=2)
    study.edit(lambda image: image.pop("ImagePositionPatient"), folder=folder)
    assert study.read(["flair"]).channels == ("flair",)
