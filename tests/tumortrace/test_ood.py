"""References learned from made-up statistics, whose distribution is known."""

from __future__ import annotations

import numpy as np
import pytest

from tumortrace.ood import FEWEST_SCANS, false_alarm_share, fit_reference, ledoit_wolf
from tumortrace_runtime.confidence import UNFAMILIAR, OodReference
from tumortrace_runtime.errors import SpecError

WIDTH = 40
SHIFT = np.zeros(WIDTH)
SHIFT[3] = 8.0  # what being turned does
ABSENCE = np.zeros(WIDTH)
ABSENCE[5] = 20.0  # what a missing sequence does


def scans(count: int, seed: int) -> np.ndarray:
    """Statistics that vary along two directions, and a little along all."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).standard_normal((2, WIDTH))
    return 10 + rng.standard_normal((count, 2)) @ mixing * 3 + rng.standard_normal((count, WIDTH)) * 0.5


@pytest.fixture(scope="module")
def reference() -> OodReference:
    training = scans(40, 0)
    changes = {"turned": SHIFT + 0.3 * np.random.default_rng(1).standard_normal(training.shape)}
    return fit_reference(training, changes, {"t1ce": ABSENCE}, list(scans(8, 2)))


def score(reference: OodReference, scan: np.ndarray, replaced: tuple[str, ...] = ()) -> float:
    return reference.score(scan[None].astype(np.float32), replaced)


def test_few_scans_like_those_of_training_are_flagged(reference: OodReference) -> None:
    flagged = np.mean([score(reference, scan) > 1 for scan in scans(400, 3)])
    assert 0.002 < flagged < 0.15  # 0.05 is meant, as far as 48 scans can tell


@pytest.mark.parametrize(("judged", "share"), [(12, 1 / 13), (19, 0.05), (60, 0.05)])
def test_few_scans_set_a_looser_limit(judged: int, share: float) -> None:
    assert false_alarm_share(judged) == pytest.approx(share)


def test_a_known_way_of_being_spoiled_is_told(reference: OodReference) -> None:
    for scan in scans(20, 4) + SHIFT:
        evidence = reference.evidence(scan[None].astype(np.float32))
        assert max(evidence.values()) > 1
        assert evidence["turned"] == max(evidence.values())


def test_an_unknown_one_is_unfamiliar(reference: OodReference) -> None:
    strange = np.zeros(WIDTH)
    strange[20:30] = -6.0
    for scan in scans(20, 5) + strange:
        evidence = reference.evidence(scan[None].astype(np.float32))
        assert evidence[UNFAMILIAR] == max(evidence.values()) > 1


def test_a_missing_sequence_alone_does_not_flag(reference: OodReference) -> None:
    incomplete = scans(20, 6) + ABSENCE
    assert np.mean([score(reference, scan) > 1 for scan in incomplete]) > 0.9
    assert np.mean([score(reference, scan, ("t1ce",)) > 1 for scan in incomplete]) < 0.2


def test_statistics_that_are_always_zero_do_no_harm() -> None:
    training = scans(20, 0)
    training[:, 7] = 0
    found = fit_reference(training, {"turned": np.tile(SHIFT, (20, 1))}, {}, [])
    assert np.isfinite(score(found, training[0]))
    assert score(found, training[0] + SHIFT) > 1


def test_the_limit_is_the_score_of_scans_that_had_no_part() -> None:
    """Of 20 scans, none of which the reference was fitted to when it judged it, the largest is the limit."""
    training = scans(19, 0)
    far = training[0] + 50 * np.eye(WIDTH)[30]
    changes = {"turned": np.tile(SHIFT, (19, 1))}
    assert fit_reference(training, changes, {}, [far]).limit > 3 * fit_reference(training, changes, {}, []).limit


def test_too_few_scans_are_refused() -> None:
    with pytest.raises(SpecError, match=f"9 training scans given; at least {FEWEST_SCANS} wanted"):
        fit_reference(scans(9, 0), {"turned": np.tile(SHIFT, (9, 1))}, {}, [])


def test_a_shrunk_covariance_keeps_its_trace_and_can_be_inverted() -> None:
    samples = scans(12, 0)
    centred = samples - samples.mean(axis=0)
    shrunk, plain = ledoit_wolf(centred), centred.T @ centred / 12
    assert np.trace(shrunk) == pytest.approx(np.trace(plain))
    np.testing.assert_allclose(shrunk, shrunk.T)
    assert np.linalg.eigvalsh(shrunk).min() > 0.01
    assert np.linalg.matrix_rank(plain) < WIDTH


def test_many_samples_need_no_shrinking() -> None:
    samples = np.random.default_rng(0).standard_normal((20_000, 3)) * [3.0, 1.0, 0.2]
    np.testing.assert_allclose(ledoit_wolf(samples), np.diag([9.0, 1.0, 0.04]), atol=0.15)


def test_ledoit_and_wolfs_intensity() -> None:
    """The formula of their section 3.3, written out sample by sample."""
    centred = scans(15, 1) - scans(15, 1).mean(axis=0)
    plain = centred.T @ centred / 15
    target = np.trace(plain) / WIDTH * np.eye(WIDTH)
    noise = np.mean([np.sum((np.outer(row, row) - plain) ** 2) for row in centred]) / 15
    intensity = min(1.0, noise / np.sum((plain - target) ** 2))
    np.testing.assert_allclose(ledoit_wolf(centred), (1 - intensity) * plain + intensity * target, atol=1e-9)
