"""Post-processing against a plain reading of its definition, and its settings."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections import deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tumortrace_runtime.errors import SpecError
from tumortrace_runtime.postprocess import Postprocessing
from tumortrace_runtime.postprocessor import Postprocessor
from tumortrace_runtime.settings import from_dict, to_dict

MASKS = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=8), elements=st.integers(0, 1))


def clean(mask, spec):
    return Postprocessor(spec).segment_mask(mask).mask


def neighbours(offsets, voxel, shape):
    for offset in offsets:
        other = tuple(np.add(voxel, offset).tolist())
        if all(0 <= index < size for index, size in zip(other, shape, strict=True)):
            yield other


def components(mask, offsets):
    """Connected components by breadth-first search, each as a list of voxels."""
    seen = np.zeros(mask.shape, bool)
    found = []
    for start in zip(*np.nonzero(mask), strict=True):
        if seen[start]:
            continue
        seen[start] = True
        queue, component = deque([start]), []
        while queue:
            voxel = queue.popleft()
            component.append(voxel)
            for other in neighbours(offsets, voxel, mask.shape):
                if mask[other] and not seen[other]:
                    seen[other] = True
                    queue.append(other)
        found.append(component)
    return found


def offsets_of(connectivity):
    most = {6: 1, 18: 2, 26: 3}[connectivity]
    return [step for step in itertools.product((-1, 0, 1), repeat=3) if 1 <= sum(map(abs, step)) <= most]


def morph_slowly(image, radius_px, combine):
    steps = range(-radius_px, radius_px + 1)
    ball = [(dy, dx) for dy in steps for dx in steps if dy**2 + dx**2 <= radius_px**2]
    result = np.empty_like(image)
    for pixel in np.ndindex(image.shape):
        result[pixel] = combine(image[other] for other in neighbours(ball, pixel, image.shape))
    return result


def fill_slowly(image):
    filled = image.copy()
    for component in components(1 - image, [(0, 1), (1, 0), (0, -1), (-1, 0)]):
        if not any(y in (0, image.shape[0] - 1) or x in (0, image.shape[1] - 1) for y, x in component):
            filled[tuple(np.transpose(component))] = 1
    return filled


def remove_slowly(mask, min_voxels, connectivity):
    kept = np.zeros_like(mask)
    for component in components(mask, offsets_of(connectivity)):
        if len(component) >= min_voxels:
            kept[tuple(np.transpose(component))] = 1
    return kept


def clean_slowly(mask, spec):
    slices = []
    for image in mask:
        opened = morph_slowly(morph_slowly(image, spec.opening_px, min), spec.opening_px, max)
        closed = morph_slowly(morph_slowly(opened, spec.closing_px, max), spec.closing_px, min)
        slices.append(fill_slowly(closed) if spec.fill_holes else closed)
    return remove_slowly(np.stack(slices), spec.min_lesion_voxels, spec.connectivity)


@given(
    mask=MASKS,
    spec=st.builds(
        Postprocessing,
        opening_px=st.integers(0, 2),
        closing_px=st.integers(0, 2),
        fill_holes=st.booleans(),
        min_lesion_voxels=st.integers(0, 12),
        connectivity=st.sampled_from([6, 18, 26]),
    ),
)
def test_every_step_does_what_its_definition_says(mask, spec):
    before = mask.copy()

    cleaned = clean(mask, spec)

    np.testing.assert_array_equal(cleaned, clean_slowly(mask, spec))
    assert cleaned.dtype == np.uint8
    np.testing.assert_array_equal(mask, before)


@given(mask=MASKS, radius_px=st.integers(1, 3))
def test_opening_only_removes_and_closing_only_adds(mask, radius_px):
    assert (clean(mask, Postprocessing(opening_px=radius_px)) <= mask).all()
    assert (clean(mask, Postprocessing(closing_px=radius_px)) >= mask).all()


def test_a_hole_that_opens_to_the_border_or_only_by_a_corner():
    ring = np.array([[0, 1, 1, 1], [0, 1, 0, 1], [0, 1, 1, 0]], np.uint8)
    bay = np.array([[1, 1, 1], [1, 0, 1], [1, 0, 1]], np.uint8)
    fill = Postprocessing(fill_holes=True)

    assert clean(ring[None], fill)[0, 1, 2] == 1
    np.testing.assert_array_equal(clean(bay[None], fill)[0], bay)


def test_a_lesion_of_exactly_the_least_size_stays():
    mask = np.zeros((2, 3, 6), np.uint8)
    mask[0, 0, :3] = 1
    mask[1, 2, 4:] = 1

    kept = clean(mask, Postprocessing(min_lesion_voxels=3))

    assert kept.sum() == 3
    assert kept[0, 0, :3].all()


def test_a_voxel_at_the_threshold_is_background():
    spec = Postprocessing(threshold=0.7)
    at = spec.threshold_logit
    logits = np.array([[[at, np.nextafter(at, np.float32(9)), -np.inf, np.inf]]], np.float32)

    assert Postprocessor(spec).segment_logits(logits).mask.tolist() == [[[0, 1, 0, 1]]]


def test_the_threshold_is_a_probability():
    probabilities = np.linspace(0.05, 0.95, 19, dtype=np.float32).reshape(1, 1, -1)
    logits = np.log(probabilities / (1 - probabilities))

    mask = Postprocessor(Postprocessing(threshold=0.62)).segment_logits(logits).mask

    np.testing.assert_array_equal(mask, probabilities > 0.62)


def test_a_spec_survives_json():
    spec = Postprocessing(
        threshold=0.4, opening_px=1, closing_px=2, fill_holes=True, min_lesion_voxels=30, connectivity=6
    )

    assert from_dict(Postprocessing, json.loads(json.dumps(to_dict(spec)))) == spec


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("threshold", 0.0),
        ("threshold", 1.0),
        ("threshold", float("nan")),
        ("threshold", "0.5"),
        ("opening_px", -1),
        ("closing_px", 1.5),
        ("fill_holes", 1),
        ("min_lesion_voxels", -20),
        ("connectivity", 8),
        ("sigmoid", True),
    ],
)
def test_a_setting_out_of_range_is_named(key, value):
    with pytest.raises(SpecError, match=key):
        from_dict(Postprocessing, {**dataclasses.asdict(Postprocessing()), key: value})
