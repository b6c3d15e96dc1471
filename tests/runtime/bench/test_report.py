"""The page: whole, alone, and with what it should show."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from tumortrace_runtime.bench.report import Picture, make_page
from tumortrace_runtime.bench.report.charts import pareto
from tumortrace_runtime.bench.results import NotRun
from tumortrace_runtime.errors import InputError


class Reader(HTMLParser):
    """Collects tags, and fails where they are not closed in their order."""

    def __init__(self):
        super().__init__()
        self.open, self.headings = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ["h2"]:
            self.headings.append(data)


def several(results):
    """Three candidates: as accurate and slower, and less accurate and faster."""
    (one,) = results.candidates
    faster = tuple(replace(sample, total_ms=sample.total_ms / 2) for sample in one.samples)
    slower = tuple(replace(sample, total_ms=sample.total_ms * 2) for sample in one.samples)
    rough = tuple(replace(case, dice=case.dice - 0.1) for case in one.cases)
    added = (replace(one, name="slow", samples=slower), replace(one, name="rough", samples=faster, cases=rough))
    return replace(results, candidates=(one, *added))


def read(page):
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    return reader.headings


def test_the_page_needs_nothing_else(make_results):
    page = make_page([several(make_results(1))], [Picture(b"\x89PNG", "one: Dice 0.9000")])
    assert read(page) == [
        "Accuracy against latency",
        "Where the time goes",
        "Candidates",
        "Stages, in milliseconds per scan",
        "Dice of every case",
        "Worst cases",
        "Machine",
    ]
    assert set(re.findall(r'(?:src|href)="([a-z]+:)', page)) == {"data:"}
    assert "<script" not in page and "url(" not in page
    assert "Not a medical device" in page


def test_every_chart_is_an_svg_that_says_what_it_shows(make_results):
    page = make_page([several(make_results(1)), make_results(2)])
    drawings = [ElementTree.fromstring(each) for each in re.findall(r"<svg.*?</svg>", page)]
    labels = [drawing.get("aria-label") for drawing in drawings if drawing.get("aria-label") != "mark"]
    assert len(labels) == 4
    assert all(drawing.get("role") == "img" for drawing in drawings)


def test_the_front_leaves_out_what_another_beats_in_both(make_results):
    assert [each.name for each in pareto(several(make_results(1)))] == ["rough", "openvino int8 CPU"]


def test_the_newest_of_several_is_shown_and_the_others_are_its_history(make_results):
    page = make_page([make_results(5), make_results(2)])
    assert "History" in read(page)
    assert page.index("2026-11-15T08") < page.index("2026-11-12") < page.rindex("2026-11-15")


def test_a_noisy_machine_and_what_was_not_run_are_told(make_results):
    page = make_page([replace(make_results(1, spread=0.5), not_run=(NotRun("tensorrt fp16", "no <driver>"),))])
    assert "too noisy to say anything about latency" in page
    assert "not run: tensorrt fp16: no &lt;driver&gt;" in page
    assert "too noisy" not in make_page([make_results(1)])


def test_one_round_has_no_spread(make_results):
    assert "<td>one round</td>" in make_page([make_results(1, rounds=1)])
    assert "one round" not in make_page([make_results(1)])


def test_runs_of_different_models_are_refused(make_results):
    with pytest.raises(InputError, match="report: results of model cccccccccccc and of aaaaaaaaaaaa given"):
        make_page([replace(make_results(1), model_sha256="c" * 64), make_results(2)])
    with pytest.raises(InputError, match="no results given"):
        make_page([])
