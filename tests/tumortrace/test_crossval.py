from __future__ import annotations

import fcntl
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tumortrace.checkpoint import load_checkpoint
from tumortrace.cli import main
from tumortrace.config import TrainConfig, build_config
from tumortrace.crossval import CrossValidation, open_crossval, pool, run_fold
from tumortrace.index import Index, load_index
from tumortrace.report import read_cases
from tumortrace.split import Split, load_split, make_split
from tumortrace.state import Epoch
from tumortrace_runtime.errors import InputError, OutputError, SpecError
from tumortrace_runtime.files import read_json

SMALL = {"model": "unet-xs", "epochs": 1, "steps_per_epoch": 2, "batch_size": 2, "preprocessing": {"grid_px": [64, 64]}}


@pytest.fixture(scope="session")
def index(tiny_data: Path) -> Index:
    return load_index(tiny_data / "index.json")


@pytest.fixture(scope="session")
def split(tiny_data: Path, index: Index) -> Split:
    return load_split(tiny_data / "split.json", index)


@pytest.fixture(scope="session")
def begin(index: Index, split: Split) -> Callable[..., CrossValidation]:
    """Opens a cross-validation of the tiny data in a folder."""
    small = build_config(SMALL)
    return lambda out, config=small, **given: open_crossval(out, config, index, split, **given)


@pytest.fixture(scope="session")
def finished(made_once: Callable[..., Path], begin: Callable[..., CrossValidation]) -> Path:
    """A folder with both folds done and pooled; a test that changes it copies it first."""

    def make(out: Path) -> None:
        crossval = begin(out)
        for fold in (0, 1):
            run_fold(crossval, fold)
        pool(crossval)

    return made_once("crossval", make)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_case_is_tested_once_by_a_network_that_never_saw_it(finished: Path, index: Index) -> None:
    tested = []
    for fold in (0, 1):
        names = [case.case_id for case in read_cases(finished / f"fold-{fold}" / "test")]
        data = load_checkpoint(finished / f"fold-{fold}" / "checkpoint").training["data"]
        assert not {*names} & {*data["training_cases"], *data["validation_cases"]}
        tested += names

    assert sorted(tested) == [case.case_id for case in index.cases]
    assert [case.case_id for case in read_cases(finished / "pooled")] == sorted(tested)


def test_the_pooled_report_sums_up_all_folds(finished: Path, index: Index, split: Split) -> None:
    summary = read_json(finished / "pooled" / "summary.json")
    pooled = {case.case_id: case for case in read_cases(finished / "pooled")}

    for fold in (0, 1):
        cases = read_cases(finished / f"fold-{fold}" / "test")
        assert all(pooled[case.case_id] == case for case in cases)
        assert summary["folds"][fold]["mean_dice"] == pytest.approx(sum(case.dice for case in cases) / len(cases))
    assert summary["cases"] == len(index.cases)
    assert summary["metrics"]["dice"]["mean"] == pytest.approx(sum(case.dice for case in pooled.values()) / len(pooled))
    assert {sum(each["cases"] for each in group.values()) for group in summary["strata"]["dice"].values()} == {6}
    assert summary["about"] == read_json(finished / "crossval.json")
    assert (summary["about"]["index_sha256"], summary["about"]["split_sha256"]) == (index.sha256, split.sha256)


def test_a_fold_that_is_done_is_never_scored_again(
    finished: Path, tmp_path: Path, begin: Callable[..., CrossValidation]
) -> None:
    copied = Path(shutil.copytree(finished, tmp_path / "copied"))
    for work in ("run", "checkpoint"):
        shutil.rmtree(copied / "fold-0" / work)
    before = content(copied)
    cases = run_fold(begin(copied), 0)

    assert cases == read_cases(finished / "fold-0" / "test")
    assert content(copied) == before


def test_a_fold_that_is_trained_is_only_tested(
    finished: Path, tmp_path: Path, begin: Callable[..., CrossValidation]
) -> None:
    copied = Path(shutil.copytree(finished, tmp_path / "copied"))
    shutil.rmtree(copied / "fold-1" / "test")

    def never(epoch: Epoch, is_best: bool) -> None:
        raise AssertionError("it was trained again")

    assert begin(copied).missing() == [1]
    assert run_fold(begin(copied), 1, resume=True, report=never) == read_cases(finished / "fold-1" / "test")


def test_a_fold_that_was_stopped_goes_on_with_resume(tmp_path: Path, begin: Callable[..., CrossValidation]) -> None:
    crossval = begin(tmp_path / "cv", build_config({**SMALL, "epochs": 2}))
    epochs = []

    def stop(epoch: Epoch, is_best: bool) -> None:
        epochs.append(epoch.epoch)
        if len(epochs) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_fold(crossval, 0, report=stop)
    with pytest.raises(OutputError, match="fold-0: was begun already; go on with --resume"):
        run_fold(crossval, 0)
    run_fold(crossval, 0, resume=True, report=stop)
    assert epochs == [1, 2]
    assert crossval.missing() == [1]


def test_with_a_fold_missing_nothing_is_pooled(
    finished: Path, tmp_path: Path, begin: Callable[..., CrossValidation]
) -> None:
    copied = Path(shutil.copytree(finished, tmp_path / "copied"))
    for gone in ("fold-1", "pooled"):
        shutil.rmtree(copied / gone)

    with pytest.raises(InputError, match="fold 1 not done; nothing to pool"):
        pool(begin(copied))
    assert not (copied / "pooled").exists()


def test_a_fold_that_another_process_works_on_is_refused(tmp_path: Path, begin: Callable[..., CrossValidation]) -> None:
    crossval = begin(tmp_path / "cv")
    crossval.folder(0).mkdir()
    with (crossval.folder(0) / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(OutputError, match="fold-0: another process works on it"):
            run_fold(crossval, 0, resume=True)
    assert not (crossval.folder(0) / "run").exists()


@pytest.mark.parametrize(
    ("config", "seeds", "told"),
    [
        (build_config({**SMALL, "epochs": 3}), (), "another config.epochs; resume"),
        (build_config(SMALL, ["seed=4", "augmentation.flip=0"]), (), "config.augmentation.flip, config.seed, seeds;"),
        (build_config(SMALL), (0, 1), "another seeds;"),
    ],
)
def test_going_on_with_something_else_is_refused(
    finished: Path, begin: Callable[..., CrossValidation], config: TrainConfig, seeds: tuple[int, ...], told: str
) -> None:
    with pytest.raises(SpecError, match=told):
        begin(finished, config, seeds=seeds)


def test_another_split_is_refused(finished: Path, index: Index, split: Split) -> None:
    other = make_split(index, seed=split.seed + 1, folds=2, fractions=split.fractions)
    with pytest.raises(SpecError, match="another split_sha256"):
        open_crossval(finished, build_config(SMALL), index, other)


def test_a_split_without_folds_is_refused(tmp_path: Path, index: Index, split: Split) -> None:
    with pytest.raises(SpecError, match="the split has no folds"):
        open_crossval(tmp_path / "cv", build_config(SMALL), index, replace(split, folds=()))
    assert not (tmp_path / "cv").exists()


def test_a_folder_of_something_else_is_refused(tmp_path: Path, begin: Callable[..., CrossValidation]) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(OutputError, match="holds something else"):
        begin(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_report_of_another_fold_is_refused(
    finished: Path, tmp_path: Path, begin: Callable[..., CrossValidation]
) -> None:
    copied = Path(shutil.copytree(finished, tmp_path / "copied"))
    shutil.rmtree(copied / "fold-1" / "test")
    shutil.copytree(copied / "fold-0" / "test", copied / "fold-1" / "test")
    with pytest.raises(InputError, match="is not of the test part of fold 1"):
        pool(begin(copied))


def test_seeds_make_an_ensemble_and_a_teacher_teaches_its_fold(
    finished: Path, tmp_path: Path, begin: Callable[..., CrossValidation]
) -> None:
    config = build_config({**SMALL, "distillation": 0.5})
    crossval = begin(tmp_path / "cv", config, seeds=(3, 5), teacher=finished)
    cases = run_fold(crossval, 1)
    members = [load_checkpoint(crossval.folder(1) / f"seed-{seed}" / "checkpoint") for seed in (3, 5)]

    assert [member.training["config"]["seed"] for member in members] == [3, 5]
    taught_by = read_json(finished / "fold-1" / "checkpoint" / "checkpoint.json")["weights_sha256"]
    assert [member.training["data"]["teachers"] for member in members] == [[taught_by]] * 2
    about = read_json(crossval.report(1) / "summary.json")["about"]
    assert (about["fold"], about["part"], len(about["checkpoints_sha256"])) == (1, "test", 2)
    assert {case.case_id for case in cases} == set(crossval.split.part("test", 1))


def test_a_seed_given_twice_is_refused(tmp_path: Path, begin: Callable[..., CrossValidation]) -> None:
    with pytest.raises(SpecError, match="seeds 1, 1 given; each once"):
        begin(tmp_path / "cv", seeds=(1, 1))


def test_a_teacher_that_is_not_done_is_refused(tmp_path: Path, begin: Callable[..., CrossValidation]) -> None:
    begin(tmp_path / "teacher")
    crossval = begin(tmp_path / "cv", build_config({**SMALL, "distillation": 0.5}), teacher=tmp_path / "teacher")
    with pytest.raises(InputError, match="teacher/fold-0: is not done"):
        run_fold(crossval, 0)


@pytest.fixture
def command(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs the program `tumortrace crossval` with a small configuration; its exit code, stdout and stderr."""
    (tmp_path / "small.json").write_text(json.dumps(SMALL))
    data = (
        "--data",
        tiny_data / "index.json",
        "--split",
        tiny_data / "split.json",
        "--config",
        tmp_path / "small.json",
    )

    def run(*arguments: Any) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tumortrace", "crossval", *map(str, (*data, *arguments))])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


def test_the_command_pools_what_is_done(
    command: Callable[..., tuple[int, str, str]], finished: Path, tmp_path: Path
) -> None:
    copied = Path(shutil.copytree(finished, tmp_path / "copied"))
    shutil.rmtree(copied / "pooled")
    code, out, err = command("-o", copied, "--json")
    result = json.loads(out)

    assert code == 0, err
    assert "fold 0: tested before" in err
    assert result["missing_folds"] == []
    assert result["pooled"] == read_json(copied / "pooled" / "summary.json")
    for fold, pooled in enumerate(result["pooled"]["folds"]):
        assert result["folds"][str(fold)] == {name: pooled[name] for name in ("cases", "mean_dice", "median_dice")}
        assert pooled["about"] == read_json(copied / f"fold-{fold}" / "test" / "summary.json")["about"]
    code, out, _ = command("-o", copied)
    assert code == 0
    assert "site: " in out
    assert out.endswith(f"{copied}/pooled: 6 cases, each tested by a fold that never saw its patient\n")


def test_the_command_names_the_folds_that_are_missing(
    command: Callable[..., tuple[int, str, str]], finished: Path, tmp_path: Path
) -> None:
    copied = Path(shutil.copytree(finished, tmp_path / "copied"))
    shutil.rmtree(copied / "fold-0")
    code, out, _ = command("-o", copied, "--folds", "1")

    assert code == 0
    assert out.endswith("fold 0 not done, so nothing is pooled yet\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--folds", "0,7"), "There is no fold 7"),
        (("--folds", "first"), "whole numbers such as 0,2 wanted"),
        (("--set", "epoch=2"), "setting epoch does not exist"),
        (("--set", "preprocessing.grid_px=[64,72]"), "preprocessing.grid_px is 64x72; multiples of 16 wanted"),
        (("--set", "distillation=1"), "0 (no teacher is given) wanted"),
        (("--teacher", "nowhere", "--set", "distillation=1"), "nowhere/crossval.json: cannot be read"),
        (("--accelerator", "abacus"), "accelerator is 'abacus'"),
    ],
)
def test_wrong_input_ends_with_2_and_leaves_nothing(
    command: Callable[..., tuple[int, str, str]], tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    code, out, err = command("-o", tmp_path / "cv", *arguments)

    assert (code, out) == (2, "")
    assert told in err
    assert "Traceback" not in err
    assert not (tmp_path / "cv").exists()
