"""The phantoms of a BraTS case's size that benchmarks run on."""

from __future__ import annotations

import numpy as np
import pytest

from tumortrace.phantom import generate_case
from tumortrace_runtime.io import Scan
from tumortrace_runtime.preprocess import Preprocessing
from tumortrace_runtime.preprocess.native import Preprocessor


@pytest.fixture(scope="module")
def phantom() -> Scan:
    return generate_case(7, 3, size_px=96)


def test_a_phantom_is_like_a_skull_stripped_case(script, phantom):
    scans = script("scans")
    scan = scans.like_brats(phantom, 100)

    assert (scan.voxels.shape, scan.voxels.dtype) == ((*scans.SHAPE, 3), np.int16)
    assert (scan.truth.shape, scan.truth.dtype) == (scans.SHAPE, np.uint8)
    assert scan.geometry.spacing_mm == (1, 1, 1)
    seen = scan.voxels.any(axis=(1, 2, 3))
    np.testing.assert_array_equal(np.flatnonzero(seen), np.arange(27, 127))
    preprocessor = Preprocessor(Preprocessing(scan.channels))
    preprocessor.open(scan.voxels)
    np.testing.assert_array_equal(preprocessor.coverage().slices, seen)
    assert preprocessor.replaced == ()
    assert scan.truth.any()
    assert scan.voxels[scan.truth > 0].all(axis=1).mean() > 0.99


def test_noise_is_left_in_the_air_where_asked_for(script, phantom):
    scans = script("scans")
    still, noisy = (scans.like_brats(phantom, 155, noise_in_air=asked).voxels for asked in (False, True))

    head = still.any(axis=3)
    np.testing.assert_array_equal(noisy[head], still[head])
    assert head[:, 72:-72, 72:-72].mean() < 0.8
    assert noisy[:, 72:-72, 72:-72].any(axis=3).mean() > 0.99
