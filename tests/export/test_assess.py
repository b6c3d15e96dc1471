from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tumortrace.checkpoint import Checkpoint
from tumortrace.dataset import TrainingCase
from tumortrace.index import Index, open_case
from tumortrace.predict import CheckpointPredictor, TorchNetwork
from tumortrace_export.assess import (
    REPEATS,
    Expected,
    Outcome,
    expect,
    measure,
    of_reference,
    small_lesion_voxels,
    summarise,
    time_networks,
)
from tumortrace_runtime.errors import InputError
from tumortrace_runtime.inference import BATCH_SIZE
from tumortrace_runtime.postprocess import Postprocessing
from tumortrace_runtime.preprocess import IntegerInput, Preprocessing

SPEC = Preprocessing(channels=("t1", "flair", "t1ce"), grid_px=(64, 64))
PLAIN = Postprocessing(min_lesion_voxels=0, fill_holes=False)


class Playing:
    """A network that gives outputs made beforehand, (slices, …), slice by slice."""

    integer_input: IntegerInput | None = None

    def __init__(self, outputs: npt.NDArray[Any]) -> None:
        self._slices = iter(outputs)

    def run(self, batch: Any) -> npt.NDArray[Any]:
        return np.stack([next(self._slices) for _ in batch])


def logits_of(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """4 in the mask and -4 beside it, as a network of one class gives them."""
    return np.where(mask, 4, -4)[:, None].astype(np.float32)


@pytest.fixture
def case(prepared: Callable[[str], list[TrainingCase]]) -> TrainingCase:
    """A scan of 64 px; its truth is lesions of 4, 6 and 30 voxels."""
    scan = prepared("val")[0]
    truth = np.zeros_like(scan.truth)
    truth[0, 2, 2:6] = truth[1, 20, 20:26] = 1
    truth[3, 40:45, 40:46] = 1
    return replace(scan, truth=truth)


@pytest.fixture
def expected(case: TrainingCase) -> Expected:
    """The case with a reference that finds all of it but the lesion of 6 voxels."""
    mask = case.truth.copy()
    mask[1] = 0
    return expect(Playing(logits_of(mask)), case, SPEC, PLAIN, small_voxels=6)


def test_the_lower_third_of_the_lesions_is_small(case: TrainingCase) -> None:
    one_large = replace(case, truth=np.ones_like(case.truth))
    assert small_lesion_voxels([case], PLAIN) == 4
    assert small_lesion_voxels([case, one_large], PLAIN) == 6
    assert small_lesion_voxels([one_large], PLAIN) == one_large.truth.size
    assert small_lesion_voxels([replace(case, truth=np.zeros_like(case.truth))], PLAIN) == 0


def test_a_case_by_hand(expected: Expected) -> None:
    truth = expected.case.truth
    output = logits_of(truth)
    output[0, 0, 2, 2:6] = -1  # loses the lesion of 4 voxels, which the reference found
    output[2, 0, 0, 0] = 9  # and finds one voxel where none is
    found = measure(Playing(output), [expected], SPEC, PLAIN)

    assert expected.dice == pytest.approx(2 * 34 / (34 + 40))
    assert found.dice == found.worst_dice == pytest.approx(2 * 36 / (37 + 40))
    assert found.drop == found.case_drop == pytest.approx(expected.dice - found.dice)
    assert found.case_dice == {expected.case.case_id: found.dice}
    assert found.small_lesion_recall == 0.5
    assert found.flipped_per_million == pytest.approx(1e6 * (4 + 6 + 1) / truth.size)
    assert found.largest_logit_error == 13


def test_a_network_that_gives_masks_is_measured_by_them(expected: Expected) -> None:
    found = measure(Playing(expected.case.truth), [expected], SPEC, PLAIN)
    assert (found.dice, found.small_lesion_recall, found.largest_logit_error) == (1, 1, None)


def test_the_reference_loses_nothing_against_itself(expected: Expected) -> None:
    found = of_reference([expected])
    assert (found.drop, found.case_drop, found.flipped_per_million, found.largest_logit_error) == (0, 0, 0, 0)
    assert found.small_lesion_recall == 0.5


def test_a_nan_is_refused(expected: Expected) -> None:
    output = logits_of(expected.case.truth)
    output[-1, 0, 0, 0] = np.nan
    with pytest.raises(InputError, match="NaN"):
        measure(Playing(output), [expected], SPEC, PLAIN)


def outcome(case_id: str, dice: float, drop: float, **others: Any) -> Outcome:
    given = {"voxels": 100, "flipped": 0, "small_lesions": 0, "small_found": 0, "logit_error": None}
    return Outcome(case_id, dice, drop, **{**given, **others})


def test_cases_add_up_to_means_and_worsts() -> None:
    """A case that gained does not hide one that lost; lesions and voxels count alike, in whatever case they are."""
    found = summarise(
        [
            outcome("a", 0.8, 0.1, flipped=3, small_lesions=3, small_found=1, logit_error=0.5),
            outcome("b", 0.7, -0.1, voxels=300, flipped=1, small_lesions=1, small_found=1, logit_error=2.5),
        ]
    )
    assert asdict(found) == {
        "dice": pytest.approx(0.75),
        "worst_dice": 0.7,
        "drop": pytest.approx(0),
        "case_drop": 0.1,
        "case_dice": {"a": 0.8, "b": 0.7},
        "small_lesion_recall": 0.5,
        "flipped_per_million": 1e4,
        "largest_logit_error": 2.5,
    }
    assert summarise([outcome("c", 1.0, 0.0)]).small_lesion_recall is None


def test_cases_are_run_as_a_user_runs_them(
    checkpoint: Checkpoint, prepared: Callable[[str], list[TrainingCase]], index: Index
) -> None:
    predict = CheckpointPredictor(checkpoint)
    spec, postprocessing = checkpoint.preprocessing, checkpoint.postprocessing
    expected = [expect(predict.network, case, spec, postprocessing, 0) for case in prepared("val")]

    recorded = checkpoint.training["validation_dice"]
    assert {each.case.case_id: each.dice for each in expected} == pytest.approx(recorded)
    for each in expected:
        np.testing.assert_array_equal(each.mask, predict(open_case(index, each.case.case_id)))
    seen: list[tuple[Any, str]] = []

    def bar(items: Any, label: str) -> AbstractContextManager[Any]:
        seen.append((items, label))
        return nullcontext(items)

    found = measure(predict.network, expected, spec, postprocessing, bar)
    assert found == of_reference(expected)
    assert seen == [(expected, "measuring")]


def test_networks_are_timed_in_turn_on_the_same_slices(prepared: Callable[[str], list[TrainingCase]]) -> None:
    seen: list[tuple[str, npt.NDArray[Any]]] = []

    class Listening:
        def __init__(self, name: str, integer_input: IntegerInput | None = None) -> None:
            self.name, self.integer_input = name, integer_input

        def run(self, batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
            seen.append((self.name, batch))
            return batch

    networks = {"one": Listening("one"), "two": Listening("two", IntegerInput("uint8", 0.05, 128, 4))}
    timings = time_networks(networks, prepared("val")[0], context=1)

    assert [timing.repeats for timing in timings.values()] == [REPEATS, REPEATS]
    assert [name for name, _ in seen[:4]] == ["one", "two", "one", "two"]
    shapes = {(name, batch.dtype.name, batch.shape) for name, batch in seen}
    assert shapes == {("one", "float32", (BATCH_SIZE, 9, 64, 64)), ("two", "uint8", (BATCH_SIZE, 16, 16, 144))}
    for name in networks:
        first, *others = [batch for network, batch in seen if network == name]
        assert all(np.array_equal(batch, first) for batch in others)


def test_a_time_is_that_of_one_slice(checkpoint: Checkpoint, prepared: Callable[[str], list[TrainingCase]]) -> None:
    timing = time_networks({"torch": TorchNetwork(checkpoint.network())}, prepared("val")[0], 1)["torch"]
    assert 0 < timing.min_ms <= timing.median_ms <= timing.p90_ms
