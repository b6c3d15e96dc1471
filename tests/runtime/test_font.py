"""Letters: what they look like, that they differ, and what stands for those that there are not."""

from __future__ import annotations

import numpy as np

from tumortrace_runtime import font

PRINTABLE = "".join(map(chr, range(32, 127)))


def test_a_word_is_drawn_letter_by_letter():
    rows = ["".join(".#"[pixel] for pixel in row.astype(int)) for row in font.draw("T1")]

    assert rows == [
        "#####...#...",
        "..#....##...",
        "..#.....#...",
        "..#.....#...",
        "..#.....#...",
        "..#.....#...",
        "..#....###..",
    ]


def test_no_two_letters_look_alike():
    shapes = {font.draw(letter).tobytes() for letter in PRINTABLE}

    assert len(shapes) == len(PRINTABLE)
    assert not font.draw(" ").any()
    assert not font.draw(PRINTABLE)[:, font.COLUMNS_PX :: font.COLUMNS_PX + 1].any()


def test_what_is_not_ascii_becomes_a_question_mark():
    np.testing.assert_array_equal(font.draw("Zoë\n"), font.draw("Zo??"))
    assert font.draw("").shape == (font.ROWS_PX, 0)
