"""Cross-validation: the folds of a split, each trained, and tested once; and the out-of-fold cases pooled.

A folder holds, for each fold, `fold-0/run` (as `train` leaves it), `fold-0/checkpoint` (its best, once the run is done)
and `fold-0/test` (the report on its test part, with the post-processing that the fold's val chooses). Where that report
is, the fold is done: it is never scored again. With several seeds, run and checkpoint of each are in `fold-0/seed-0`,
and the report is on the mean of their probabilities. `crossval.json` says what is cross-validated; `pooled` is the
report over all folds, written once all are done.

Any number of processes may work on one folder, each on folds of its own: a fold is locked by who works on it, and a
lock ends with its process.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tumortrace.checkpoint import CONFIG, load_checkpoint, save_checkpoint
from tumortrace.config import TrainConfig
from tumortrace.dataset import prepare_case
from tumortrace.hardware import open_fabric
from tumortrace.index import Index, open_case
from tumortrace.mask_search import Choice, choose_postprocessing
from tumortrace.predict import CheckpointPredictor, TorchNetwork, ensemble_network
from tumortrace.progress import Progress, silent
from tumortrace.report import SUMMARY, evaluate_cases, read_cases, summarise, write_report, write_tables
from tumortrace.run import open_run
from tumortrace.run_folder import DESCRIPTION as RUN
from tumortrace.run_folder import refuse_another
from tumortrace.split import Split
from tumortrace.state import Epoch
from tumortrace.strata import assign_strata
from tumortrace.train import check_config, train
from tumortrace_runtime.errors import InputError, OutputError, SpecError
from tumortrace_runtime.files import atomic_directory, read_json, sha256_file, write_json
from tumortrace_runtime.inference import BATCH_SIZE, predict_mask, tumour_logits
from tumortrace_runtime.metrics import CaseMetrics
from tumortrace_runtime.settings import to_dict

DESCRIPTION = "crossval.json"


@dataclass(frozen=True)
class CrossValidation:
    """What is cross-validated, and where.

    Attributes:
        out: the folder.
        config: how to train; its seed is the first of `seeds`.
        seeds: of the networks that each fold trains; several make an ensemble.
        index: where the cases are.
        split: made of `index`.
        teacher: the folder of another cross-validation of the same split, whose networks teach fold by fold, or None.
    """

    out: Path
    config: TrainConfig
    seeds: tuple[int, ...]
    index: Index
    split: Split
    teacher: Path | None = None

    def folder(self, fold: int) -> Path:
        """Where a fold's work is."""
        return self.out / f"fold-{fold}"

    def report(self, fold: int) -> Path:
        """Where a fold's report is; it is there when the fold is done."""
        return self.folder(fold) / "test"

    def member(self, fold: int, seed: int) -> Path:
        """Where run and checkpoint of one seed are."""
        return self.folder(fold) if len(self.seeds) == 1 else self.folder(fold) / f"seed-{seed}"

    def missing(self) -> list[int]:
        """The folds that are not done."""
        return [fold for fold in range(len(self.split.folds)) if not self.report(fold).exists()]


def open_crossval(
    out: Path,
    config: TrainConfig,
    index: Index,
    split: Split,
    *,
    seeds: Sequence[int] = (),
    teacher: Path | None = None,
) -> CrossValidation:
    """Begin a cross-validation in `out`, or go on with one of the same configuration, seeds and data.

    Args:
        out: the folder.
        config: how to train.
        index: where the cases are.
        split: made of `index`.
        seeds: of the networks that each fold trains; none for the configuration's own alone.
        teacher: the folder of another cross-validation, whose networks of a fold teach in that fold.

    Raises:
        SpecError: the split has no folds, a seed is given twice, the configuration cannot be trained, or `out` was
            begun with something else.
        InputError: `teacher` is no cross-validation.
        OutputError: `out` holds something else, or cannot be written.
    """
    given = tuple(seeds) or (config.seed,)
    if len(set(given)) != len(given):
        raise SpecError(f"seeds {', '.join(map(str, given))} given; each once wanted.")
    if not split.folds:
        raise SpecError("the split has no folds; make one with `tumortrace split --folds 5`.")
    check_config(config, taught=teacher is not None)
    crossval = CrossValidation(out, replace(config, seed=given[0]), given, index, split, teacher)
    description = _description(crossval)
    if out.is_dir() and not (out / DESCRIPTION).exists() and any(each.name[0] != "." for each in out.iterdir()):
        raise OutputError(f"{out}: holds something else than a cross-validation; choose another folder.")
    with _only_one(out, wait=True):
        if (out / DESCRIPTION).exists():
            refuse_another(out / DESCRIPTION, description)
        else:
            write_json(out / DESCRIPTION, description)
    return crossval


def run_fold(
    crossval: CrossValidation,
    fold: int,
    *,
    resume: bool = False,
    accelerator: str = "cpu",
    progress: Progress = silent,
    report: Callable[[Epoch, bool], None] = lambda epoch, best: None,
) -> list[CaseMetrics]:
    """Train and test one fold, or what of it is left to do, and return the cases of its test part.

    Args:
        crossval: from `open_crossval`.
        fold: counted from 0.
        resume: go on where the fold was stopped; without it, a fold that was begun and is not done is refused.
        accelerator: what to train on, as `open_fabric` takes it; testing is the CPU's.
        progress: shows how far each step is.
        report: called after each epoch with its metrics and whether it is the best so far.

    Raises:
        SpecError: there is no such fold, no such accelerator, or a setting does not hold.
        OutputError: the fold was begun and `resume` is false, another process works on it, or it cannot be written.
        InputError: the report that is there is not of this fold's test part, or the teacher is not done.
    """
    crossval.split.part("test", fold)  # refuses a fold that is not there
    folder = crossval.folder(fold)
    if not crossval.report(fold).exists():
        with _only_one(folder):
            if not crossval.report(fold).exists():  # another process may just have ended
                if _begun(crossval, fold) and not resume:
                    raise OutputError(f"{folder}: was begun already; go on with --resume, or choose another folder.")
                _train_fold(crossval, fold, accelerator, progress, report)
                _test_fold(crossval, fold, progress)
    return out_of_fold(crossval, fold)


def out_of_fold(crossval: CrossValidation, fold: int) -> list[CaseMetrics]:
    """The cases of a fold that is done.

    Raises:
        InputError: its report is missing, damaged, or not of this fold's test part.
    """
    path = crossval.report(fold)
    cases = read_cases(path)
    if {case.case_id for case in cases} != set(crossval.split.part("test", fold)):
        raise InputError(f"{path}: is not of the test part of fold {fold}; the folder was put together by hand.")
    return cases


def pool(crossval: CrossValidation) -> dict[str, Any]:
    """The summary over the test cases of all folds, each case scored by a network that never saw its patient.

    It is written to `pooled`, with all cases in one `cases.csv`.

    Raises:
        InputError: a fold is not done: a mean over some of the patients is not the cross-validation's.
        OutputError: it could not be written.
    """
    if missing := crossval.missing():
        raise InputError(f"{crossval.out}: fold {', '.join(map(str, missing))} not done; nothing to pool yet.")
    folds = [out_of_fold(crossval, fold) for fold in range(len(crossval.split.folds))]
    cases = sorted((case for fold in folds for case in fold), key=lambda case: case.case_id)
    strata = assign_strata((case.case_id for case in cases), crossval.index)
    summary = summarise(cases, strata=strata) | {
        "about": _description(crossval),
        "folds": [
            {**fold_dice(tested), "about": read_json(crossval.report(fold) / SUMMARY)["about"]}
            for fold, tested in enumerate(folds)
        ],
    }
    with _only_one(crossval.out, wait=True), atomic_directory(crossval.out / "pooled", replace=True) as partial:
        write_tables(partial, cases, summary)
    return summary


def fold_dice(cases: Sequence[CaseMetrics]) -> dict[str, Any]:
    """What one fold gave, as JSON values."""
    dice = [case.dice for case in cases]
    return {"cases": len(dice), "mean_dice": float(np.mean(dice)), "median_dice": float(np.median(dice))}


def _train_fold(
    crossval: CrossValidation,
    fold: int,
    accelerator: str,
    progress: Progress,
    report: Callable[[Epoch, bool], None],
) -> None:
    """Write the checkpoint of every seed that has none."""
    left = [seed for seed in crossval.seeds if not _checkpoint(crossval, fold, seed).exists()]
    if not left:
        return
    teachers = _teachers(crossval, fold)
    run = open_run(crossval.config, crossval.index, crossval.split, fold, teachers=teachers, progress=progress)
    for seed in left:
        seeded = replace(run, config=replace(run.config, seed=seed))
        out = crossval.member(fold, seed) / "run"
        fabric = open_fabric(accelerator, 1, seeded.config.precision)
        begun = (out / RUN).exists()
        checkpoint = train(seeded, out, fabric=fabric, resume=begun, progress=progress, report=report)
        save_checkpoint(_checkpoint(crossval, fold, seed), checkpoint)


def _test_fold(crossval: CrossValidation, fold: int, progress: Progress) -> None:
    paths = [_checkpoint(crossval, fold, seed) for seed in crossval.seeds]
    checkpoints = [load_checkpoint(path) for path in paths]
    network = ensemble_network(checkpoints) if len(paths) > 1 else CheckpointPredictor(checkpoints[0]).network
    choice = _choose(crossval, fold, network, progress)
    names = crossval.split.part("test", fold)
    about = {
        "part": "test",
        "fold": fold,
        "index_sha256": crossval.index.sha256,
        "split_sha256": crossval.split.sha256,
        "checkpoints_sha256": [sha256_file(path / CONFIG) for path in paths],
        "postprocessing": to_dict(choice.postprocessing),
    }
    spec = crossval.config.preprocessing
    predict = partial(predict_mask, network, preprocessing=spec, postprocessing=choice.postprocessing)
    with progress(names, f"testing fold {fold}") as shown:
        scans = (open_case(crossval.index, name, channels=spec.channels) for name in shown)
        evaluated = evaluate_cases(scans, predict)
        write_report(crossval.report(fold), evaluated, strata=assign_strata(names, crossval.index), about=about)


def _choose(crossval: CrossValidation, fold: int, network: TorchNetwork, progress: Progress) -> Choice:
    """The post-processing that the fold's val chooses."""
    spec = crossval.config.preprocessing
    with progress(crossval.split.part("val", fold), "choosing post-processing") as names:
        cases = (prepare_case(open_case(crossval.index, name, channels=spec.channels), spec) for name in names)
        scored = [(tumour_logits(network, case.prepared, spec.context, BATCH_SIZE), case.truth) for case in cases]
    tumours = [crossval.index.case(name).tumour_voxels for name in crossval.split.part("train", fold)]
    return choose_postprocessing(scored, crossval.config.postprocessing, tumours)


def _begun(crossval: CrossValidation, fold: int) -> bool:
    return any((crossval.member(fold, seed) / "run").exists() for seed in crossval.seeds)


def _checkpoint(crossval: CrossValidation, fold: int, seed: int) -> Path:
    return crossval.member(fold, seed) / "checkpoint"


def _teachers(crossval: CrossValidation, fold: int) -> list[Path]:
    if crossval.teacher is None:
        return []
    folder = crossval.teacher / crossval.folder(fold).name
    if not (folder / "test").exists():
        raise InputError(f"{folder}: is not done; cross-validate the teacher first.")
    return sorted(folder.glob("**/checkpoint"))


def _description(crossval: CrossValidation) -> dict[str, Any]:
    return {
        "config": to_dict(crossval.config),
        "seeds": list(crossval.seeds),
        "index_sha256": crossval.index.sha256,
        "split_sha256": crossval.split.sha256,
        "teacher": None if crossval.teacher is None else read_json(crossval.teacher / DESCRIPTION),
    }


@contextmanager
def _only_one(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Keep other processes out of a folder, made if need be; without `wait`, refuse one that another works in."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as problem:
        raise OutputError(f"{folder}: cannot be written ({problem.strerror}).") from problem
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as problem:
            raise OutputError(
                f"{folder}: another process works on it; give each process folds of its own."
            ) from problem
        yield
