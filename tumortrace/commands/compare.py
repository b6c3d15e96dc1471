"""`tumortrace compare`: two evaluations of the same cases, case by case."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from tumortrace.compare import Comparison
    from tumortrace.statistics import Summary

SHOWN = 5


@click.command("compare")
@click.argument("a", metavar="A", type=click.Path(path_type=Path))
@click.argument("b", metavar="B", type=click.Path(path_type=Path))
@click.option("--metric", default="dice", show_default=True, help="A measure of cases.csv, such as hd95.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="JSON file to write, with every case.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
def command(a: Path, b: Path, metric: str, out: Path | None, as_json: bool) -> None:
    """Compare the evaluations in folders A and B, which must be of the same cases; a difference is B minus A.

    The mean difference has its paired-bootstrap 95 % interval; p is of Wilcoxon's signed-rank test.
    """
    from tumortrace.compare import compare_cases
    from tumortrace.report import read_cases
    from tumortrace_runtime.files import write_json

    comparison = compare_cases(read_cases(a), read_cases(b), metric)
    result = {"folders": {"a": str(a), "b": str(b)}, **comparison.to_dict()}
    if out is not None:
        write_json(out, result)
    click.echo(json.dumps(result) if as_json else _text(comparison))


def _text(comparison: Comparison) -> str:
    from tumortrace_runtime.table import format_table

    difference = comparison.difference
    heading = (comparison.metric, "A", "B", "B minus A", "95 % interval")
    measures = format_table(heading, [_row(comparison, "mean"), _row(comparison, "median")])
    counts = f"B better in {comparison.b_better} cases, equal in {comparison.ties}, A better in {comparison.a_better}"
    left_out = f"; {difference.not_applicable} not applicable" if difference.not_applicable else ""
    largest = [each for each in comparison.cases if each.difference][:SHOWN]
    rows = [(each.case_id, f"{each.a:.4f}", f"{each.b:.4f}", f"{each.difference:+.4f}") for each in largest]
    cases = "\n\n" + format_table(("largest differences", "A", "B", "B minus A"), rows) if rows else ""
    return f"{measures}\n\n{counts}{left_out}; {_p(comparison)}{cases}"


def _row(comparison: Comparison, name: str) -> tuple[str, ...]:
    a, b = _number(comparison.a, name), _number(comparison.b, name)
    difference = _number(comparison.difference, name, "+")
    interval = getattr(comparison.difference, f"{name}_interval")
    return name, a, b, difference, "" if interval is None else f"{interval[0]:+.4f} to {interval[1]:+.4f}"


def _number(summary: Summary, name: str, sign: str = "") -> str:
    value = getattr(summary, name)
    return "n/a" if value is None else f"{value:{sign}.4f}"


def _p(comparison: Comparison) -> str:
    p = comparison.wilcoxon_p
    return "Wilcoxon n/a, no case differs" if p is None else f"Wilcoxon signed-rank p = {p:.2g}"
