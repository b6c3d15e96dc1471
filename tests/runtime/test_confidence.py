"""Calibrated probabilities, and scores of scans against references written by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tumortrace_runtime.confidence import (
    UNFAMILIAR,
    Confidence,
    Direction,
    Distance,
    OodReference,
    component_distance,
    expected_calibration_error,
    probabilities,
    reliability,
)
from tumortrace_runtime.errors import InputError, SpecError
from tumortrace_runtime.settings import from_dict, to_dict

# Statistics (4): the first two vary in training, by 2 and by 1; the others hardly.
REFERENCE = OodReference(
    ways={"turned": Direction((1.0, 0.0, 0.0, 0.0), -3.0), "noise": Direction((0.0, 2.0, 0.0, 0.0), 0.0)},
    distance=Distance(
        mean=(1.0, 0.0, 0.0, 0.0),
        scale=(1.0, 1.0, 0.5, 0.5),
        components=((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0)),
        variances=(4.0, 1.0),
        residual_variance=0.25,
        weight=1.5,
        offset=-1.0,
    ),
    absences={"t1ce": (0.0, 1.0, 0.0, 0.0)},
    limit=2.0,
)


def slices_of(*mean: float) -> np.ndarray:
    """Three slices with this mean."""
    return np.array([mean, mean, mean], np.float32) + np.array([[-1], [0], [1]], np.float32)


def test_a_temperature_of_1_gives_the_networks_own_probabilities() -> None:
    logits = np.array([-200.0, -2.0, 0.0, 1.0, 200.0], np.float32)

    with np.errstate(all="raise"):
        given_probabilities = probabilities(logits, 1.0)

    assert given_probabilities.dtype == np.float32
    expected = [0, 1 / (1 + np.exp(2)), 0.5, 1 / (1 + np.exp(-1)), 1]
    np.testing.assert_allclose(given_probabilities, expected, atol=1e-6)


def test_a_higher_temperature_doubts_more() -> None:
    logits = np.array([-4.0, 4.0], np.float32)
    np.testing.assert_allclose(probabilities(logits, 2.0), probabilities(logits / 2, 1.0))


def test_the_calibration_error_of_a_worked_example() -> None:
    said = np.array([0.95, 0.95, 0.95, 0.95, 0.1, 0.1], np.float32)
    truth = np.array([1, 1, 0, 0, 0, 0])
    assert expected_calibration_error(said, truth) == pytest.approx((4 * 0.45 + 2 * 0.1) / 6)


def test_what_is_certain_and_right_has_no_error() -> None:
    truth = np.array([[0, 1], [1, 0]])
    assert expected_calibration_error(truth.astype(np.float32), truth) == 0
    nothing = np.zeros(0, np.float32)
    assert expected_calibration_error(nothing, nothing) == 0


@given(hnp.arrays(np.float32, st.integers(2, 60), elements=st.floats(0, 1, width=32)), st.integers(0, 2**32 - 1))
def test_cases_add_up(said: np.ndarray, seed: int) -> None:
    truth = np.random.default_rng(seed).integers(0, 2, said.shape)
    half = len(said) // 2

    added = reliability(said[:half], truth[:half]) + reliability(said[half:], truth[half:])

    assert added.voxels.sum() == len(said)
    assert added.tumour.sum() == truth.sum()
    assert added.error == pytest.approx(expected_calibration_error(said, truth), abs=1e-9)
    assert abs(float(said.mean(dtype=float)) - truth.mean()) <= added.error + 1e-6 <= 1 + 1e-6


def test_other_shapes_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(2,\), truth \(3,\)"):
        expected_calibration_error(np.zeros(2, np.float32), np.zeros(3))


def test_the_evidence_of_a_worked_example() -> None:
    evidence = REFERENCE.evidence(slices_of(5.0, 1.0, 0.0, 0.0))

    distance = np.sqrt(4.0**2 / 4 + 1.0**2 / 1)
    assert evidence == pytest.approx({"turned": 2 / 2, "noise": 2 / 2, UNFAMILIAR: (1.5 * distance - 1) / 2})
    assert REFERENCE.score(slices_of(5.0, 1.0, 0.0, 0.0)) == pytest.approx(max(evidence.values()))


def test_what_no_component_has_counts_by_the_residual_variance() -> None:
    evidence = REFERENCE.evidence(slices_of(1.0, 0.0, 0.0, 1.0))
    assert evidence[UNFAMILIAR] == pytest.approx((1.5 * np.sqrt((1 / 0.5) ** 2 / 0.25) - 1) / 2)


def test_what_a_missing_sequence_changes_is_taken_off() -> None:
    with_change = slices_of(1.0, 1.5, 0.0, 0.0)
    assert REFERENCE.evidence(with_change, ("t1ce",)) == pytest.approx(
        REFERENCE.evidence(slices_of(1.0, 0.5, 0.0, 0.0))
    )
    assert REFERENCE.evidence(with_change, ("t1",)) == REFERENCE.evidence(with_change)


@given(
    hnp.arrays(np.float64, 5, elements=st.floats(-10, 10)),
    st.floats(0.1, 10),
    st.integers(0, 2**32 - 1),
)
def test_a_distance_with_equal_variances_is_euclids(point: np.ndarray, variance: float, seed: int) -> None:
    turned, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((5, 5)))
    distance = component_distance(point, turned[:2], np.full(2, variance), variance)
    assert distance == pytest.approx(np.linalg.norm(point) / np.sqrt(variance), abs=1e-6)


@pytest.mark.parametrize("shape", [(3, 5), (0, 4), (4,)])
def test_statistics_of_another_network_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"\(slices, 4\) wanted"):
        REFERENCE.score(np.zeros(shape, np.float32))


def test_it_travels_through_json() -> None:
    confidence = Confidence(2.5, REFERENCE)
    assert from_dict(Confidence, json.loads(json.dumps(to_dict(confidence)))) == confidence
    assert from_dict(Confidence, to_dict(Confidence(2.5))) == Confidence(2.5, None)


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(SpecError, match=r"ood\.ways and ood\.absences"):
        replace(REFERENCE, absences={"t1": (0.0,)})
    with pytest.raises(SpecError, match=r"ood\.ways and ood\.absences"):
        replace(REFERENCE, ways={"turned": Direction((1.0,), 0.0)})
    with pytest.raises(SpecError, match=r"ood\.limit"):
        replace(REFERENCE, limit=0.0)
    with pytest.raises(SpecError, match=r"2 components of 4 numbers"):
        replace(REFERENCE.distance, components=((1.0, 0.0, 0.0, 0.0),))
    with pytest.raises(SpecError, match="positive scales"):
        replace(REFERENCE.distance, residual_variance=0.0)
    with pytest.raises(SpecError, match=r"confidence\.temperature"):
        Confidence(0.0)
