"""The charts of the page, each from results alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tumortrace_runtime.bench.report import svg
from tumortrace_runtime.bench.results import STAGES, Candidate, Results, percentiles
from tumortrace_runtime.bench.stability import reference_ms

WIDTH_PX = 860.0

_LEFT_PX, _RIGHT_PX, _TOP_PX, _BOTTOM_PX = 70.0, 30.0, 20.0, 50.0
_ROW_PX = 26.0
_HUES = 7
_APART_PX = 18.0
"""Letters that are nearer than that would lie on each other."""

_LEAST_DICE = 0.02
"""What a Dice axis shows at least: less is no difference to look at."""


def letters(results: Results) -> dict[str, str]:
    """A letter for every candidate, by which charts and tables call it."""
    return {
        each.name: chr(ord("A") + number % 26) * (1 + number // 26) for number, each in enumerate(results.candidates)
    }


def pareto(results: Results) -> list[Candidate]:
    """Those that no other candidate beats in both, the fastest first: none is as accurate in less time."""
    front: list[Candidate] = []
    for each in sorted(results.candidates, key=lambda one: (_middle_ms(one), -one.dice)):
        if not front or each.dice > front[-1].dice:
            front.append(each)
    return front


def accuracy_against_latency(results: Results) -> str:
    """Mean Dice over median milliseconds of a scan, with the Pareto front."""
    candidates, named = results.candidates, letters(results)
    height = 380.0
    x = svg.fitted([_middle_ms(each) for each in candidates], _LEFT_PX, WIDTH_PX - _RIGHT_PX, logarithmic=True)
    y = svg.fitted([each.dice for each in candidates], height - _BOTTOM_PX, _TOP_PX, least=_LEAST_DICE)
    parts = _axes(x, y, "milliseconds per scan, files to files (median, logarithmic)", "mean Dice")
    parts.append(svg.path([(x.at(_middle_ms(each)), y.at(each.dice)) for each in pareto(results)], "front"))
    places: dict[str, tuple[float, float]] = {}
    for number, each in enumerate(candidates):
        told = f"{named[each.name]} {each.name}: {_middle_ms(each):.0f} ms, Dice {each.dice:.4f}"
        place = x.at(_middle_ms(each)), y.at(each.dice)
        parts.append(svg.mark(*place, _shape(number), f"hue{number % _HUES}", told))
        places[named[each.name]] = place
    parts += [svg.text(left + 10, top - 8, words) for words, (left, top) in _together(places)]
    return svg.chart(WIDTH_PX, height, parts, "Mean Dice against milliseconds per scan, by candidate")


def stage_bars(results: Results) -> str:
    """Median milliseconds of every stage, one bar for each candidate."""
    named = letters(results)
    height = _TOP_PX + _ROW_PX * len(results.candidates) + _BOTTOM_PX
    x = svg.Scale(0, max(map(_middle_ms, results.candidates)) * 1.12, _LEFT_PX, WIDTH_PX - _RIGHT_PX)
    parts = [_grid_x(x, height, "milliseconds per scan (median)")]
    for row, each in enumerate(results.candidates):
        top, start = _TOP_PX + _ROW_PX * row, 0.0
        parts.append(svg.text(_LEFT_PX - 10, top + 16, named[each.name], "end"))
        for stage in STAGES:
            times = each.times_ms(stage)
            spent = float(np.median(times)) if times else 0.0
            told = f"{each.name}: {stage} {spent:.1f} ms"
            parts.append(svg.bar(x.at(start), top + 3, x.at(spent) - x.at(0), _ROW_PX - 8, f"stage-{stage}", told))
            start += spent
        parts.append(svg.text(x.at(start) + 6, top + 16, f"{_middle_ms(each):.0f}"))
    return svg.chart(WIDTH_PX, height, parts, "Milliseconds of every stage, by candidate")


def dice_by_case(results: Results) -> str:
    """Every case's Dice with every candidate; cases from the worst to the best."""
    scores = {each.name: {case.case_id: case.dice for case in each.cases} for each in results.candidates}
    cases = sorted(results.data["slices"], key=lambda case: min(found[case] for found in scores.values()))
    left, height = 220.0, _TOP_PX + _ROW_PX * len(cases) + _BOTTOM_PX
    every = [score for found in scores.values() for score in found.values()]
    x = svg.fitted(every, left, WIDTH_PX - _RIGHT_PX, least=_LEAST_DICE)
    parts = [_grid_x(x, height, "Dice")]
    for row, case in enumerate(cases):
        middle = _TOP_PX + _ROW_PX * (row + 0.5)
        values = [found[case] for found in scores.values()]
        parts.append(svg.text(left - 10, middle + 5, case, "end"))
        parts.append(svg.line(x.at(min(values)), middle, x.at(max(values)), middle, "range"))
        for number, (name, found) in enumerate(scores.items()):
            told = f"{case}, {name}: {found[case]:.4f}"
            parts.append(svg.mark(x.at(found[case]), middle, _shape(number), f"hue{number % _HUES}", told, size_px=4.5))
    return svg.chart(WIDTH_PX, height, parts, "Dice of every case, by candidate")


def history(runs: Sequence[Results]) -> str:
    """Time of a scan in units of the reference workload over runs, the oldest first, of the newest one's candidates."""
    newest, height = runs[-1], 300.0
    named = letters(newest)
    found = {
        each.name: [
            (number, _middle_ms(one) / reference_ms(run))
            for number, run in enumerate(runs)
            if (one := run.candidate(each.name)) is not None
        ]
        for each in newest.candidates
    }
    x = svg.Scale(-0.3, len(runs) - 0.7, _LEFT_PX, WIDTH_PX - _RIGHT_PX - 20)
    y = svg.fitted([value for line in found.values() for _, value in line] + [0.0], height - _BOTTOM_PX, _TOP_PX)
    parts = [_grid_y(y, "scan / reference workload")]
    for number, run in enumerate(runs):
        parts.append(svg.text(x.at(number), height - _BOTTOM_PX + 20, run.created_utc[:10], "middle"))
    ends: dict[str, tuple[float, float]] = {}
    for number, (name, line) in enumerate(found.items()):
        places = [(x.at(run), y.at(value)) for run, value in line]
        parts.append(svg.path(places, f"trend hue{number % _HUES}"))
        parts += [svg.mark(*place, _shape(number), f"hue{number % _HUES}", size_px=4.5) for place in places]
        ends[named[name]] = places[-1]
    parts += [svg.text(left + 10, top + 4, words) for words, (left, top) in _together(ends)]
    return svg.chart(WIDTH_PX, height, parts, "Time of a scan in units of the reference workload, run by run")


def legend_mark(number: int) -> str:
    """The mark of a candidate, by its place, for tables."""
    return svg.chart(20, 20, [svg.mark(10, 10, _shape(number), f"hue{number % _HUES}")], "mark")


def _together(places: Mapping[str, tuple[float, float]]) -> list[tuple[str, tuple[float, float]]]:
    """Letters and their places, from left to right; those of marks that nearly coincide as one word: "A B"."""
    found: list[tuple[str, tuple[float, float]]] = []
    for letter, place in sorted(places.items(), key=lambda each: each[1]):
        near = next((number for number, word in enumerate(found) if _reaches(word, place)), None)
        if near is None:
            found.append((letter, place))
        else:
            found[near] = (f"{found[near][0]} {letter}", found[near][1])
    return found


def _reaches(word: tuple[str, tuple[float, float]], place: tuple[float, float]) -> bool:
    letters_in_it, (left, top) = len(word[0].split()), word[1]
    return place[0] - left < _APART_PX * letters_in_it and abs(place[1] - top) < _APART_PX


def _shape(number: int) -> str:
    return svg.SHAPES[number % len(svg.SHAPES)]


def _middle_ms(candidate: Candidate) -> float:
    return percentiles(candidate.times_ms("total"))["p50"]


def _axes(x: svg.Scale, y: svg.Scale, x_label: str, y_label: str) -> list[str]:
    return [_grid_x(x, y.start_px + _BOTTOM_PX, x_label), _grid_y(y, y_label)]


def _grid_x(scale: svg.Scale, height_px: float, label: str) -> str:
    bottom = height_px - _BOTTOM_PX
    parts = [svg.line(scale.start_px, bottom, scale.stop_px, bottom, "axis")]
    for value in svg.ticks(scale):
        parts.append(svg.line(scale.at(value), _TOP_PX, scale.at(value), bottom, "grid"))
        parts.append(svg.text(scale.at(value), bottom + 18, f"{value:g}", "middle"))
    return "".join([*parts, svg.text((scale.start_px + scale.stop_px) / 2, bottom + 40, label, "middle", "label")])


def _grid_y(scale: svg.Scale, label: str) -> str:
    parts = [svg.line(_LEFT_PX, scale.start_px, _LEFT_PX, scale.stop_px, "axis")]
    for value in svg.ticks(scale):
        parts.append(svg.line(_LEFT_PX, scale.at(value), WIDTH_PX - _RIGHT_PX, scale.at(value), "grid"))
        parts.append(svg.text(_LEFT_PX - 8, scale.at(value) + 4, f"{value:g}", "end"))
    return "".join([*parts, svg.text(_LEFT_PX, _TOP_PX - 6, label, "start", "label")])
