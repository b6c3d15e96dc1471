"""PNG: read back by another library, and what is refused."""

from __future__ import annotations

import io
import sys
from itertools import takewhile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from tumortrace_runtime.errors import InputError
from tumortrace_runtime.io import gz
from tumortrace_runtime.png import encode_png

SIZES = st.integers(1, 30)
SHAPES = st.one_of(st.tuples(SIZES, SIZES), st.tuples(SIZES, SIZES, st.just(3)))


@given(hnp.arrays(np.uint8, SHAPES))
def test_a_picture_reads_back_as_it_was(picture):
    for stored in (picture, np.asfortranarray(picture)):
        np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(encode_png(stored)))), picture)


@pytest.mark.parametrize("library", gz.ZLIB)
def test_every_zlib_library_makes_a_picture(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(library)
    for other in takewhile(lambda other: other != library, gz.ZLIB):
        monkeypatch.setitem(sys.modules, other, None)
    picture = np.random.default_rng(0).integers(0, 9, (70, 50, 3), dtype=np.uint8)
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(encode_png(picture)))), picture)
    assert encode_png(picture) == encode_png(picture)


@pytest.mark.parametrize(
    "picture", [np.zeros((0, 4), np.uint8), np.zeros((4, 4, 2), np.uint8), np.zeros(4, np.uint8), np.zeros((4, 4))]
)
def test_what_is_no_picture_is_refused(picture):
    with pytest.raises(InputError, match=r"uint8 \(rows, columns\) or \(rows, columns, 3\) wanted"):
        encode_png(picture)
