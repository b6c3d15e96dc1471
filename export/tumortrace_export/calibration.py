"""Which slices of which training cases set the INT8 ranges."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tumortrace.dataset import TrainingCase
from tumortrace.index import CaseRecord, Index
from tumortrace_runtime.errors import DatasetError
from tumortrace_runtime.preprocess import network_batch

CASES = 16
SLICES_PER_CASE = 8

Traits = frozenset[tuple[str, object]]


def choose_cases(index: Index, training: Sequence[str], scoring: Sequence[str]) -> list[str]:
    """Up to `CASES` training cases that cover the data set's sites, tumour sizes and missing sequences.

    Cases are taken one after another. The next one is that which

    1. is of a site that none is of yet,
    2. has the most traits that none has yet; traits are the third of the tumour sizes (or no tumour at all), and the
       set of sequences that another replaces,
    3. is of the site that the fewest are of,
    4. has the tumour size farthest from all taken, by ratio; the first case has the largest,
    5. has the first name;

    each line deciding where those above leave several. So sites come first, every trait follows as long as there is
    room, and what room is left is shared by the sites and goes to sizes in between. The order of the arguments does not
    matter.

    Args:
        index: tells sites, sizes, replaced sequences and patients.
        training: ids of the cases to choose from.
        scoring: ids of all cases that will measure the result.

    Returns:
        Sorted case ids.

    Raises:
        DatasetError: there is no training case, none of them shows tumour, one is not in the index, or a case or a
            patient would both calibrate and score.
    """
    if not training:
        raise DatasetError("the split has no training case to calibrate on.")
    cases = {name: index.case(name) for name in sorted(set(training))}
    _check_overlap(list(cases.values()), [index.case(name) for name in scoring])
    if all(case.tumour_free for case in cases.values()):
        raise DatasetError(f"none of {len(cases)} training cases shows tumour; INT8 ranges need some that do.")
    traits = _traits(list(cases.values()))
    taken: list[CaseRecord] = []
    while cases and len(taken) < CASES:
        taken.append(cases.pop(_next(cases, taken, traits)))
    return sorted(case.case_id for case in taken)


def calibration_batches(cases: Iterable[TrainingCase], context: int) -> Iterator[npt.NDArray[np.float32]]:
    """Network inputs of up to `SLICES_PER_CASE` slices of each case, half of them with tumour where there are any.

    Yields:
        (1, in_channels, rows, columns): one slice at a time, as ONNX Runtime takes no less time for each of several.
    """
    for case in cases:
        with_tumour = case.grid_truth.any(axis=(1, 2))
        half = SLICES_PER_CASE // 2
        for slices in (np.flatnonzero(with_tumour), np.flatnonzero(~with_tumour)):
            for number in slices[_spread(len(slices), half)]:
                yield network_batch(case.prepared.planes, int(number), int(number) + 1, context)


def _check_overlap(training: Sequence[CaseRecord], scoring: Sequence[CaseRecord]) -> None:
    if shared := sorted({case.case_id for case in training} & {case.case_id for case in scoring}):
        raise DatasetError(f"{shared[0]} would both calibrate and score; training and scoring must not overlap.")
    scored = {case.patient_id: case.case_id for case in scoring}
    for case in training:
        if other := scored.get(case.patient_id):
            raise DatasetError(
                f"patient {case.patient_id} would both calibrate ({case.case_id}) and score ({other}); "
                "split by patient, as `tumortrace split` does."
            )


def _traits(cases: Sequence[CaseRecord]) -> dict[str, Traits]:
    """What of each case, besides its site, others may share."""
    ranked = sorted((case.tumour_voxels, case.case_id) for case in cases if not case.tumour_free)
    thirds = {name: 1 + 3 * rank // len(ranked) for rank, (_, name) in enumerate(ranked)}
    return {
        case.case_id: frozenset(
            {("third of sizes", thirds.get(case.case_id, 0)), ("replaced", frozenset(case.replaced))}
        )
        for case in cases
    }


def _next(left: Mapping[str, CaseRecord], taken: Sequence[CaseRecord], traits: Mapping[str, Traits]) -> str:
    sites = Counter(case.site for case in taken)
    seen = {trait for case in taken for trait in traits[case.case_id]}
    sizes = [0, *(case.tumour_voxels for case in taken)]

    def key(name: str) -> tuple[bool, int, int, float, str]:
        case = left[name]
        distance = min(abs(math.log1p(case.tumour_voxels) - math.log1p(size)) for size in sizes)
        return case.site in sites, -len(traits[name] - seen), sites[case.site], -distance, name

    return min(left, key=key)


def _spread(count: int, wanted: int) -> list[int]:
    """`wanted` indices below `count`, evenly spread; all of them where there are no more."""
    return sorted({int(position) for position in np.linspace(0, count - 1, min(count, wanted))}) if count else []
