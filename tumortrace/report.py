"""How good a predictor is, case by case and over all cases, as files: `cases.csv`, `summary.json` and pictures.

evaluated = evaluate_cases(scans, predict)
write_report(Path("evaluation"), evaluated, strata=assign_strata(names, index))
"""

from __future__ import annotations

import csv
import dataclasses
import shutil
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tumortrace.statistics import BOOTSTRAP_RESAMPLES, BOOTSTRAP_SEED, summarise_values
from tumortrace.strata import Strata, summarise_strata
from tumortrace_runtime.errors import InputError, ScanError
from tumortrace_runtime.files import atomic_directory, write_json
from tumortrace_runtime.io.scan import Scan
from tumortrace_runtime.metrics import DEFAULT_TOLERANCE, CaseMetrics, measure_case
from tumortrace_runtime.overlay import draw_montage
from tumortrace_runtime.png import encode_png
from tumortrace_runtime.preprocess import reference_number

Predict = Callable[[Scan], npt.NDArray[np.uint8]]

CASES = "cases.csv"
SUMMARY = "summary.json"

_UNITLESS = (
    "dice",
    "jaccard",
    "sensitivity",
    "specificity",
    "accuracy",
    "precision",
    "lesion_sensitivity",
    "false_positive_lesions",
)


@dataclass(frozen=True)
class EvaluatedCase:
    """What is kept of a case once its scan is let go.

    Attributes:
        metrics: all measures.
        overlay_png: up to six slices with the outlines of truth and prediction, as PNG.
    """

    metrics: CaseMetrics
    overlay_png: bytes


def evaluate_cases(
    scans: Iterable[Scan], predict: Predict, tolerance: float = DEFAULT_TOLERANCE
) -> Iterator[EvaluatedCase]:
    """Predict and measure one scan after another, holding one at a time.

    Args:
        scans: with truth, read as they are asked for.
        predict: a scan to its mask, (slices, rows, columns) on the scan's own grid.
        tolerance: of surface Dice, in mm, or in px where the spacing is not known.

    Raises:
        ScanError: a scan has no truth.
        InputError: the prediction is on another grid.
    """
    for scan in scans:
        if scan.truth is None:
            raise ScanError(f"{scan.files.folder}: has no truth mask to evaluate against.")
        yield evaluate_case(scan, predict(scan), scan.truth, tolerance)


def evaluate_case(
    scan: Scan, prediction: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8], tolerance: float = DEFAULT_TOLERANCE
) -> EvaluatedCase:
    """Measure one prediction against the truth, both (slices, rows, columns), and draw them.

    Raises:
        InputError: the masks are on different grids.
    """
    metrics = measure_case(scan.case_id, prediction, truth, scan.geometry.spacing_mm, tolerance)
    channel = reference_number(scan.channels)
    caption = f"{scan.case_id}  {scan.channels[channel]}  Dice {metrics.dice:.3f}"
    picture = draw_montage(scan.voxels[..., channel], prediction, truth, caption)
    return EvaluatedCase(metrics, encode_png(picture))


def summarise(cases: Sequence[CaseMetrics], strata: Strata | None = None) -> dict[str, Any]:
    """Mean, median and 95 % bootstrap intervals of every measure over cases, and of Dice over the cases of a stratum.

    Args:
        cases: at least one.
        strata: of the cases, or None to leave them out.

    Returns:
        `cases`, how many there are; `bootstrap`, its resamples and seed; `metrics`, by name the fields of
        `tumortrace.statistics.Summary`; `lesions`, those of all cases together: `truth`, `found`, `false_positive`.
        With strata, `strata`: `dice` by group and label, and `tumour_size_limits_voxels`. A measure with a unit has
        the unit in its name ("hd95_mm", "surface_dice_2px", "volume_error_ml"), so that cases with and without known
        spacing are never averaged together.

    Raises:
        InputError: there are no cases.
    """
    if not cases:
        raise InputError("evaluation: no cases given; at least one wanted.")
    by_name: dict[str, list[float | None]] = {}
    for case in cases:
        for name, value in _measures(case).items():
            by_name.setdefault(name, []).append(value)
    summary = {
        "cases": len(cases),
        "bootstrap": {"resamples": BOOTSTRAP_RESAMPLES, "seed": BOOTSTRAP_SEED},
        "metrics": {name: dataclasses.asdict(summarise_values(values)) for name, values in by_name.items()},
        "lesions": {
            "truth": sum(case.truth_lesions for case in cases),
            "found": sum(case.found_lesions for case in cases),
            "false_positive": sum(case.false_positive_lesions for case in cases),
        },
    }
    return summary if strata is None else summary | {"strata": _stratify(cases, strata)}


def write_report(
    out: Path,
    evaluated: Iterable[EvaluatedCase],
    *,
    strata: Strata | None = None,
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write folder `out`, whole or not at all, and return its summary.

    It holds `cases.csv` (a row per case, in the order given; an empty field is "not applicable"), `summary.json`, and
    `overlays/` with the cases of the highest, the median (of an even number, the lower) and the lowest Dice.

    Args:
        out: folder to make.
        evaluated: at least one case, such as `evaluate_cases` yields; one is held at a time.
        strata: of the cases, or None to leave them out.
        about: what was evaluated on what, for `summary.json`.

    Raises:
        InputError: there are no cases.
        OutputError: `out` exists, or it cannot be written.
    """
    with atomic_directory(out) as folder:
        cases = _keep_pictures(folder / "overlays", evaluated)
        summary = summarise(cases, strata) | {"about": dict(about or {})}
        ranks = _best_median_worst(cases)
        summary["overlays"] = {rank: cases[index].case_id for rank, index in ranks.items()}
        _name_pictures(folder / "overlays", ranks)
        write_tables(folder, cases, summary)
    return summary


def write_tables(folder: Path, cases: Sequence[CaseMetrics], summary: Mapping[str, Any]) -> None:
    """Write `cases.csv` and `summary.json` into a folder that is there."""
    with (folder / CASES).open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [field.name for field in dataclasses.fields(CaseMetrics)])
        writer.writeheader()
        writer.writerows(case.to_dict() for case in cases)
    write_json(folder / SUMMARY, summary)


def read_cases(report: Path) -> list[CaseMetrics]:
    """The cases of a report's `cases.csv`, in its order.

    Raises:
        InputError: it is missing, holds no case or one twice, or was not written by this version.
    """
    path = report / CASES
    try:
        with path.open(newline="") as stream:
            cases = [_parse_case(row) for row in csv.DictReader(stream)]
    except OSError as problem:
        raise InputError(
            f"{path}: cannot be read ({problem.strerror}); a folder of `tumortrace evaluate` wanted."
        ) from problem
    except (KeyError, TypeError, ValueError) as problem:
        raise InputError(f"{path}: is not as this version writes it ({problem}); evaluate again.") from problem
    if not cases or len({case.case_id for case in cases}) != len(cases):
        raise InputError(f"{path}: holds no case, or one twice; evaluate again.")
    return cases


def _keep_pictures(folder: Path, evaluated: Iterable[EvaluatedCase]) -> list[CaseMetrics]:
    """Put pictures on disk as they come: which case is the median is known only after the last."""
    folder.mkdir()
    cases = []
    for index, case in enumerate(evaluated):
        (folder / f"{index}.png").write_bytes(case.overlay_png)
        cases.append(case.metrics)
    return cases


def _best_median_worst(cases: Sequence[CaseMetrics]) -> dict[str, int]:
    ranked = sorted(range(len(cases)), key=lambda index: (cases[index].dice, cases[index].case_id))
    return {"best": ranked[-1], "median": ranked[(len(ranked) - 1) // 2], "worst": ranked[0]}


def _name_pictures(folder: Path, ranks: Mapping[str, int]) -> None:
    drawn = list(folder.iterdir())
    for rank, index in ranks.items():
        shutil.copyfile(folder / f"{index}.png", folder / f"{rank}.png")
    for picture in drawn:
        picture.unlink()


def _measures(case: CaseMetrics) -> dict[str, float | None]:
    unit = case.distance_unit
    return {
        **{name: getattr(case, name) for name in _UNITLESS},
        f"hd95_{unit}": case.hd95,
        f"surface_dice_{case.tolerance:g}{unit}": case.surface_dice,
        f"volume_error_{case.volume_unit}": case.volume_error,
    }


def _stratify(cases: Sequence[CaseMetrics], strata: Strata) -> dict[str, Any]:
    small, medium = strata.size_limits_voxels
    return {
        "dice": summarise_strata({case.case_id: case.dice for case in cases}, strata),
        "tumour_size_limits_voxels": {"small": small, "medium": medium},
    }


def _parse_case(row: Mapping[str, str]) -> CaseMetrics:
    hints = typing.get_type_hints(CaseMetrics)
    return CaseMetrics(**{name: _parse_field(hint, row[name]) for name, hint in hints.items()})


def _parse_field(hint: Any, text: str) -> Any:
    kinds = typing.get_args(hint) or (hint,)
    return None if text == "" and type(None) in kinds else kinds[0](text)
