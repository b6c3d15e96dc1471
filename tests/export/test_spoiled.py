"""How INT8 follows FP32 on spoiled slices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tumortrace.perturb import ways_to_spoil
from tumortrace_export.quantise import quantise
from tumortrace_export.spoiled import flipped_per_million, spoil_slices
from tumortrace_export.unsigned import to_unsigned

CHANNELS = ("t1", "flair", "t1ce")


def test_each_slice_is_spoiled_in_each_way_with_its_neighbours(specimen: Callable[[str], Any]) -> None:
    batch = specimen("unet-xs").batch[:1]
    copies = list(spoil_slices([batch, batch], CHANNELS))
    ways = list(ways_to_spoil(CHANNELS))
    assert len(copies) == 2 * len(ways)
    assert all(copy.shape == batch.shape and copy.dtype == np.float32 for copy in copies)
    planes = batch.reshape(3, 3, *batch.shape[2:])
    number = ways.index("order flair t1 t1ce")
    np.testing.assert_array_equal(copies[number].reshape(planes.shape), planes[:, [1, 0, 2]])
    assert all(np.array_equal(one, two) for one, two in zip(copies, spoil_slices([batch], CHANNELS), strict=False))


def test_flips_are_those_of_the_masks(specimen: Callable[[str], Any], run_model: Callable[..., Any]) -> None:
    sample = specimen("unet-xs")
    slices = [sample.batch[:1], sample.batch[3:4]]
    coarse = {name: 0.3 * magnitude for name, magnitude in sample.magnitudes.items()}
    given = {"fitting": sample.magnitudes, "coarse": coarse}
    found = flipped_per_million(sample.model, given, slices, CHANNELS, 0.5)

    spoiled = np.concatenate(list(spoil_slices(slices, CHANNELS)))
    exact = run_model(sample.model, spoiled) > 0.5
    for name, magnitudes in given.items():
        rounded = run_model(to_unsigned(quantise(sample.model, magnitudes)), spoiled, optimised=True) > 0.5
        assert abs(found[name] - 1e6 * (rounded != exact).mean()) < 1e3  # sums half way between two integers
    assert 0 < found["fitting"] < found["coarse"]
