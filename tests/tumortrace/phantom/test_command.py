"""`tumortrace phantom`: what lies in the folder afterwards, in both layouts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tumortrace.commands.phantom import command
from tumortrace.phantom import generate_case, write_phantom
from tumortrace_runtime.errors import OutputError
from tumortrace_runtime.io import find_cases, read_case

SEED = 7


def run(out: Path, *options: str) -> dict:
    arguments = ["-o", str(out), "--seed", str(SEED), "--size-px", "64", "--json", *options]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_lgg_layout_reads_back_as_it_was_made(tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    made = run(tmp_path / "data", "--cases", "2")
    cases = find_cases(tmp_path / "data", "lgg")
    by_id = {case["case_id"]: case for case in made["cases"]}
    assert set(by_id) == {files.case_id for files in cases}
    for number in (1, 2):
        wanted = generate_case(SEED, number, size_px=64)
        files = next(each for each in cases if each.case_id == wanted.case_id)
        scan = read_case(files)
        assert (files.patient_id, files.site) == (wanted.files.patient_id, wanted.files.site)
        np.testing.assert_array_equal(scan.voxels, wanted.voxels)
        np.testing.assert_array_equal(scan.truth, wanted.truth)
        assert scan.truth is not None
        assert sum(lesion["voxels"] for lesion in by_id[files.case_id]["lesions"]) == scan.truth.sum()


def test_nifti_layout_keeps_every_sequence_and_the_spacing(tmp_path: Path) -> None:
    pytest.importorskip("nibabel")
    write_phantom(tmp_path, "nifti", SEED, 4, size_px=64)
    wanted = generate_case(SEED, 4, size_px=64)
    scan = read_case(find_cases(tmp_path)[0])
    np.testing.assert_array_equal(scan.select(wanted.channels), wanted.voxels)
    np.testing.assert_array_equal(scan.truth, wanted.truth)
    assert scan.geometry.spacing_mm == pytest.approx(wanted.geometry.spacing_mm)
    assert scan.replaced == ()


def test_lgg_layout_has_flair_in_the_place_of_a_missing_sequence(tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    written = write_phantom(tmp_path, "lgg", SEED, 4, size_px=64)
    scan = read_case(find_cases(tmp_path)[0])
    assert written.scan.replaced == scan.replaced == ("t1ce",)


def test_refuses_a_folder_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    arguments = ["-o", str(tmp_path), "--seed", "0", "--cases", "1"]
    result = CliRunner().invoke(command, arguments)
    assert isinstance(result.exception, OutputError)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_says_in_a_line_what_it_made(tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    out = tmp_path / "data"
    result = CliRunner().invoke(command, ["-o", str(out), "--seed", "7", "--cases", "1", "--size-px", "32"])
    assert result.stdout == f"{out}: 1 cases, 0 of them without a tumour.\n"
