from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from tumortrace.checkpoint import Checkpoint
from tumortrace.dataset import TrainingCase
from tumortrace.index import Index, open_case
from tumortrace.predict import CheckpointPredictor, network_runner
from tumortrace_export.assess import BATCH_SIZE, REPEATS, CaseOutput, compare, run_cases, time_slices


def output(dice: float, mask: list[int], logits: list[float]) -> CaseOutput:
    shape = (1, 1, len(mask))
    return CaseOutput(np.array(logits, np.float32).reshape(shape), np.array(mask, np.uint8).reshape(shape), dice)


def test_a_comparison_by_hand() -> None:
    reference = {"a": output(0.9, [1, 1, 0, 0], [5, 4, -3, -2]), "b": output(0.6, [0, 0, 0, 1], [-1, -1, -1, 1])}
    outputs = {"a": output(0.8, [1, 0, 0, 0], [5, -0.5, -3, -2]), "b": output(0.7, [0, 0, 1, 1], [-1, -1, 0.25, 1])}
    accuracy = compare(outputs, reference)

    assert accuracy.dice == pytest.approx(0.75)
    assert accuracy.worst_dice == 0.7
    assert accuracy.drop == pytest.approx(0)
    assert accuracy.case_drop == pytest.approx(0.1)
    assert accuracy.flipped_per_million == pytest.approx(2 / 8 * 1e6)
    assert accuracy.largest_logit_error == pytest.approx(4.5)


def test_the_reference_loses_nothing_against_itself() -> None:
    reference = {"a": output(0.9, [1, 0], [1, -1])}
    accuracy = compare(reference, reference)
    assert (accuracy.drop, accuracy.case_drop, accuracy.flipped_per_million, accuracy.largest_logit_error) == (0,) * 4


def test_cases_are_run_as_a_user_runs_them(
    checkpoint: Checkpoint, prepared: Callable[[str], list[TrainingCase]], index: Index
) -> None:
    predict = CheckpointPredictor(checkpoint)
    outputs = run_cases(predict.run, prepared("val"), checkpoint.preprocessing.context, checkpoint.postprocessing)

    assert {name: found.dice for name, found in outputs.items()} == pytest.approx(
        checkpoint.training["validation_dice"]
    )
    for name, found in outputs.items():
        np.testing.assert_array_equal(found.mask, predict(open_case(index, name)))
        assert found.logits.shape == found.mask.shape


def test_engines_are_timed_on_the_same_slices(
    checkpoint: Checkpoint, prepared: Callable[[str], list[TrainingCase]]
) -> None:
    seen: list[tuple[str, npt.NDArray[np.float32]]] = []

    def engine(name: str) -> Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]:
        def run(batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
            seen.append((name, batch))
            return batch

        return run

    timings = time_slices({"one": engine("one"), "two": engine("two")}, prepared("val")[0], context=1)

    assert [timing.repeats for timing in timings.values()] == [REPEATS, REPEATS]
    assert [name for name, _ in seen[:4]] == ["one", "two", "one", "two"]
    assert {batch.shape for _, batch in seen} == {(BATCH_SIZE, 9, 64, 64)}
    assert all(np.array_equal(batch, seen[0][1]) for _, batch in seen)
    assert time_slices({"torch": network_runner(checkpoint.network())}, prepared("val")[0], 1)["torch"].min_ms > 0
