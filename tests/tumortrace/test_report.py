"""Evaluation over cases: what is measured, summed up, and written."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumortrace.report import evaluate_cases, read_cases, summarise, write_report
from tumortrace.statistics import summarise_values
from tumortrace.strata import Strata
from tumortrace_runtime.errors import InputError, OutputError, ScanError
from tumortrace_runtime.io.scan import CaseFiles, Geometry, Scan

SPACING_MM = (4.0, 1.0, 1.0)


def scan_of(name, *, spacing_mm=SPACING_MM, with_truth=True):
    """A scan whose lesion is 8 px wide."""
    truth = np.zeros((4, 24, 24), np.uint8)
    truth[1:3, 8:16, 8:16] = 1
    voxels = np.random.default_rng(0).integers(0, 500, (4, 24, 24, 2), dtype=np.int16)
    files = CaseFiles(name, name, "", "nifti", Path(name), ())
    return Scan(files, ("t1", "flair"), voxels, Geometry(spacing_mm), truth=truth if with_truth else None)


def predict(scan):
    """The truth, moved to the right by as many px as the case's name says."""
    return np.roll(scan.truth, int(scan.case_id.removeprefix("moved-")), axis=2)


@pytest.fixture(scope="module")
def evaluated():
    return list(evaluate_cases((scan_of(f"moved-{shift}") for shift in (2, 0, 8, 4)), predict))


def test_cases_are_measured_in_the_order_given(evaluated):
    assert [case.metrics.case_id for case in evaluated] == ["moved-2", "moved-0", "moved-8", "moved-4"]
    assert [case.metrics.dice for case in evaluated] == [0.75, 1.0, 0.0, 0.5]
    assert {case.metrics.distance_unit for case in evaluated} == {"mm"}


def test_one_scan_is_held_at_a_time():
    opened = []

    def scans():
        for shift in range(3):
            opened.append(shift)
            yield scan_of(f"moved-{shift}")

    cases = evaluate_cases(scans(), predict)
    assert opened == []
    next(cases)
    assert opened == [0]


def test_the_summary_has_mean_median_and_interval(evaluated):
    summary = summarise([case.metrics for case in evaluated])

    dice = summary["metrics"]["dice"]
    assert (dice["mean"], dice["median"], dice["cases"], dice["not_applicable"]) == (0.5625, 0.625, 4, 0)
    low, high = dice["mean_interval"]
    assert 0.0 <= low < 0.5625 < high <= 1.0
    assert summary["cases"] == 4
    assert summary["metrics"].keys() >= {"hd95_mm", "surface_dice_2mm", "volume_error_ml", "sensitivity"}


def test_mm_and_px_are_never_averaged_together():
    scans = [scan_of("moved-1"), scan_of("moved-2", spacing_mm=None), scan_of("moved-3", spacing_mm=None)]
    metrics = summarise([case.metrics for case in evaluate_cases(scans, predict)])["metrics"]

    assert (metrics["hd95_mm"]["cases"], metrics["hd95_px"]["cases"], metrics["dice"]["cases"]) == (1, 2, 3)
    assert (metrics["volume_error_ml"]["cases"], metrics["volume_error_voxels"]["cases"]) == (1, 2)


def test_the_report_holds_table_summary_and_pictures(tmp_path, evaluated):
    summary = write_report(tmp_path / "report", evaluated, about={"split": "test"})

    written = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert written == [
        f"report/{name}"
        for name in ("cases.csv", "overlays/best.png", "overlays/median.png", "overlays/worst.png", "summary.json")
    ]
    assert json.loads((tmp_path / "report/summary.json").read_text()) == json.loads(json.dumps(summary))
    assert summary["overlays"] == {"best": "moved-0", "median": "moved-4", "worst": "moved-8"}
    assert summary["about"] == {"split": "test"}
    with (tmp_path / "report/cases.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["case_id"], float(row["dice"])) for row in rows] == [
        (case.metrics.case_id, case.metrics.dice) for case in evaluated
    ]


def test_what_is_not_applicable_is_an_empty_field_and_counted_apart(tmp_path):
    def none_found(scan):
        return np.zeros_like(scan.truth)

    scan = scan_of("moved-0")
    healthy = Scan(scan.files, scan.channels, scan.voxels, scan.geometry, truth=np.zeros_like(scan.truth))
    summary = write_report(tmp_path / "report", list(evaluate_cases([healthy, scan], none_found)))

    with (tmp_path / "report/cases.csv").open() as stream:
        assert [row["sensitivity"] for row in csv.DictReader(stream)] == ["", "0.0"]
    assert summary["metrics"]["sensitivity"]["mean"] == 0.0
    assert summary["metrics"]["sensitivity"]["not_applicable"] == 1
    assert summary["metrics"]["dice"]["mean"] == 0.5


def test_lesions_are_counted_over_all_cases(evaluated):
    summary = summarise([case.metrics for case in evaluated])

    assert summary["lesions"] == {"truth": 4, "found": 3, "false_positive": 1}
    assert summary["metrics"]["lesion_sensitivity"]["mean"] == 0.75
    assert summary["metrics"]["false_positive_lesions"]["mean"] == 0.25


def test_the_summary_has_dice_by_stratum(tmp_path, evaluated):
    strata = Strata({"site": {"CS": ("moved-0", "moved-8"), "DU": ("moved-2", "moved-4")}}, (100, 200))
    summary = write_report(tmp_path / "report", evaluated, strata=strata)["strata"]

    assert summary["tumour_size_limits_voxels"] == {"small": 100, "medium": 200}
    assert {label: (dice["mean"], dice["cases"]) for label, dice in summary["dice"]["site"].items()} == {
        "CS": (0.5, 2),
        "DU": (0.625, 2),
    }


def test_cases_read_back_as_they_were(tmp_path, evaluated):
    write_report(tmp_path / "report", evaluated)

    assert read_cases(tmp_path / "report") == [case.metrics for case in evaluated]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text.replace("lesion_sensitivity", "recall"), "not as this version writes it"),
        (lambda text: text.replace("0.75", "three quarters"), "not as this version writes it"),
        (lambda text: text.splitlines()[0], "holds no case"),
        (lambda text: text + text.splitlines()[1], "or one twice"),
    ],
)
def test_a_damaged_table_is_refused(tmp_path, evaluated, change, told):
    write_report(tmp_path / "report", evaluated)
    table = tmp_path / "report/cases.csv"
    table.write_text(change(table.read_text()))

    with pytest.raises(InputError, match=told):
        read_cases(tmp_path / "report")


def test_a_folder_without_a_table_is_named(tmp_path):
    with pytest.raises(InputError, match=r"cases.csv: cannot be read"):
        read_cases(tmp_path)


def test_a_scan_that_fails_half_way_leaves_nothing_behind(tmp_path):
    scans = [scan_of("moved-1"), scan_of("moved-2", with_truth=False)]

    with pytest.raises(ScanError, match="moved-2"):
        write_report(tmp_path / "report", evaluate_cases(scans, predict))
    assert list(tmp_path.iterdir()) == []


def test_equal_cases_give_equal_bytes(tmp_path, evaluated):
    for name in ("first", "second"):
        write_report(tmp_path / name, evaluated)

    assert (tmp_path / "first/summary.json").read_bytes() == (tmp_path / "second/summary.json").read_bytes()


def test_a_report_is_not_overwritten(tmp_path, evaluated):
    write_report(tmp_path / "report", evaluated)

    with pytest.raises(OutputError, match="already exists"):
        write_report(tmp_path / "report", evaluated)
    assert json.loads((tmp_path / "report/summary.json").read_text())["cases"] == len(evaluated)


def test_no_cases_leave_nothing_behind(tmp_path):
    with pytest.raises(InputError, match="no cases"):
        write_report(tmp_path / "report", [])
    assert list(tmp_path.iterdir()) == []


def test_a_scan_without_truth_is_named():
    with pytest.raises(ScanError, match="moved-1: has no truth mask"):
        list(evaluate_cases([scan_of("moved-1", with_truth=False)], predict))


def test_a_measure_that_never_applies_has_no_mean():
    summary = summarise_values([None, None])

    assert (summary.mean, summary.mean_interval, summary.cases, summary.not_applicable) == (None, None, 0, 2)


def test_one_case_has_no_interval():
    summary = summarise_values([0.7, None])

    assert (summary.mean, summary.median, summary.cases, summary.not_applicable) == (0.7, 0.7, 1, 1)
    assert (summary.mean_interval, summary.median_interval) == (None, None)


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says():
    random = np.random.default_rng(1)
    intervals = [summarise_values(random.normal(0.8, 0.1, 30).tolist()).mean_interval for _ in range(60)]

    assert sum(low <= 0.8 <= high for low, high in intervals) >= 50


@given(values=st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=1, max_size=12))
def test_intervals_stay_between_the_extremes(values):
    counted = [value for value in values if value is not None]
    summary = summarise_values(values)

    assert summary.cases + summary.not_applicable == len(values)
    if len(counted) > 1:
        for low, high in (summary.mean_interval, summary.median_interval):
            assert min(counted) - 1e-12 <= low <= high <= max(counted) + 1e-12
