"""What training scans look like from a network's bottleneck, as they are, spoiled, and without some sequences."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from tumortrace.dataset import TrainingCase
from tumortrace.ood import FEWEST_SCANS, fit_reference
from tumortrace.perturb import Planes, ways_to_spoil
from tumortrace.predict import TorchNetwork
from tumortrace_runtime.confidence import OodReference
from tumortrace_runtime.inference import BATCH_SIZE, infer_with_statistics
from tumortrace_runtime.preprocess import REFERENCE_CHANNEL, Preprocessing, network_batch

Doubles = npt.NDArray[np.float64]

EVERY = 8
"""Of a copy every eighth slice is looked at, and compared with the same slices of the scan itself."""


@dataclass(frozen=True)
class Studied:
    """What is kept of a scan.

    Attributes:
        mean: (statistics,), the mean over its slices.
        replaced: sequences that it lacks.
        changes: by way of being spoiled, what `mean` changes by; empty where a sequence is missing.
        absences: by the names of sequences, what `mean` changes by without them; empty where one is missing.
    """

    mean: Doubles
    replaced: tuple[str, ...]
    changes: dict[str, Doubles]
    absences: dict[str, Doubles]


def study_case(network: TorchNetwork, case: TrainingCase, spec: Preprocessing) -> Studied:
    """Look at a training scan and, where it has all sequences, at copies of it."""
    planes, replaced = case.prepared.planes, case.prepared.replaced
    _, statistics = infer_with_statistics(network, planes, spec.context, BATCH_SIZE)
    mean: Doubles = statistics.mean(axis=0, dtype=np.float64)
    if replaced:
        return Studied(mean, replaced, {}, {})
    rng = np.random.default_rng(zlib.crc32(case.case_id.encode()))
    ways, itself = ways_to_spoil(spec.channels), _glance(network, planes, spec)
    return Studied(
        mean=mean,
        replaced=(),
        changes={way: _glance(network, spoil(planes, rng), spec) - itself for way, spoil in ways.items()},
        absences={names: _glance(network, copy, spec) - itself for names, copy in _incomplete(planes, spec)},
    )


def learn_reference(studied: Sequence[Studied], validation: Sequence[Studied]) -> OodReference | None:
    """What tells unfamiliar scans, or None of fewer than `FEWEST_SCANS` training scans with all sequences.

    Training scans that lack a sequence teach nothing, for they are rare and unlike each other; what the lack changes is
    taken off them, and they set the limit together with the validation scans.
    """
    whole = [scan for scan in studied if not scan.replaced]
    if len(whole) < FEWEST_SCANS:
        return None
    absences = {names: np.mean([scan.absences[names] for scan in whole], axis=0) for names in whole[0].absences}
    others = [*(scan for scan in studied if scan.replaced), *validation]
    return fit_reference(
        np.stack([scan.mean for scan in whole]),
        {way: np.stack([scan.changes[way] for scan in whole]) for way in whole[0].changes},
        absences,
        [scan.mean - absences.get(" ".join(scan.replaced), 0.0) for scan in others],
    )


def _glance(network: TorchNetwork, planes: Planes, spec: Preprocessing) -> Doubles:
    """Mean statistics of every eighth slice."""
    numbers = range(min(EVERY // 2, len(planes) - 1), len(planes), EVERY)
    slices = [network_batch(planes, number, number + 1, spec.context) for number in numbers]
    parts = [
        network.run_all(np.concatenate(slices[start : start + BATCH_SIZE]))["bottleneck"]
        for start in range(0, len(slices), BATCH_SIZE)
    ]
    mean: Doubles = np.concatenate(parts).mean(axis=0, dtype=np.float64)
    return mean


def _incomplete(planes: Planes, spec: Preprocessing) -> Iterator[tuple[str, Planes]]:
    """Copies that lack each set of sequences that preprocessing may find missing, under their names."""
    if REFERENCE_CHANNEL not in spec.channels:
        return
    numbers = [number for number, name in enumerate(spec.channels) if name != REFERENCE_CHANNEL]
    for count in range(1, len(numbers) + 1):
        for missing in combinations(numbers, count):
            copy = planes.copy()
            copy[:, list(missing)] = 0
            yield " ".join(spec.channels[number] for number in missing), copy
