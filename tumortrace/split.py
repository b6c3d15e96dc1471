"""The split: which patients train, validate and test, once fixed and once in k folds, in one JSON file with a hash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from tumortrace.index import Index, check_document
from tumortrace_runtime.errors import DatasetError, SpecError
from tumortrace_runtime.files import canonical_json, read_json, sha256_bytes, write_json

FORMAT = "tumortrace-split"
VERSION = 1
DEFAULT_FRACTIONS = (0.7, 0.1, 0.2)


@dataclass(frozen=True)
class Parts:
    """Case ids of the three parts; no patient is in two of them."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]


PARTS = tuple(field.name for field in fields(Parts))


@dataclass(frozen=True)
class Split:
    """One data set, split by patient.

    Attributes:
        index_sha256: hash of the index that was split.
        seed: what chose among equal patients.
        fractions: of patients for train, val and test.
        fixed: the one split that models are compared on.
        folds: for cross-validation; the test parts hold each patient once.
    """

    index_sha256: str
    seed: int
    fractions: tuple[float, float, float]
    fixed: Parts
    folds: tuple[Parts, ...]

    @cached_property
    def sha256(self) -> str:
        """Hash over all of the split."""
        return sha256_bytes(canonical_json(_content(self)))

    def part(self, name: str, fold: int | None = None) -> list[str]:
        """The case ids of a part, sorted.

        Args:
            name: "train", "val" or "test".
            fold: counted from 0; None means the fixed split.

        Raises:
            SpecError: there is no such part or fold.
        """
        if name not in PARTS:
            raise SpecError(f"There is no part {name!r}; choose one of {', '.join(PARTS)}.")
        if fold is not None and not self.folds:
            raise SpecError(f"There is no fold {fold}; the split has none. Leave --fold out for the fixed split.")
        if fold is not None and not 0 <= fold < len(self.folds):
            raise SpecError(f"There is no fold {fold}; the split has folds 0 to {len(self.folds) - 1}.")
        cases: tuple[str, ...] = getattr(self.fixed if fold is None else self.folds[fold], name)
        return list(cases)


def make_split(
    index: Index,
    *,
    seed: int = 0,
    folds: int = 5,
    fractions: tuple[float, float, float] = DEFAULT_FRACTIONS,
) -> Split:
    """Split the patients of an index, each stratum (site and tumour size) in proportion.

    The same index content, seed and settings give the same split on every machine.

    Args:
        index: from `tumortrace.index`.
        seed: chooses among the patients of a stratum, and the order of the strata.
        folds: number of folds, at least 2.
        fractions: of patients for train, val and test in the fixed split; in a fold, val keeps its ratio to train.

    Raises:
        SpecError: fewer than 2 folds, or fractions that are not positive with the sum 1.
        DatasetError: too few patients for every part to have one.
    """
    _check_settings(folds, fractions)
    cases = _cases_by_patient(index)
    patients = _dealing_order(index, seed)
    if len(patients) < (needed := _patients_needed(folds)):
        raise DatasetError(
            f"{index.root}: has {len(patients)} patient(s); at least {needed} are needed for {folds} folds, "
            "each with its own train, val and test."
        )
    return Split(
        index_sha256=index.sha256,
        seed=seed,
        fractions=fractions,
        fixed=_to_parts(dict(zip(PARTS, _deal(patients, fractions), strict=True)), cases),
        folds=tuple(_to_parts(_fold(patients, number, folds, fractions), cases) for number in range(folds)),
    )


def save_split(split: Split, path: Path) -> None:
    """Write the split as JSON, whole or not at all.

    Raises:
        OutputError: it could not be written.
    """
    write_json(path, {**_content(split), "sha256": split.sha256})


def load_split(path: Path, index: Index) -> Split:
    """Read a split of this index.

    Raises:
        DatasetError: unreadable, of another version, altered, of another index, with a case that the index does not
            have, with a patient in two parts, or with folds that do not test each patient once.
    """
    value = read_json(path, DatasetError)
    check_document(value, path, FORMAT, VERSION)
    try:
        if _hash_of(value) != value["sha256"]:
            raise DatasetError(f"{path}: does not match its hash; it was altered. Run `tumortrace split` again.")
        split = _parse(value)
    except (KeyError, TypeError, ValueError) as problem:
        raise DatasetError(f"{path}: is not a whole split ({problem!r}). Run `tumortrace split` again.") from problem
    if split.index_sha256 != index.sha256:
        raise DatasetError(
            f"{path}: splits the index {split.index_sha256[:12]}…, the one given is {index.sha256[:12]}…; "
            "use the index it was made from, or run `tumortrace split` on this one."
        )
    check_parts(split.fixed, index, f"{path}: the fixed split")
    for number, parts in enumerate(split.folds):
        check_parts(parts, index, f"{path}: fold {number}")
    check_folds(split.folds, index, str(path))
    return split


def check_parts(parts: Parts, index: Index, name: str) -> None:
    """Refuse parts that share a patient or hold a case that the index does not have.

    Raises:
        DatasetError: the message starts with `name`, and names the patient or the case.
    """
    known = {case.case_id: case.patient_id for case in index.cases}
    part_of: dict[str, str] = {}
    for part in PARTS:
        for case_id in getattr(parts, part):
            if case_id not in known:
                raise DatasetError(f"{name} has case {case_id} in {part}, which is not in the index.")
            if (other := part_of.setdefault(known[case_id], part)) != part:
                raise DatasetError(f"{name} has patient {known[case_id]} in both {other} and {part}; one is wanted.")


def check_folds(folds: Sequence[Parts], index: Index, name: str) -> None:
    """Refuse folds whose test parts share a patient or leave out a case; a split without folds will do.

    Raises:
        DatasetError: the message starts with `name`, and names the patient or the case.
    """
    tested_in: dict[str, int] = {}
    for number, parts in enumerate(folds):
        for case_id in parts.test:
            patient = index.case(case_id).patient_id
            if (other := tested_in.setdefault(patient, number)) != number:
                raise DatasetError(f"{name}: folds {other} and {number} both test patient {patient}; one is wanted.")
    tested = {case_id for parts in folds for case_id in parts.test}
    if folds and (left_out := [case.case_id for case in index.cases if case.case_id not in tested]):
        raise DatasetError(f"{name}: no fold tests {left_out[0]}; each case is to be tested in one fold.")


def _check_settings(folds: int, fractions: Sequence[float]) -> None:
    if folds < 2:
        raise SpecError(f"{folds} fold(s) given; at least 2 are wanted.")
    if len(fractions) != len(PARTS) or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        given = ", ".join(f"{each:g}" for each in fractions)
        raise SpecError(f"Fractions {given} given; three above 0 with the sum 1 are wanted (train, val, test).")


def _patients_needed(folds: int) -> int:
    """One to test in each fold, and beside the largest test part one to train and one to validate."""
    return max(3, folds) if folds > 2 else 4


def _cases_by_patient(index: Index) -> dict[str, list[str]]:
    cases: dict[str, list[str]] = {}
    for case in index.cases:
        cases.setdefault(case.patient_id, []).append(case.case_id)
    return cases


def _dealing_order(index: Index, seed: int) -> list[str]:
    """Patients with their like beside them: by site, within it by tumour size, within that at random.

    Dealing from this order gives each part its share of each stratum. The random order is that of a hash, which,
    unlike a random generator, is the same in every version of every library.
    """
    sites = {case.patient_id: case.site for case in index.cases}
    sizes = _size_strata(index)

    def key(patient: str) -> tuple[str, int, str]:
        return _draw(seed, "site", sites[patient]), sizes[patient], _draw(seed, "patient", patient)

    return sorted(sites, key=key)


def _draw(seed: int, kind: str, name: str) -> str:
    return sha256_bytes(f"{seed}/{kind}/{name}".encode())


def _size_strata(index: Index) -> dict[str, int]:
    """0 for a patient without tumour, else 1 to 3: the third of the patients that its largest tumour is in."""
    voxels: dict[str, int] = {}
    for case in index.cases:
        voxels[case.patient_id] = max(voxels.get(case.patient_id, 0), case.tumour_voxels)
    ranked = sorted((patient for patient in voxels if voxels[patient]), key=lambda patient: (voxels[patient], patient))
    thirds = {patient: 1 + 3 * rank // len(ranked) for rank, patient in enumerate(ranked)}
    return {patient: thirds.get(patient, 0) for patient in voxels}


def _deal(patients: Sequence[str], fractions: Sequence[float]) -> list[list[str]]:
    """Deal patients out in order, each to the part that is furthest behind its share."""
    sizes = _part_sizes(len(patients), fractions)
    parts: list[list[str]] = [[] for _ in sizes]
    for dealt, patient in enumerate(patients, start=1):
        behind = [size * dealt / len(patients) - len(part) for size, part in zip(sizes, parts, strict=True)]
        parts[behind.index(max(behind))].append(patient)
    return parts


def _part_sizes(total: int, fractions: Sequence[float]) -> list[int]:
    """Whole numbers with the sum `total`, none of them 0; the first part takes what rounding the others leaves."""
    others = [max(1, round(total * fraction / sum(fractions))) for fraction in fractions[1:]]
    while sum(others) >= total:
        others[others.index(max(others))] -= 1
    return [total - sum(others), *others]


def _fold(
    patients: Sequence[str], number: int, folds: int, fractions: tuple[float, float, float]
) -> dict[str, Sequence[str]]:
    """Parts of one fold, which validates on patients that no other fold does, as far as there are enough.

    Of each `folds` neighbours one is tested; the rest is dealt in an order that begins with the next fold's.
    """
    rest = [position for position in range(len(patients)) if position % folds != number]
    rest.sort(key=lambda position: (position // folds, (position - number) % folds))
    train, val = _deal([patients[position] for position in rest], fractions[:2])
    return {"train": train, "val": val, "test": patients[number::folds]}


def _to_parts(patients: Mapping[str, Sequence[str]], cases: Mapping[str, list[str]]) -> Parts:
    return Parts(
        **{part: tuple(sorted(case for name in names for case in cases[name])) for part, names in patients.items()}
    )


def _content(split: Split) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "index_sha256": split.index_sha256,
        "seed": split.seed,
        "fractions": list(split.fractions),
        "fixed": vars(split.fixed),
        "folds": [vars(parts) for parts in split.folds],
    }


def _hash_of(value: Mapping[str, Any]) -> str:
    return sha256_bytes(canonical_json({key: item for key, item in value.items() if key != "sha256"}))


def _parse(value: Mapping[str, Any]) -> Split:
    train, val, test = value["fractions"]
    return Split(
        index_sha256=value["index_sha256"],
        seed=value["seed"],
        fractions=(train, val, test),
        fixed=_parse_parts(value["fixed"]),
        folds=tuple(_parse_parts(parts) for parts in value["folds"]),
    )


def _parse_parts(value: Mapping[str, Sequence[str]]) -> Parts:
    return Parts(**{part: tuple(cases) for part, cases in value.items()})
