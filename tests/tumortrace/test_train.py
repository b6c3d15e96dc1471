from __future__ import annotations

import csv
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import nn

from tumortrace.checkpoint import WEIGHTS, load_checkpoint
from tumortrace.config import TrainConfig, build_config
from tumortrace.run import Run
from tumortrace.state import HISTORY, MOMENTS, TRAINED, Epoch
from tumortrace.train import (
    best_epoch,
    build_optimizer,
    droppable_sequences,
    learning_rate_at,
    out_of_patience,
    train,
)
from tumortrace_runtime.errors import CheckpointError, InputError, OutputError, SpecError
from tumortrace_runtime.files import read_json

SETTINGS = {"epochs": 4, "steps_per_epoch": 2, "batch_size": 4, "warmup_steps": 3}
MakeRun = Callable[..., Run]


@pytest.fixture(scope="module")
def run(tiny_run: MakeRun) -> Run:
    return tiny_run(**SETTINGS)


@pytest.fixture(scope="module")
def whole(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing stopped."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    train(run, out)
    return out


def weights(out: Path, which: str = "last") -> bytes:
    return (out / which / WEIGHTS).read_bytes()


def with_settings(run: Run, **settings: Any) -> Run:
    return replace(run, config=replace(run.config, **settings))


def test_a_run_leaves_all_that_it_promises(run: Run, whole: Path) -> None:
    assert sorted(file.name for file in whole.iterdir()) == ["best", "config.json", "curves.png", "last", "metrics.csv"]
    assert build_config(read_json(whole / "config.json")["config"]) == run.config

    checkpoint = load_checkpoint(whole / "best")
    assert checkpoint.preprocessing == run.config.preprocessing
    assert checkpoint.postprocessing == run.config.postprocessing
    assert checkpoint.training["data"] == run.provenance
    assert set(checkpoint.training["validation_dice"]) == set(run.provenance["validation_cases"])
    assert build_config(checkpoint.training["config"]) == run.config
    assert checkpoint.training["versions"]["torch"] == torch.__version__


def test_metrics_have_a_row_for_each_epoch(run: Run, whole: Path) -> None:
    with (whole / "metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))

    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4]
    for row in rows:
        assert float(row["learning_rate"]) == learning_rate_at(2 * int(row["epoch"]) - 1, run.config)
        assert 0 <= float(row["worst_dice"]) <= float(row["validation_dice"]) <= 1
        assert float(row["train_loss"]) > 0
    history = read_json(whole / "last" / HISTORY)
    assert [{name: str(value) for name, value in row.items()} for row in history] == rows


def test_curves_are_a_picture(whole: Path) -> None:
    with Image.open(whole / "curves.png") as picture:
        assert picture.format == "PNG"
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 20


def test_two_runs_give_the_same_bits(run: Run, whole: Path, tmp_path: Path) -> None:
    torch.manual_seed(99)
    train(run, tmp_path / "again")
    for which in ("best", "last"):
        assert weights(tmp_path / "again", which) == weights(whole, which)
    assert (tmp_path / "again" / "last" / MOMENTS).read_bytes() == (whole / "last" / MOMENTS).read_bytes()


def test_another_seed_gives_another_network(run: Run, whole: Path, tmp_path: Path) -> None:
    train(with_settings(run, seed=1, epochs=1), tmp_path / "other")
    assert weights(tmp_path / "other") != weights(whole)


def test_a_killed_run_goes_on_exactly(run: Run, whole: Path, tiny_data: Path, tmp_path: Path) -> None:
    """`kill -9` at the console's program in its second epoch, or at most its third."""
    out = tmp_path / "killed"
    settings = {**SETTINGS, "model": "unet-xs", "preprocessing.grid_px": [64, 64]}
    command = [sys.executable, "-c", "from tumortrace.cli import main; main()", "train"]
    command += ["--data", tiny_data / "index.json", "--split", tiny_data / "split.json", "-o", out]
    command += [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if re.match(r"epoch +1 +loss", line):
                process.kill()
    assert process.returncode == -signal.SIGKILL, "".join(said)
    assert 1 <= len(read_json(out / "last" / HISTORY)) < 4

    epochs: list[int] = []
    train(run, out, resume=True, report=lambda epoch, _: epochs.append(epoch.epoch))

    assert epochs[-1] == 4
    assert 1 not in epochs
    for which in ("best", "last"):
        assert weights(out, which) == weights(whole, which)
    assert (out / "last" / MOMENTS).read_bytes() == (whole / "last" / MOMENTS).read_bytes()
    without_time = [[{**row, "seconds": 0} for row in read_json(folder / "last" / HISTORY)] for folder in (out, whole)]
    assert without_time[0] == without_time[1]


def test_a_run_killed_before_its_first_epoch_goes_on_too(run: Run, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "stopped"

    def stop(_steps: Sequence[int], _label: str) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(run, out, progress=stop)
    assert [file.name for file in out.iterdir()] == ["config.json"]
    train(run, out, resume=True)
    assert weights(out) == weights(whole)


def test_a_finished_run_is_resumed_to_nothing(run: Run, whole: Path) -> None:
    before = weights(whole), (whole / "metrics.csv").read_bytes()
    checkpoint = train(run, whole, resume=True, report=lambda epoch, best: pytest.fail("trained on"))
    assert (weights(whole), (whole / "metrics.csv").read_bytes()) == before
    assert checkpoint.training["epoch"] == load_checkpoint(whole / "best").training["epoch"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [({"epochs": 5}, r"config\.epochs"), ({"seed": 1, "learning_rate": 1.0}, r"config\.learning_rate, config\.seed")],
)
def test_another_configuration_is_not_resumed(settings: dict[str, Any], told: str, run: Run, whole: Path) -> None:
    with pytest.raises(SpecError, match=f"was begun with another {told}; resume with the same"):
        train(with_settings(run, **settings), whole, resume=True)


def test_other_data_is_not_resumed(run: Run, whole: Path) -> None:
    other = replace(run, provenance={**run.provenance, "split_sha256": "0" * 64})
    with pytest.raises(SpecError, match=r"another data\.split_sha256"):
        train(other, whole, resume=True)


def test_a_folder_that_is_there_is_refused(run: Run, whole: Path) -> None:
    before = weights(whole)
    with pytest.raises(OutputError, match="already exists; go on with --resume"):
        train(run, whole)
    assert weights(whole) == before


def test_nothing_to_resume_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no config\.json, so there is nothing to resume"):
        train(run, tmp_path / "none", resume=True)


def test_a_damaged_state_is_refused(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "damaged"
    train(with_settings(run, epochs=1), out)
    moments = out / "last" / MOMENTS
    moments.write_bytes(moments.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match=rf"{MOMENTS}: cannot be read"):
        train(with_settings(run, epochs=1), out, resume=True)


def test_a_damaged_history_is_refused(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "damaged"
    train(with_settings(run, epochs=1), out)
    (out / "last" / HISTORY).write_text('[{"epochs": 1}]')
    with pytest.raises(CheckpointError, match=rf"{HISTORY}: is not a list of epochs"):
        train(with_settings(run, epochs=1), out, resume=True)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda run: with_settings(run, model="unet-xl"), "'unet-xl'"),
        (lambda run: with_settings(run, loss={"focal": 1.0}), "loss is 'focal'"),
        (
            lambda run: with_settings(run, preprocessing=replace(run.config.preprocessing, grid_px=(64, 72))),
            "multiples of 16 wanted",
        ),
        (
            lambda run: with_settings(run, augmentation=replace(run.config.augmentation, patch_px=40)),
            "augmentation.patch_px is 40; multiples of 16 wanted",
        ),
        (lambda run: with_settings(run, distillation=0.5), r"distillation is 0\.5; 0 \(no teacher is given\) wanted"),
        (lambda run: replace(run, training=[]), "0 training and 2 validation cases given"),
        (lambda run: replace(run, validation=[]), "2 training and 0 validation cases given"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(
    change: Callable[[Run], Run], told: str, run: Run, tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match=told):
        train(change(run), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_deep_supervision_and_no_average_are_resumed_exactly_too(run: Run, tmp_path: Path) -> None:
    config = with_settings(run, deep_supervision=0.5, ema_decay=0.0, epochs=2)
    train(config, tmp_path / "whole")

    def stop(epoch: Epoch, _best: bool) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "stopped", report=stop)
    train(config, tmp_path / "stopped", resume=True)
    for file in (WEIGHTS, TRAINED, MOMENTS):
        assert (tmp_path / "stopped" / "last" / file).read_bytes() == (tmp_path / "whole" / "last" / file).read_bytes()


def test_the_average_is_what_is_kept(run: Run, whole: Path) -> None:
    kept = load_checkpoint(whole / "last").weights
    trained = safetensors.torch.load_file(whole / "last" / TRAINED)
    name = "head.weight"
    assert not torch.equal(kept[name], trained[f"network.{name}"])


def test_without_an_average_the_trained_weights_are_kept(run: Run, tmp_path: Path) -> None:
    train(with_settings(run, epochs=1, ema_decay=0.0), tmp_path / "out")
    kept = load_checkpoint(tmp_path / "out" / "last").weights
    trained = safetensors.torch.load_file(tmp_path / "out" / "last" / TRAINED)
    assert all(torch.equal(tensor, trained[f"network.{name}"]) for name, tensor in kept.items())


def test_heads_of_deep_supervision_are_trained_and_not_kept(run: Run, tmp_path: Path) -> None:
    train(with_settings(run, epochs=1, deep_supervision=0.5), tmp_path / "out")
    trained = safetensors.torch.load_file(tmp_path / "out" / "last" / TRAINED)
    heads = [tensor for name, tensor in trained.items() if name.startswith("heads.") and name.endswith("bias")]
    assert heads
    assert all((bias + 4.595).abs().max() > 1e-4 for bias in heads)  # logit(0.01) is where they began
    assert not any(name.startswith("heads.") for name in load_checkpoint(tmp_path / "out" / "best").weights)


def test_patience_stops_and_the_best_epoch_is_kept(run: Run, tmp_path: Path) -> None:
    # At a learning rate of 1e-9 the network stays as it is: no epoch is better than the first.
    still = with_settings(run, learning_rate=1e-9, epochs=10, steps_per_epoch=1, patience=2, warmup_steps=0)
    reports: list[tuple[int, bool]] = []
    checkpoint = train(still, tmp_path / "out", report=lambda epoch, best: reports.append((epoch.epoch, best)))

    assert reports == [(1, True), (2, False), (3, False)]
    assert checkpoint.training["epoch"] == 1


def test_bf16_trains_and_repeats(run: Run, tmp_path: Path) -> None:
    short = with_settings(run, precision="bf16", epochs=1)
    for name in ("one", "two"):
        train(short, tmp_path / name)
    assert weights(tmp_path / "one") == weights(tmp_path / "two")
    assert all(tensor.dtype != torch.bfloat16 for tensor in load_checkpoint(tmp_path / "one" / "last").weights.values())


def history(*scores: float) -> list[Epoch]:
    return [Epoch(number, 1e-3, 0.5, score, score, 1.0) for number, score in enumerate(scores, start=1)]


def test_the_best_epoch_is_the_first_of_the_highest() -> None:
    assert best_epoch(history(0.1, 0.5, 0.3, 0.5)).epoch == 2


@pytest.mark.parametrize(
    ("scores", "patience", "stops"),
    [
        ((), 1, False),
        ((0.5,), 1, False),
        ((0.5, 0.5), 1, True),
        ((0.5, 0.4), 2, False),
        ((0.5, 0.4, 0.3), 2, True),
        ((0.5, 0.4, 0.6), 2, False),
        ((0.5, 0.4, 0.3), 0, False),
    ],
)
def test_patience(scores: tuple[float, ...], patience: int, stops: bool) -> None:
    assert out_of_patience(history(*scores), patience) is stops


def test_the_learning_rate_warms_up_and_falls_to_0() -> None:
    config = TrainConfig(learning_rate=0.4, warmup_steps=4, epochs=2, steps_per_epoch=6)
    rates = [learning_rate_at(step, config) for step in range(13)]

    assert rates[:5] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4])
    assert rates[8] == pytest.approx(0.2)
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[11] > 0
    assert rates[12] == pytest.approx(0)


def test_a_warm_up_longer_than_the_run_is_all_warm_up() -> None:
    config = TrainConfig(learning_rate=1.0, warmup_steps=100, epochs=1, steps_per_epoch=4)
    assert learning_rate_at(3, config) == pytest.approx(0.04)


def test_weight_decay_leaves_vectors_alone() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    decayed, spared = build_optimizer(network, TrainConfig(optimizer="adamw", weight_decay=0.1)).param_groups

    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    assert [parameter.ndim for parameter in decayed["params"]] == [4]
    assert [parameter.ndim for parameter in spared["params"]] == [1, 1, 1]
    (adam,) = build_optimizer(network, TrainConfig(optimizer="adam")).param_groups
    assert adam["weight_decay"] == 0


def test_the_flair_is_never_dropped() -> None:
    config = build_config({"preprocessing": {"channels": ["t1", "t1ce", "flair", "t2"]}})
    assert droppable_sequences(config) == (0, 1, 3)
