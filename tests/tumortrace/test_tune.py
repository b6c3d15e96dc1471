from __future__ import annotations

import csv
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from PIL import Image

from tumortrace.checkpoint import WEIGHTS, load_checkpoint
from tumortrace.config import build_config
from tumortrace.index import load_index
from tumortrace.progress import silent
from tumortrace.search_space import apply_parameters, build_space
from tumortrace.split import load_split
from tumortrace.tune import PRUNERS, Search, open_search, tune
from tumortrace_runtime.errors import InputError, OutputError, SpecError
from tumortrace_runtime.files import read_json, write_json

# With so low a threshold an untrained network finds something, and each trial something else.
CONFIG: dict[str, Any] = {
    "model": "unet-xs",
    "preprocessing": {"grid_px": [64, 64]},
    "postprocessing": {"threshold": 0.008, "min_lesion_voxels": 0, "fill_holes": False},
    "epochs": 2,
    "steps_per_epoch": 1,
    "batch_size": 2,
    "warmup_steps": 0,
    "ema_decay": 0,
}
SPACE: dict[str, Any] = {
    "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "postprocessing.threshold": {"low": 0.004, "high": 0.02},
    "loss": {"choices": [{"bce": 1, "dice": 1}, {"jaccard": 1}]},
}
TRIALS = 3
MakeSearch = Callable[..., Search]


@pytest.fixture(scope="module")
def make_search(tiny_data: Path) -> MakeSearch:
    def make(
        space: Any = SPACE, fold: int | None = None, progress: Any = silent, pruner: str = "median", **settings: Any
    ) -> Search:
        config = build_config({**CONFIG, **settings})
        index = load_index(tiny_data / "index.json")
        split = load_split(tiny_data / "split.json", index)
        return open_search(config, build_space(space, config), index, split, fold, progress, pruner)

    return make


@pytest.fixture(scope="module")
def search(make_search: MakeSearch) -> Search:
    return make_search()


@pytest.fixture(scope="module")
def whole(search: Search, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study that nothing stopped."""
    out = tmp_path_factory.mktemp("studies") / "whole"
    tune(search, out, TRIALS)
    return out


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "trials.csv").open() as stream:
        return list(csv.DictReader(stream))


def weights(out: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted((out / "trials").glob(f"*/last/{WEIGHTS}"))]


def command(data: Path, out: Path, folder: Path) -> list[str | Path]:
    """The same study as `search`, by the console's program."""
    write_json(folder / "config.json", CONFIG)
    write_json(folder / "space.json", SPACE)
    program: list[str | Path] = [
        sys.executable,
        "-c",
        "from tumortrace.cli import main; main()",
        "tune",
        "--accelerator",
        "cpu",
    ]
    program += ["--data", data / "index.json", "--split", data / "split.json", "-o", out, "--trials", str(TRIALS)]
    return [*program, "--config", folder / "config.json", "--space", folder / "space.json"]


def test_a_study_leaves_all_that_it_promises(search: Search, whole: Path) -> None:
    assert sorted(path.name for path in (whole / "trials").iterdir()) == ["000", "001", "002"]
    assert {path.name for path in whole.iterdir()} == {
        *("best.json", "history.png", "importance.png", "lock", "slices.png", "study.journal"),
        *("trials", "trials.csv", "tune.json"),
    }
    table = rows(whole)
    assert [(row["trial"], row["state"], row["epochs"], row["problem"]) for row in table] == [
        (str(number), "complete", "2", "") for number in range(TRIALS)
    ]
    for row in table:
        checkpoint = load_checkpoint(whole / "trials" / f"{int(row['trial']):03d}" / "best")
        parameters = {key: row[key] for key in SPACE}
        assert build_config(checkpoint.training["config"]) == apply_parameters(search.config, parameters)
        assert float(row["validation_dice"]) == np.mean(list(checkpoint.training["validation_dice"].values()))
        assert checkpoint.training["data"] == search.provenance
    assert len({row["validation_dice"] for row in table}) > 1

    best = max(table, key=lambda row: float(row["validation_dice"]))
    assert build_config(read_json(whole / "best.json")) == apply_parameters(
        search.config, {key: best[key] for key in SPACE}
    )


@pytest.mark.parametrize("name", ["history", "importance", "slices"])
def test_pictures_show_something(name: str, whole: Path) -> None:
    with Image.open(whole / f"{name}.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert min(pixels.shape[:2]) > 200
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 10
    assert (pixels == (0x00, 0x72, 0xB2)).all(axis=-1).sum() > 20  # the trials', or the bars', blue


def test_the_first_trial_is_the_configuration_itself(search: Search, whole: Path) -> None:
    stored = read_json(whole / "trials" / "000" / "config.json")["config"]
    assert build_config(stored) == search.config


def test_only_training_and_validation_cases_are_used(search: Search, whole: Path, tiny_data: Path) -> None:
    split = load_split(tiny_data / "split.json", load_index(tiny_data / "index.json"))
    run = search.open(search.config)
    assert [case.case_id for case in (*run.training, *run.validation)] == [*split.part("train"), *split.part("val")]
    for folder in (whole / "trials").iterdir():
        used = load_checkpoint(folder / "best").training["data"]
        assert not {*used["training_cases"], *used["validation_cases"]} & set(split.part("test"))


def test_cases_are_read_once_unless_they_are_prepared_otherwise(make_search: MakeSearch, tmp_path: Path) -> None:
    labels: list[str] = []

    def heard(names: Sequence[str], label: str) -> AbstractContextManager[Iterable[str]]:
        labels.append(label)
        return nullcontext(names)

    tune(make_search(progress=heard, epochs=1), tmp_path / "once", 2)
    assert labels == ["reading train", "reading val"]

    labels.clear()
    space = {"preprocessing.context": {"choices": [0]}}  # the first trial has it too: 1 is not in the space
    tune(make_search(space, progress=heard, epochs=1), tmp_path / "other", 1)
    assert labels == ["reading train", "reading val"]
    assert load_checkpoint(tmp_path / "other" / "trials" / "000" / "best").preprocessing.context == 0


def test_a_killed_study_goes_on_exactly(search: Search, whole: Path, tiny_data: Path, tmp_path: Path) -> None:
    """`kill -9` at the console's program in its second trial, after the first epoch or at most the second."""
    out = tmp_path / "killed"
    started = command(tiny_data, out, tmp_path)
    with subprocess.Popen(started, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if line.startswith("trial 1, epoch 1:"):
                process.kill()
    assert process.returncode == -signal.SIGKILL, "".join(said)
    assert [row["state"] for row in rows(out)] == ["complete"]

    lines: list[str] = []
    tune(search, out, TRIALS, report=lines.append)

    assert not any(line.startswith(("trial 0", "trial 1, epoch 1:")) for line in lines)
    assert rows(out) == rows(whole)
    assert weights(out) == weights(whole)
    assert not list(out.glob("trials/*.lock"))


def test_a_trial_killed_before_its_first_epoch_goes_on_too(search: Search, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "stopped"

    def stop(_steps: Sequence[int], _label: str) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(search, out, 1, progress=stop)
    (out / "trials" / "000" / "config.json").unlink()  # as if it had ended a moment earlier still
    tune(search, out, 1)
    assert rows(out) == rows(whole)[:1]
    assert weights(out) == weights(whole)[:1]


def test_a_full_disk_fails_no_trial(
    search: Search, whole: Path, files_of_at_most: Callable[[int], AbstractContextManager[None]], tmp_path: Path
) -> None:
    out = tmp_path / "full"
    with files_of_at_most(100_000), pytest.raises(OutputError, match="cannot be written"):
        tune(search, out, 1)
    tune(search, out, 1)
    assert rows(out) == rows(whole)[:1]


def test_two_processes_share_a_study(search: Search, tiny_data: Path, tmp_path: Path) -> None:
    """While this process is at its first trial, another does the others and leaves that one alone."""
    out = tmp_path / "shared"
    ended: list[subprocess.CompletedProcess[str]] = []

    def work_elsewhere(line: str) -> None:
        if line.startswith("trial 0, epoch 1:"):
            started = command(tiny_data, out, tmp_path)
            ended.append(subprocess.run(started, capture_output=True, text=True, check=False))

    study = tune(search, out, TRIALS, report=work_elsewhere)

    (other,) = ended
    assert other.returncode == 0, other.stderr
    assert "1 running, 2 complete" in other.stdout
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * TRIALS
    assert {row["epochs"] for row in rows(out)} == {"2"}


def test_a_study_grows(search: Search, whole: Path, tmp_path: Path) -> None:
    tune(search, tmp_path / "out", 1)
    lines: list[str] = []
    tune(search, tmp_path / "out", 1, report=lines.append)
    assert lines == []
    tune(search, tmp_path / "out", 2)
    assert rows(tmp_path / "out") == rows(whole)[:2]


def test_trials_that_promise_little_are_given_up(make_search: MakeSearch, tmp_path: Path) -> None:
    study = tune(make_search(epochs=3, pruner="hyperband"), tmp_path / "out", 8)

    pruned = study.get_trials(states=[TrialState.PRUNED])
    assert pruned
    assert study.get_trials(states=[TrialState.COMPLETE])
    for trial in pruned:
        row = rows(tmp_path / "out")[trial.number]
        assert (row["state"], row["epochs"]) == ("pruned", str(trial.last_step))
    assert any((trial.last_step or 0) < 3 for trial in pruned)


def test_the_default_gives_up_what_is_below_the_median_after_a_quarter_of_the_epochs() -> None:
    study = optuna.create_study(direction="maximize", pruner=PRUNERS["median"](8))
    for _ in range(5):
        trial = study.ask()
        for epoch in range(1, 9):
            trial.report(0.8, epoch)
        study.tell(trial, 0.8)
    poor, good = study.ask(), study.ask()
    given_up = []
    for epoch in range(1, 4):
        poor.report(0.1, epoch)
        good.report(0.9, epoch)
        given_up.append((poor.should_prune(), good.should_prune()))
    assert given_up == [(False, False), (True, False), (True, False)]


def test_a_trial_that_cannot_be_trained_stops_no_other(make_search: MakeSearch, tmp_path: Path) -> None:
    space = {"preprocessing.grid_px": {"choices": [[64, 64], [32, 32]]}}
    lines: list[str] = []
    tune(make_search(space, epochs=1), tmp_path / "out", 4, report=lines.append)

    table = rows(tmp_path / "out")
    assert {(row["preprocessing.grid_px"], row["state"]) for row in table} == {
        ("[64, 64]", "complete"),
        ("[32, 32]", "fail"),
    }
    assert all("takes at most 32x32 px" in row["problem"] for row in table if row["state"] == "fail")
    assert any("fail: " in line and "takes at most 32x32 px" in line for line in lines)


def test_a_study_without_a_trained_trial_is_an_error(make_search: MakeSearch, tmp_path: Path) -> None:
    search = make_search({"preprocessing.grid_px": {"choices": [[32, 32]]}})
    with pytest.raises(InputError, match=r"none of 2 trials could be trained; the last: .*takes at most 32x32 px"):
        tune(search, tmp_path / "out", 2)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"space": {**SPACE, "loss": {"choices": [{"jaccard": 1}]}}},
            r"another space\.loss\.attributes\.choices; resume with the same",
        ),
        ({"space": {"learning_rate": SPACE["learning_rate"]}}, r"space\.loss, space\.postprocessing\.threshold"),
        ({"seed": 1, "epochs": 3}, r"another config\.epochs, config\.seed"),
        ({"fold": 0}, r"another data\.fold"),
        ({"pruner": "none"}, "another pruner"),
    ],
)
def test_another_search_does_not_go_on(change: dict[str, Any], told: str, make_search: MakeSearch, whole: Path) -> None:
    before = (whole / "study.journal").read_bytes()
    with pytest.raises(SpecError, match=told):
        tune(make_search(**change), whole, TRIALS + 1)
    assert (whole / "study.journal").read_bytes() == before


def test_other_data_do_not_go_on(search: Search, whole: Path) -> None:
    other = replace(search, provenance={**search.provenance, "split_sha256": "0" * 64})
    with pytest.raises(SpecError, match=r"another data\.split_sha256"):
        tune(other, whole, TRIALS)


@pytest.mark.parametrize("part", ["training_cases", "validation_cases"])
def test_a_split_without_cases_is_refused(part: str, search: Search, tmp_path: Path) -> None:
    empty = replace(search, provenance={**search.provenance, part: []})
    with pytest.raises(SpecError, match=f"{part} is "):
        tune(empty, tmp_path / "out", 1)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_else_is_refused(search: Search, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"already exists, with notes\.txt and no tune\.json"):
        tune(search, tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_machines_without_a_common_folder_share_a_database(search: Search, whole: Path, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    tune(search, tmp_path / "one", 1, storage=storage)
    study = tune(search, tmp_path / "two", TRIALS, storage=storage)

    assert [trial.number for trial in study.trials] == [0, 1, 2]
    folders = {name: sorted(path.name for path in (tmp_path / name / "trials").iterdir()) for name in ("one", "two")}
    assert folders == {"one": ["000"], "two": ["001", "002"]}
    assert rows(tmp_path / "two") == rows(whole)
    assert (tmp_path / "two" / "best.json").read_bytes() == (whole / "best.json").read_bytes()


def test_a_trial_of_another_machine_is_left_alone(search: Search, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"

    def work_elsewhere(line: str) -> None:
        if line.startswith("trial 0, epoch 1:"):
            tune(search, tmp_path / "two", 2, storage=storage)

    study = tune(search, tmp_path / "one", 2, storage=storage, report=work_elsewhere)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 2
    assert [path.name for path in (tmp_path / "two" / "trials").iterdir()] == ["001"]


def test_a_storage_that_cannot_be_opened_is_refused(search: Search, tmp_path: Path) -> None:
    for url in ("nonsense", f"sqlite:///{tmp_path}/no/folder.db", "oracle+nothing://x"):
        with pytest.raises(InputError, match=re.escape(f"storage {url}: cannot be opened")):
            tune(search, tmp_path / "out", 1, storage=url)


def test_optuna_itself_reads_the_study(whole: Path) -> None:
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(whole / "study.journal")))
    (summary,) = optuna.get_all_study_summaries(storage)
    assert summary.n_trials == TRIALS
