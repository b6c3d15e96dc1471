"""The page: what was measured, how far to trust it, charts, tables, worst cases, and the machine."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from statistics import median

from tumortrace_runtime.bench.report import charts
from tumortrace_runtime.bench.report.style import STYLE
from tumortrace_runtime.bench.results import STAGES, Candidate, Results, percentiles
from tumortrace_runtime.bench.stability import NOISY, candidate_noise, machine_noise
from tumortrace_runtime.errors import InputError


@dataclass(frozen=True)
class Picture:
    """A case to look at.

    Attributes:
        png: the picture.
        caption: what it shows.
    """

    png: bytes
    caption: str


def make_page(runs: Sequence[Results], pictures: Sequence[Picture] = ()) -> str:
    """One HTML file about the newest of some runs, with the others as its history.

    Args:
        runs: in any order, all of one model on the same data.
        pictures: of its worst cases.

    Raises:
        InputError: there is no run, or they are of different models or data.
    """
    ordered = sorted(runs, key=lambda run: run.created_utc)
    _require_one_subject(ordered)
    newest = ordered[-1]
    sections = [
        _section("Accuracy against latency", charts.accuracy_against_latency(newest), _FRONT),
        _section("Where the time goes", charts.stage_bars(newest), _stage_legend()),
        _section("Candidates", _candidate_table(newest)),
        _section("Stages, in milliseconds per scan", _stage_table(newest)),
        _section("Dice of every case", charts.dice_by_case(newest)),
    ]
    if pictures:
        sections.append(_section("Worst cases", "".join(map(_figure, pictures))))
    if len(ordered) > 1:
        sections.append(_section("History", charts.history(ordered)))
    sections.append(_section("Machine", _environment(newest)))
    title = f"{escape(newest.bundle['name'])} on {escape(newest.cpu or 'this machine')}"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body><main><h1>{title}</h1>{_summary(newest)}{''.join(sections)}"
        f"<footer>{_DISCLAIMER}</footer></main></body></html>\n"
    )


_FRONT = "<p>The line joins those that none beats in both. Letters are those of the table.</p>"
_DISCLAIMER = "Research software. Not a medical device: not for diagnosis, treatment or any other clinical decision."


def _require_one_subject(runs: Sequence[Results]) -> None:
    if not runs:
        raise InputError("report: no results given; at least one wanted.")
    for run in runs[:-1]:
        for what, ours, theirs in (
            ("model", run.model_sha256, runs[-1].model_sha256),
            ("index", run.data["index_sha256"], runs[-1].data["index_sha256"]),
            ("split", run.data["split_sha256"], runs[-1].data["split_sha256"]),
        ):
            if ours != theirs:
                raise InputError(f"report: results of {what} {ours[:12]} and of {theirs[:12]} given; one wanted.")


def _section(title: str, *content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{''.join(content)}</section>"


def _summary(results: Results) -> str:
    noise = machine_noise(results)
    slices = results.data["slices"]
    told = (
        f"{len(slices)} cases of the {escape(results.data['part'])} part, {sum(slices.values())} slices, "
        f"{results.rounds} rounds, {escape(results.created_utc)}. "
        f"The reference workload spread by {100 * noise:.0f} % of its median."
    )
    warning = (
        '<p class="warning">The machine was too noisy to say anything about latency: measure again when it is idle.</p>'
        if noise > NOISY
        else ""
    )
    return f"<p>{told}</p>{warning}"


def _stage_legend() -> str:
    keys = "".join(f'<li><span class="key key-{stage}"></span>{stage}</li>' for stage in STAGES)
    return f'<ul class="legend">{keys}</ul>'


def _candidate_table(results: Results) -> str:
    headings = (
        "", "candidate", "ran in", "INT8 MACs", "MB", "Dice", "ms/scan", "p90", "p99", "in memory",
        "slices/s", "spread", "first mask ms", "peak MB", "grown MB",
    )  # fmt: skip
    rows = [_candidate_row(results, number, each) for number, each in enumerate(results.candidates)]
    not_run = "".join(f"<li>not run: {escape(each.name)}: {escape(each.reason)}</li>" for each in results.not_run)
    return _table(headings, rows) + (f'<ul class="reason">{not_run}</ul>' if not_run else "")


def _candidate_row(results: Results, number: int, candidate: Candidate) -> list[str]:
    found = percentiles(candidate.times_ms("total"))
    start = candidate.start
    return [
        charts.legend_mark(number),
        f"{charts.letters(results)[candidate.name]} {escape(candidate.name)}",
        escape(candidate.executed_precision),
        f"{100 * candidate.int8_mac_share:.0f} %",
        f"{candidate.size_bytes / 1e6:.1f}",
        f"{candidate.dice:.4f}",
        *(f"{found[name]:.0f}" for name in ("p50", "p90", "p99")),
        f"{median(sample.in_memory_ms for sample in candidate.samples):.0f}",
        f"{results.slices_per_s(candidate):.0f}",
        "one round" if results.rounds == 1 else f"{100 * candidate_noise(candidate):.0f} %",
        *(
            (f"{start.first_mask_ms:.0f}", f"{start.peak_bytes / 1e6:.0f}", f"{start.growth_bytes / 1e6:+.1f}")
            if start
            else ("not run",) * 3
        ),
    ]


def _stage_table(results: Results) -> str:
    names = ("min", "p50", "p90", "p99", "max")
    rows = []
    for each in results.candidates:
        for stage in (*STAGES, "total"):
            times = each.times_ms(stage)
            found = percentiles(times) if times else None
            rows.append([escape(each.name), stage, *(f"{found[name]:.1f}" if found else "not told" for name in names)])
    return f"<details><summary>All stages</summary>{_table(('candidate', 'stage', *names), rows)}</details>"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode()
    caption = escape(picture.caption)
    return (
        f'<figure><img alt="{caption}" src="data:image/png;base64,{data}"><figcaption>{caption}</figcaption></figure>'
    )


def _environment(results: Results) -> str:
    rows = [[escape(name), escape(value)] for name, value in _flat(results.environment)]
    rows += [
        ["bundle", escape(results.bundle["sha256"])],
        ["network", escape(results.model_sha256)],
        ["index", escape(results.data["index_sha256"])],
        ["split", escape(results.data["split_sha256"])],
    ]
    return _table(("", ""), rows)


def _flat(values: dict[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name} ")
        elif value not in (None, "", False):
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value)
