"""From prepared planes to logits and masks, with functions in the place of a network whose answers are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumortrace_runtime.errors import InputError, ScanError
from tumortrace_runtime.inference import infer, predict_mask, tumour_logits
from tumortrace_runtime.postprocess import Postprocessing
from tumortrace_runtime.preprocess import IntegerInput, Preprocessing, packed_batch, preprocess

SPEC = Preprocessing(("t1", "flair"), context=1, grid_px=(24, 20))


class Network:
    """Gives, for every slice of a batch, a map of the least and one of the greatest input; and keeps the sizes."""

    def __init__(self) -> None:
        self.batch_sizes: list[int] = []

    integer_input = None

    def run(self, batch: np.ndarray) -> np.ndarray:
        assert batch.dtype == np.float32
        assert batch.flags.c_contiguous
        self.batch_sizes.append(len(batch))
        return np.stack([batch.min(axis=1), batch.max(axis=1)], axis=1)


class Function:
    """A network whose answer is a function of the batch."""

    def __init__(self, run: Callable[[np.ndarray], np.ndarray], integer_input: IntegerInput | None = None) -> None:
        self.run = run
        self.integer_input = integer_input


def scan(slices: int = 5, rows: int = 21, columns: int = 18) -> np.ndarray:
    random = np.random.default_rng(0)
    voxels = random.integers(0, 5, (slices, rows, columns, 2), dtype=np.uint8)
    voxels[:, 6:15, 5:13] = random.integers(60, 200, (slices, 9, 8, 2))
    voxels[2, 9:12, 8:11, 1] = 255
    return voxels


@given(slices=st.integers(1, 7), batch_size=st.integers(1, 9), context=st.integers(0, 2))
def test_every_slice_is_inferred_once_whatever_the_batch(slices: int, batch_size: int, context: int) -> None:
    planes = np.random.default_rng(0).standard_normal((slices, 2, 6, 4)).astype(np.float32)
    network = Network()

    logits = infer(network, planes, context, batch_size)

    assert sum(network.batch_sizes) == slices
    assert max(network.batch_sizes) <= batch_size
    assert logits.shape == (slices, 2, 6, 4)
    for number in range(slices):
        neighbours = planes[max(0, number - context) : number + context + 1]
        np.testing.assert_array_equal(logits[number, 0], neighbours.min(axis=(0, 1)))
        np.testing.assert_array_equal(logits[number, 1], neighbours.max(axis=(0, 1)))


def test_the_tumour_is_the_first_class_on_the_scans_own_grid() -> None:
    prepared = preprocess(scan(), SPEC)

    logits = tumour_logits(Network(), prepared, SPEC.context, batch_size=2)

    assert logits.shape == (5, 21, 18)
    own = prepared.planes[:, :, 1:22, 1:19]
    np.testing.assert_array_equal(logits[2], own[1:4].min(axis=(0, 1)))


def test_a_mask_is_where_the_logit_exceeds_the_threshold() -> None:
    spec = Preprocessing(("t1", "flair"), context=0, grid_px=(24, 20))

    def flair(batch: np.ndarray) -> np.ndarray:
        return batch[:, 1:] - 1

    mask = predict_mask(Function(flair), scan(), spec, Postprocessing())

    assert mask.dtype == np.uint8
    planes = preprocess(scan(), spec).planes
    np.testing.assert_array_equal(mask, planes[:, 1, 1:22, 1:19] > 1)
    assert mask[2, 9:12, 8:11].all()


def test_post_processing_is_applied() -> None:
    def lonely(batch: np.ndarray) -> np.ndarray:
        logits = np.full((len(batch), 1, 24, 20), -1, np.float32)
        logits[:, 0, 10, 10] = 1
        return logits

    assert predict_mask(Function(lonely), scan(), SPEC, Postprocessing(min_lesion_voxels=5)).sum() == 5
    assert predict_mask(Function(lonely), scan(), SPEC, Postprocessing(min_lesion_voxels=6)).sum() == 0


def test_a_scan_of_another_kind_is_refused_before_the_network_runs() -> None:
    network = Network()

    with pytest.raises(ScanError, match="2: t1, flair"):
        predict_mask(network, scan()[..., :1], SPEC, Postprocessing())

    assert network.batch_sizes == []


def test_a_network_of_integers_is_given_packed_batches() -> None:
    taken = IntegerInput("int8", 0.05, 0, 2)
    planes = np.random.default_rng(0).standard_normal((5, 2, 6, 4)).astype(np.float32)
    given: list[np.ndarray] = []

    def keep(batch: np.ndarray) -> np.ndarray:
        given.append(batch)
        return np.zeros((len(batch), 1, 6, 4), np.float32)

    infer(Function(keep, taken), planes, context=1, batch_size=2)

    expected = [packed_batch(planes, start, min(start + 2, 5), 1, taken) for start in (0, 2, 4)]
    for batch, wanted in zip(given, expected, strict=True):
        np.testing.assert_array_equal(batch, wanted)


def test_a_mask_of_the_graphs_own_is_cropped_and_cleaned() -> None:
    def threshold(batch: np.ndarray) -> np.ndarray:
        return (batch[:, 3] > 1).astype(np.uint8)

    def flair(batch: np.ndarray) -> np.ndarray:
        return batch[:, 3:4] - 1

    spec = Postprocessing(fill_holes=True, min_lesion_voxels=5)
    wanted = predict_mask(Function(flair), scan(), SPEC, spec)
    assert wanted.any()
    np.testing.assert_array_equal(predict_mask(Function(threshold), scan(), SPEC, spec), wanted)


def test_a_mask_is_not_resampled() -> None:
    def threshold(batch: np.ndarray) -> np.ndarray:
        return np.zeros((len(batch), 24, 20), np.uint8)

    spec = Preprocessing(("t1", "flair"), context=1, grid_px=(24, 20), fit="resize")
    with pytest.raises(InputError, match="export with --output logits"):
        predict_mask(Function(threshold), scan(rows=48, columns=40), spec, Postprocessing())
    with pytest.raises(InputError, match="this network gives masks"):
        tumour_logits(Function(threshold), preprocess(scan(), SPEC), 1, 2)
