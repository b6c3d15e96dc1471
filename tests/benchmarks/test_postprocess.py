"""The script that times post-processing: that its candidates do the same work, and that a difference is noticed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from tumortrace_runtime.errors import InputError


@pytest.fixture(scope="module")
def logits() -> np.ndarray:
    smooth = ndimage.gaussian_filter(np.random.default_rng(3).standard_normal((12, 60, 70)), 2)
    return np.asarray(smooth / smooth.std() - 1, np.float32)


@pytest.mark.parametrize("offset", [0.0, -100.0])
def test_candidates_find_the_same_lesions(script, logits, offset):
    postprocess = script("postprocess")
    candidates = postprocess.make_candidates(logits + np.float32(offset), with_scipy=True)

    found = postprocess.require_agreement(candidates)

    assert set(candidates) == {"native", "native, 2 threads", "tuned chain", "scipy"}
    assert found.mask.sum() == found.voxels.sum()
    assert (len(found.voxels) > 2) == (offset == 0)


@pytest.mark.parametrize("field", ["mask", "voxels", "centroids", "boxes"])
def test_a_difference_in_any_field_is_noticed(script, logits, field):
    postprocess = script("postprocess")
    found = postprocess.tuned_chain(logits)
    other = getattr(found, field).copy()
    other[(0,) * other.ndim] += 1

    assert found.agrees(found)
    with pytest.raises(AssertionError, match="other gives another mask or other lesions than chain"):
        postprocess.require_agreement(
            {"chain": lambda: found, "other": lambda: dataclasses.replace(found, **{field: other})}
        )


def test_lesions_agree_in_any_order(script, logits):
    found = script("postprocess").tuned_chain(logits)
    turned = {name: getattr(found, name)[::-1] for name in ("voxels", "centroids", "boxes")}
    assert found.agrees(dataclasses.replace(found, **turned))


def test_the_slice_is_the_fullest_and_large_enough(script, logits):
    one = script("postprocess").fullest_slice(logits)

    assert one.shape == (1, 256, 256)
    index = (logits > 0).sum(axis=(1, 2)).argmax()
    np.testing.assert_array_equal(one[0, 98:158, 93:163], logits[index])
    np.testing.assert_array_equal(one[0, 0, 93:163], logits[index, 0])


def test_logits_are_read_from_a_file(script, logits, tmp_path):
    postprocess = script("postprocess")
    np.save(tmp_path / "logits.npy", logits)
    np.testing.assert_array_equal(postprocess.read_logits(tmp_path / "logits.npy"), logits)

    np.save(tmp_path / "logits.npy", logits[0])
    with pytest.raises(InputError, match=r"float32 of shape \(60, 70\)"):
        postprocess.read_logits(tmp_path / "logits.npy")
