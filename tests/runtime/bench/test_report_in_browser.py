"""The page as a browser shows it: in light and dark, on paper, without a complaint."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tumortrace_runtime.bench.report import Picture, make_page
from tumortrace_runtime.png import encode_png

Image = pytest.importorskip("PIL.Image", reason="not run: no Pillow")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="not run: no Chromium")

WIDTH_PX = 1100
BLUE = (0, 114, 178)
"""The first candidate's."""

LOOK = """<script>
const outside = [...document.querySelectorAll("svg text")].filter((word) => {
  const box = word.getBBox(), all = word.ownerSVGElement.viewBox.baseVal;
  return box.x < 0 || box.y < 0 || box.x + box.width > all.width || box.y + box.height > all.height;
}).map((word) => word.textContent);
const words = [...document.querySelectorAll("svg text")];
const onEachOther = words.filter((word, number) => words.slice(0, number).some((other) => {
  const one = word.getBBox(), two = other.getBBox();
  return word.ownerSVGElement === other.ownerSVGElement && one.x < two.x + two.width && two.x < one.x + one.width
    && one.y < two.y + two.height && two.y < one.y + one.height;
})).map((word) => word.textContent);
const seen = [...document.images].filter((image) => image.complete && image.naturalWidth > 0).length;
const wide = [document.documentElement, ...document.querySelectorAll(".wide")].filter(
  (part) => part.scrollWidth > part.clientWidth).map((part) => part.textContent);
document.body.dataset.look = `${outside.join()}; ${onEachOther.join()}; ${seen}; ${wide.join()}`;
</script>"""
"""Words that leave their chart, words on other words, pictures that are shown, and what is wider than the window."""


@pytest.fixture
def page(make_results) -> str:
    """Four candidates with long names, two of them alike, in two runs, and a picture."""

    def several(seed):
        results = make_results(seed)
        (one,) = results.candidates
        slower = tuple(replace(sample, total_ms=sample.total_ms * 30) for sample in one.samples)
        rough = tuple(replace(case, dice=case.dice - 0.1) for case in one.cases)
        names = ("onnxruntime int8-7bit CPUExecutionProvider 2 threads", "openvino-model-api", "its twin")
        added = (
            replace(one, name=names[0], cases=rough),
            replace(one, name=names[1], samples=slower),
            replace(one, name=names[2]),
        )
        return replace(results, candidates=(one, *added))

    picture = Picture(encode_png(np.full((40, 60, 3), 90, np.uint8)), "one: Dice 0.9000")
    return make_page([several(2), several(5)], [picture])


def visit(page: str, folder: Path, *asked: str) -> subprocess.CompletedProcess[str]:
    """Open a page in a browser of its own."""
    (folder / "report.html").write_text(page)
    options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--hide-scrollbars")
    given = (f"--user-data-dir={folder / 'profile'}", f"--window-size={WIDTH_PX},2600", *asked)
    address = (folder / "report.html").as_uri()
    return subprocess.run(
        [BROWSER, *options, *given, address], check=True, capture_output=True, text=True, timeout=120, cwd=folder
    )


def complaints(visited: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in visited.stderr.splitlines() if ":CONSOLE:" in line]


@pytest.mark.parametrize(("scheme", "ground"), [("1", (255, 255, 255)), ("0", (0x14, 0x17, 0x1A))])
def test_light_and_dark_are_drawn_without_a_complaint(page, scheme, ground, tmp_path):
    shown = tmp_path / "shown.png"
    visited = visit(page, tmp_path, f"--blink-settings=preferredColorScheme={scheme}", f"--screenshot={shown}")
    assert complaints(visited) == []
    pixels = np.asarray(Image.open(shown).convert("RGB"))
    assert pixels.shape[1] == WIDTH_PX
    assert tuple(pixels[5, 5]) == ground
    assert np.all(pixels == BLUE, axis=-1).sum() > 500


def test_a_complaint_would_be_heard(page, tmp_path):
    broken = page.replace("</main>", "<script>nothingOfTheKind()</script></main>")
    assert "nothingOfTheKind is not defined" in complaints(visit(broken, tmp_path, "--dump-dom"))[0]


def test_every_word_stays_in_its_chart_and_everything_in_the_window(page, tmp_path):
    visited = visit(page.replace("</main>", f"{LOOK}</main>"), tmp_path, "--dump-dom")
    (seen,) = re.findall('data-look="(.*?)"', visited.stdout)
    assert seen == "; ; 1; "


def test_it_can_be_printed(page, tmp_path):
    visited = visit(page, tmp_path, f"--print-to-pdf={tmp_path / 'report.pdf'}")
    assert complaints(visited) == []
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF-")
