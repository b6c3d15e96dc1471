from __future__ import annotations

import numpy as np
import pytest

from tumortrace.temperature import BOUNDS, fit_temperature
from tumortrace_runtime.confidence import expected_calibration_error, probabilities


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_truth_is_found(temperature: float) -> None:
    rng = np.random.default_rng(0)
    logits = (4 * rng.standard_normal((3, 100, 200))).astype(np.float32)
    truth = (rng.random(logits.shape) < probabilities(logits, temperature)).astype(np.uint8)

    found = fit_temperature(logits, truth)

    assert found == pytest.approx(temperature, rel=0.05)
    assert expected_calibration_error(probabilities(logits, found), truth) < 0.01


def test_a_network_that_is_always_right_stays_certain() -> None:
    logits = np.array([-3.0, 2.0], np.float32)
    assert fit_temperature(logits, np.array([0, 1], np.uint8)) == pytest.approx(BOUNDS[0], rel=0.01)
    assert fit_temperature(logits, np.array([1, 0], np.uint8)) == pytest.approx(BOUNDS[1], rel=0.01)
