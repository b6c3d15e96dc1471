"""A search for better settings: Optuna proposes, `train` tries, and the Dice of the validation cases decides.

Several processes may search in one folder, which machines may share. Each holds a lock on the folder of its trial, and
the system lets go of it when the process ends: a trial that runs but is not locked was killed, and whoever comes next
goes on with it, exactly, as `train` resumes a run.
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import optuna
import torch
from lightning_fabric import Fabric
from optuna.distributions import distribution_to_json
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import TPESampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from tumortrace.config import TrainConfig
from tumortrace.hardware import open_fabric
from tumortrace.index import Index
from tumortrace.progress import Progress, silent
from tumortrace.provenance import provenance
from tumortrace.run import Run, open_run
from tumortrace.run_folder import refuse_another
from tumortrace.search_space import Space, apply_parameters, base_parameters
from tumortrace.split import Split
from tumortrace.state import HISTORY, Epoch
from tumortrace.train import check_config, train
from tumortrace.tune_report import write_results
from tumortrace_runtime.errors import InputError, OutputError, ScanError
from tumortrace_runtime.files import canonical_json, read_json, sha256_bytes, write_json
from tumortrace_runtime.settings import require, to_dict

DESCRIPTION = "tune.json"
JOURNAL = "study.journal"
LOCK = "lock"

PRUNERS: dict[str, Callable[[int], BasePruner]] = {
    "median": lambda epochs: MedianPruner(n_startup_trials=5, n_warmup_steps=epochs // 4),
    "hyperband": lambda epochs: HyperbandPruner(max_resource=epochs),
    "none": lambda epochs: NopPruner(),
}
"""What gives up a trial that promises little, for trials of so many epochs."""


@dataclass(frozen=True)
class Search:
    """What a study searches.

    Attributes:
        config: the settings that do not vary, and where the search begins.
        space: the settings that vary, as `tumortrace.search_space.build_space` gives them.
        pruner: what gives up trials that promise little, a name in `PRUNERS`.
        provenance: JSON values that say on what data, as in `Run`.
        open: gives the run of a configuration.
    """

    config: TrainConfig
    space: Space
    pruner: str
    provenance: Mapping[str, Any]
    open: Callable[[TrainConfig], Run]

    def description(self) -> dict[str, Any]:
        """All that decides the outcome, as JSON values."""
        space = {key: json.loads(distribution_to_json(distribution)) for key, distribution in self.space.items()}
        data = dict(self.provenance)
        return {"space": space, "config": to_dict(self.config), "pruner": self.pruner, "data": data}


def open_search(
    config: TrainConfig,
    space: Space,
    index: Index,
    split: Split,
    fold: int | None,
    progress: Progress,
    pruner: str = "median",
) -> Search:
    """A search on the training and validation cases of the fixed split, or of a fold.

    Cases are read when the first trial needs them, and again only for a trial that prepares them otherwise.

    Raises:
        SpecError: there is no such fold or pruner.
    """
    require(pruner in PRUNERS, "pruner", pruner, f"one of {', '.join(PRUNERS)}")
    kept: list[Run] = []

    def opened(wanted: TrainConfig) -> Run:
        if not kept or kept[0].config.preprocessing != wanted.preprocessing:
            kept.clear()  # before as much is read again
            kept.append(open_run(wanted, index, split, fold, progress=progress))
        return replace(kept[0], config=wanted)

    return Search(config, space, pruner, provenance(index, split, fold), opened)


def tune(
    search: Search,
    out: Path,
    trials: int,
    *,
    storage: str | None = None,
    accelerator: str = "cpu",
    progress: Progress = silent,
    report: Callable[[str], None] = lambda line: None,
) -> Study:
    """Go on with the study in `out`, or begin it, until it has `trials` trials; and write what it found.

    The first trial is `search.config` itself, as far as the space allows. Trials that were killed are finished first.
    Returns while other processes may still be at their last trials.

    Args:
        search: what to search.
        out: the study's folder: `trials/NNN` are runs of `train`, with what `write_results` writes beside them.
        trials: how many the study shall have, of all processes and calls together.
        storage: an SQLAlchemy URL, for machines that share a database and no folder; None for a journal in `out`.
        accelerator: what trials are trained on, as `open_fabric` takes it; each process has one device.
        progress: wraps the steps of an epoch, to show how far it is.
        report: is told of every epoch and trial, in a line.

    Raises:
        SpecError: the study was begun with another space, configuration or data, the configuration cannot be trained,
            there is no such accelerator, or no case to train or to validate on.
        ScanError: a case cannot be read as `search.config` has it; its trial goes on when the study does.
        OutputError: `out` cannot be written or holds something else; again, its trial goes on later.
        InputError: the storage cannot be opened, or no trial could be trained.
    """
    open_fabric(accelerator)  # what is not to be had is refused before anything is written
    check_config(search.config)
    for part in ("training_cases", "validation_cases"):
        require(len(search.provenance[part]) > 0, part, search.provenance[part], "at least one case")
    database = None if storage is None else _open_database(storage)
    with _locked(out / LOCK):
        _describe(search, out)
        study = _open_study(search, database or _open_journal(out))
    while claimed := _claim(search, study, out, trials, shared=storage is None):
        trial, lock = claimed
        with lock:
            config = apply_parameters(search.config, trial.params)
            fabric = open_fabric(accelerator, precision=config.precision)
            outcome = _try(search, config, trial, trial_folder(out, trial.number), fabric, progress, report)
            with _locked(out / LOCK):
                told = study.tell(trial, **outcome)
                Path(lock.name).unlink()
                write_results(out, study, search.config, search.space)
        report(_line(study, told))
    _refuse_failure(study, out)
    return study


def _describe(search: Search, out: Path) -> None:
    description = search.description()
    if (out / DESCRIPTION).exists():
        refuse_another(out / DESCRIPTION, description)
    elif strange := sorted(entry.name for entry in out.iterdir() if entry.name != LOCK):
        (out / LOCK).unlink()
        raise OutputError(f"{out}: already exists, with {strange[0]} and no {DESCRIPTION}; choose another name.")
    else:
        write_json(out / DESCRIPTION, description)


def _open_study(search: Search, storage: BaseStorage) -> Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=storage,
        study_name=f"tumortrace-{sha256_bytes(canonical_json(search.description()))[:16]}",
        direction="maximize",
        pruner=PRUNERS[search.pruner](search.config.epochs),
        load_if_exists=True,
    )
    if not study.trials:
        study.enqueue_trial(base_parameters(search.config, search.space), skip_if_exists=True)
    return study


def _open_journal(out: Path) -> BaseStorage:
    return JournalStorage(JournalFileBackend(str(out / JOURNAL), _JournalLock(out / JOURNAL)))


def _open_database(url: str) -> BaseStorage:
    try:
        return RDBStorage(url)
    except (SQLAlchemyError, ImportError) as problem:
        raise InputError(f"storage {url}: cannot be opened ({str(problem).splitlines()[0]}).") from problem


class _JournalLock(JournalFileOpenLock):
    """Holds the journal itself, where Optuna's own locks outlive a process that is killed and keep others waiting."""

    def __init__(self, journal: Path) -> None:
        super().__init__(str(journal))
        self._journal = journal
        self._held: IO[str] | None = None

    def acquire(self) -> bool:
        self._held = _open_lock(self._journal)
        fcntl.flock(self._held, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None


def _claim(search: Search, study: Study, out: Path, trials: int, *, shared: bool) -> tuple[Trial, IO[str]] | None:
    """A trial to work on and the lock on it; None when there is none left to begin.

    `shared` says that every trial of the study is in `out`: then one that runs and has no lock file is nobody's.
    """
    with _locked(out / LOCK):
        for running in study.get_trials(states=[TrialState.RUNNING]):
            lock = _try_lock(trial_folder(out, running.number), make=shared)
            if lock and running.params.keys() == search.space.keys():
                return Trial(study, running._trial_id), lock  # Optuna has no public way to go on with a trial
            if lock:
                study.tell(running.number, state=TrialState.FAIL)  # killed before it had all its parameters
                lock.close()
        begun = len(study.get_trials(states=[state for state in TrialState if state is not TrialState.WAITING]))
        if begun >= trials:
            return None
        seed = np.random.SeedSequence((search.config.seed, begun)).generate_state(1)
        study.sampler = TPESampler(seed=int(seed[0]))
        trial = study.ask(dict(search.space))
        lock = _try_lock(trial_folder(out, trial.number), make=True)
        assert lock
        return trial, lock


def _try(
    search: Search,
    config: TrainConfig,
    trial: Trial,
    folder: Path,
    fabric: Fabric,
    progress: Progress,
    report: Callable[[str], None],
) -> dict[str, Any]:
    """Train a trial, or go on with it; what the study is to be told."""
    begun = (folder / "config.json").exists()
    if not begun:
        shutil.rmtree(folder, ignore_errors=True)

    def watch(epoch: Epoch, _is_best: bool) -> None:
        report(f"trial {trial.number}, epoch {epoch.epoch}: validation Dice {epoch.validation_dice:.4f}")
        trial.report(epoch.validation_dice, epoch.epoch)
        if trial.should_prune():
            raise optuna.TrialPruned

    try:
        if begun:
            _report_again(trial, folder)
        checkpoint = train(search.open(config), folder, fabric=fabric, resume=begun, progress=progress, report=watch)
    except optuna.TrialPruned:
        return {"state": TrialState.PRUNED}
    except OutputError:
        raise
    except ScanError as problem:
        if config.preprocessing == search.config.preprocessing:
            raise  # damaged data are no trial's fault
        return _failed(trial, problem)
    except (InputError, torch.OutOfMemoryError) as problem:  # such as a grid that scans do not fit on
        return _failed(trial, problem)
    return {"values": float(np.mean(list(checkpoint.training["validation_dice"].values())))}


def _failed(trial: Trial, problem: Exception) -> dict[str, Any]:
    trial.set_user_attr("problem", str(problem))
    return {"state": TrialState.FAIL}


def _report_again(trial: Trial, folder: Path) -> None:
    """Report what was trained and not reported when the process was killed."""
    history = read_json(folder / "last" / HISTORY) if (folder / "last").exists() else []
    for row in history[len(trial.study.trials[trial.number].intermediate_values) :]:
        trial.report(row["validation_dice"], row["epoch"])
    if history and trial.should_prune():
        raise optuna.TrialPruned


def _refuse_failure(study: Study, out: Path) -> None:
    failed = study.get_trials(states=[TrialState.FAIL])
    if len(failed) == len(study.trials):
        problem = failed[-1].user_attrs.get("problem", "killed before it began")
        raise InputError(f"{out}: none of {len(failed)} trials could be trained; the last: {problem}")


def _line(study: Study, trial: FrozenTrial) -> str:
    value = "" if trial.value is None else f", validation Dice {trial.value:.4f}"
    problem = f": {trial.user_attrs['problem']}" if "problem" in trial.user_attrs else ""
    best = f"; best so far {study.best_value:.4f} (trial {study.best_trial.number})" if _completed(study) else ""
    return f"trial {trial.number}: {trial.state.name.lower()}{value}{problem}{best}"


def _completed(study: Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])


def trial_folder(out: Path, number: int) -> Path:
    """Where the run of a trial is."""
    return out / "trials" / f"{number:03d}"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock that all processes of a study share, for the moment that something is decided."""
    with _open_lock(path) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _try_lock(folder: Path, *, make: bool) -> IO[str] | None:
    """The lock on a trial's folder, until it is closed; None where another process has it, or there is none to take."""
    path = folder.with_suffix(".lock")
    if not make and not path.exists():
        return None
    lock = _open_lock(path)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


def _open_lock(path: Path) -> IO[str]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a")
    except OSError as problem:
        raise OutputError(f"{path.parent}: cannot be written ({problem.strerror}).") from problem
