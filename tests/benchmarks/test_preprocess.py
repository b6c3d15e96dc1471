"""The script that times preprocessing: that its candidates do the same work."""

from __future__ import annotations

import numpy as np
import pytest

from tumortrace.phantom import generate_case
from tumortrace_runtime.preprocess import Preprocessing, packed_shape
from tumortrace_runtime.preprocess.native import Preprocessor


@pytest.fixture(scope="module")
def voxels() -> np.ndarray:
    return generate_case(7, 3, size_px=48).voxels


@pytest.mark.parametrize("as_integers", [False, True])
def test_candidates_give_every_slice(script, voxels, as_integers):
    preprocess = script("preprocess")
    work = preprocess.Work("phantom", voxels, Preprocessing(("t1", "flair", "t1ce"), grid_px=(64, 64)))
    integers = preprocess.INTEGERS if as_integers else None

    wanted = [batch.copy() for batch in preprocess.in_numpy(work, integers)]
    given = [batch.copy() for batch in preprocess.in_core(Preprocessor(work.spec), work, integers)]

    shape = packed_shape(1, 9, (64, 64), integers) if integers else (1, 9, 64, 64)
    assert [batch.shape for batch in wanted] == [shape] * len(voxels)
    np.testing.assert_array_equal(given, wanted)
    assert set(preprocess.make_candidates(work, integers)) == {"NumPy", "statistics", "core"}


def test_another_batch_is_noticed(script, voxels, monkeypatch):
    preprocess = script("preprocess")
    work = preprocess.Work("phantom", voxels, Preprocessing(("t1", "flair", "t1ce"), grid_px=(64, 64)))
    monkeypatch.setattr(preprocess, "in_numpy", lambda *_: iter(np.zeros((len(voxels), 1, 9, 64, 64))))

    with pytest.raises(AssertionError, match="phantom: the core gives other batches"):
        preprocess.make_candidates(work, None)
