"""An evaluation's summary as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tumortrace_runtime.table import format_table

INTERVAL = "95 % interval"


def summary_text(summary: Mapping[str, Any]) -> str:
    """The table of all measures, the lesions counted, and Dice in each stratum."""
    rows = [(name, *_cells(measure)) for name, measure in summary["metrics"].items()]
    metrics = format_table(("metric", "mean", INTERVAL, "median", INTERVAL, "cases", "n/a"), rows)
    return f"{metrics}\n\n{_lesions(summary['lesions'])}\n\n{_strata(summary['strata'])}"


def _lesions(lesions: Mapping[str, int]) -> str:
    return (
        f"lesions of all cases: {lesions['found']} of {lesions['truth']} found, "
        f"{lesions['false_positive']} false positive"
    )


def _strata(strata: Mapping[str, Any]) -> str:
    limits = strata["tumour_size_limits_voxels"]
    sizes = {"small": f" (to {limits['small']} voxels)", "medium": f" (to {limits['medium']})"}
    rows = [
        (f"{group.replace('_', ' ')}: {label}{sizes.get(label, '')}", *_cells(dice)[:-1])
        for group, strata_of_group in strata["dice"].items()
        for label, dice in strata_of_group.items()
    ]
    return format_table(("Dice by stratum", "mean", INTERVAL, "median", INTERVAL, "cases"), rows)


def _cells(measure: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        _number(measure["mean"]),
        _interval(measure["mean_interval"]),
        _number(measure["median"]),
        _interval(measure["median_interval"]),
        str(measure["cases"]),
        str(measure["not_applicable"]),
    )


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4f}"


def _interval(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"
