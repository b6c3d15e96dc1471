from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch

from tumortrace.augment import Augmentation
from tumortrace.checkpoint import CONFIG, WEIGHTS, Checkpoint, load_checkpoint
from tumortrace.index import Index
from tumortrace.split import Split
from tumortrace.state import Epoch
from tumortrace_export.export import export
from tumortrace_export.gate import Gate
from tumortrace_export.onnx_model import onnx_model
from tumortrace_export.overflow import probed
from tumortrace_export.qat import FineTuning, QatConfig, build_qat_config, fine_tune, open_fine_tuning
from tumortrace_export.quantise import activations, quantise
from tumortrace_export.ranges import Batch, amax, collect
from tumortrace_export.settings import Settings
from tumortrace_export.value_names import from_lasting
from tumortrace_runtime.bundle import Bundle, open_bundle
from tumortrace_runtime.errors import CheckpointError, DatasetError, OutputError, SpecError

Floats = npt.NDArray[np.float32]
MakeOnce = Callable[[str, Callable[[Path], object]], Path]
OVERRIDES = ["epochs=2", "steps_per_epoch=5", "batch_size=4", "learning_rate=1e-3", "scale_rate=1e-2"]
LENIENT = Settings(precisions=["fp32", "int8"], formats=["openvino"], gate=Gate(1, 1))


@pytest.fixture(scope="module")
def task(checkpoint: Checkpoint, index: Index, split: Split) -> FineTuning:
    return open_fine_tuning(checkpoint, build_qat_config(checkpoint, OVERRIDES), index, split)


@pytest.fixture(scope="module")
def whole(task: FineTuning, made_once: MakeOnce) -> Path:
    """The folder of a fine-tuning that nothing stopped."""
    return made_once("tiny-qat", lambda out: fine_tune(task, out))


@pytest.fixture(scope="module")
def tuned(whole: Path) -> Checkpoint:
    return load_checkpoint(whole / "best")


@pytest.fixture(scope="module")
def model(tuned: Checkpoint) -> onnx.ModelProto:
    """Its network as FP32 ONNX."""
    return onnx_model(tuned.network(), tuned.preprocessing.in_channels, tuned.preprocessing.grid_px)


@pytest.fixture(scope="module")
def bundle(tuned: Checkpoint, index: Index, split: Split, made_once: MakeOnce) -> Bundle:
    return open_bundle(made_once("tuned.bundle", lambda out: export(tuned, index, split, out, LENIENT)))


@pytest.fixture(scope="module")
def calibrated(onnx_file: Path, calibration: Callable[[], Iterator[Batch]]) -> dict[str, float]:
    """What the activations of the network as it was are clipped at without fine-tuning."""
    histograms = collect(onnx_file, activations(onnx.load(onnx_file)), calibration)
    return {name: amax(each, "percentile") for name, each in histograms.items()}


def with_settings(task: FineTuning, **settings: Any) -> FineTuning:
    return replace(task, config=replace(task.config, **settings))


def test_a_run_leaves_what_a_training_does(whole: Path, task: FineTuning) -> None:
    assert sorted(file.name for file in whole.iterdir()) == ["best", "config.json", "curves.png", "last", "metrics.csv"]
    assert len((whole / "metrics.csv").read_text().splitlines()) == 1 + task.config.epochs


def test_the_checkpoint_says_what_it_was_made_of(tuned: Checkpoint, checkpoint: Checkpoint, task: FineTuning) -> None:
    assert {**tuned.training, "qat": None} == {**checkpoint.training, "qat": None}
    qat = tuned.training["qat"]
    assert QatConfig(**{**qat["config"], "augmentation": task.config.augmentation}) == task.config
    assert qat["data"] == task.run.provenance
    assert qat["start"]["calibration_cases"] == sorted(task.run.provenance["training_cases"])
    assert set(qat["validation_dice"]) == set(qat["start_dice"]) == set(task.run.provenance["validation_cases"])
    assert (tuned.preprocessing, tuned.postprocessing) == (checkpoint.preprocessing, checkpoint.postprocessing)


def test_weights_and_scales_are_learned(
    tuned: Checkpoint, checkpoint: Checkpoint, model: onnx.ModelProto, calibrated: dict[str, float]
) -> None:
    assert tuned.quantisation is not None
    learned = from_lasting(model, tuned.quantisation.magnitudes, activations(model))
    changes = [abs(learned[name] / magnitude - 1) for name, magnitude in calibrated.items()]
    assert min(changes) > 0 and 1e-3 < max(changes) < 0.2
    assert not torch.equal(tuned.weights["head.weight"], checkpoint.weights["head.weight"])


def test_what_fp16_must_hold_is_measured(
    tuned: Checkpoint, model: onnx.ModelProto, calibration: Callable[[], Iterator[Batch]], tmp_path: Path
) -> None:
    onnx.save(model, tmp_path / "model.onnx")
    assert tuned.quantisation is not None
    peaks = from_lasting(model, tuned.quantisation.peaks, probed(model))
    histograms = collect(tmp_path / "model.onnx", probed(model), calibration)
    assert peaks == pytest.approx({name: each.peak for name, each in histograms.items()}, rel=1e-4)


def test_the_float_network_teaches(
    task: FineTuning, slices: Floats, onnx_file: Path, run_model: Callable[..., Floats], tmp_path: Path
) -> None:
    expected = run_model(onnx.load(onnx_file), slices)

    def error(distillation: float) -> float:
        taught = with_settings(task, distillation=distillation, epochs=1)
        network = fine_tune(taught, tmp_path / str(distillation)).network()
        with torch.no_grad():
            return float(np.square(network(torch.from_numpy(slices)).numpy() - expected).mean())

    assert error(1000.0) < 0.5 * error(0.0)


def test_a_resumed_run_comes_to_the_same_bytes(task: FineTuning, whole: Path, tmp_path: Path) -> None:
    def stop(epoch: Epoch, best: bool) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fine_tune(task, tmp_path / "run", report=stop)
    fine_tune(task, tmp_path / "run", resume=True)
    for file in (f"{folder}/{name}" for folder in ("best", "last") for name in (WEIGHTS, CONFIG)):
        assert (tmp_path / "run" / file).read_bytes() == (whole / file).read_bytes(), file


def test_a_run_is_gone_on_with_only_as_it_was_begun(task: FineTuning, whole: Path) -> None:
    with pytest.raises(OutputError, match="already exists; go on with --resume"):
        fine_tune(task, whole)
    with pytest.raises(SpecError, match=r"was begun with another config\.seed; resume with the same"):
        fine_tune(with_settings(task, seed=5), whole, resume=True)


def test_an_export_calibrates_nothing(bundle: Bundle, tuned: Checkpoint, model: onnx.ModelProto) -> None:
    calibration = bundle.manifest["calibration"]
    assert (calibration["method"], calibration["cases"], calibration["slices_per_case"]) == ("qat", [], 0)
    assert list(calibration["tried"]) == ["qat"]
    assert tuned.quantisation is not None
    magnitudes = from_lasting(model, tuned.quantisation.magnitudes, activations(model))
    assert onnx.load(bundle.path / "model.int8.onnx") == quantise(model, magnitudes)


def test_what_was_validated_is_what_is_exported(bundle: Bundle, tuned: Checkpoint) -> None:
    (row,) = (
        each for each in bundle.manifest["artefacts"] if (each["backend"], each["precision"]) == ("openvino", "int8")
    )
    assert row["accuracy"]["case_dice"] == pytest.approx(tuned.training["qat"]["validation_dice"], abs=5e-3)
    assert min(row["accuracy"]["case_dice"].values()) > 0.3


def test_a_method_by_name_wins_over_what_was_learned(
    tuned: Checkpoint, index: Index, split: Split, tmp_path: Path
) -> None:
    export(tuned, index, split, tmp_path / "tiny.bundle", replace(LENIENT, formats=["onnx"], calibration="minmax"))
    calibration = open_bundle(tmp_path / "tiny.bundle").manifest["calibration"]
    assert (calibration["method"], bool(calibration["cases"])) == ("minmax", True)


def test_scales_of_another_network_are_refused(tuned: Checkpoint, index: Index, split: Split, tmp_path: Path) -> None:
    assert tuned.quantisation is not None
    magnitudes = dict(tuned.quantisation.magnitudes)
    del magnitudes["decoder.0.narrow.0/Resize"]
    damaged = replace(tuned, quantisation=replace(tuned.quantisation, magnitudes=magnitudes))
    with pytest.raises(CheckpointError, match=r"no figure for decoder\.0\.narrow\.0/Resize"):
        export(damaged, index, split, tmp_path / "tiny.bundle", LENIENT)
    assert not (tmp_path / "tiny.bundle").exists()


def test_what_may_not_be_fine_tuned_is_refused(
    tuned: Checkpoint, checkpoint: Checkpoint, index: Index, split: Split
) -> None:
    with pytest.raises(SpecError, match="was fine-tuned for INT8 already; give the one that it was made from"):
        open_fine_tuning(tuned, QatConfig(), index, split)
    with pytest.raises(DatasetError, match="does not say on what it was trained"):
        open_fine_tuning(replace(checkpoint, training={}), QatConfig(), index, split)
    with pytest.raises(DatasetError, match="the checkpoint was trained on the fixed split; fold"):
        open_fine_tuning(checkpoint, QatConfig(), index, split, fold=0)


def test_the_recipe_of_the_training_is_kept(checkpoint: Checkpoint) -> None:
    recipe = {"loss": {"jaccard": 2.0}, "tumour_share": 0.3, "augmentation": {"noise": 0.5, "patch_px": 32}}
    config = build_qat_config(replace(checkpoint, training={"config": recipe}), ["augmentation.flip=0", "epochs=7"])
    assert config == QatConfig(
        loss={"jaccard": 2.0}, tumour_share=0.3, augmentation=Augmentation(noise=0.5, flip=0), epochs=7
    )
    assert build_qat_config(replace(checkpoint, training={})) == QatConfig()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("calibration=max", "calibration is 'max'; one of minmax, percentile, mse wanted"),
        ("weight_bits=4", r"QatConfig\.weight_bits is 4; one of 7, 8 wanted"),
        ("epochs=0", "epochs is 0; 1 or more wanted"),
        ("distillation=-1", r"distillation is -1\.0; 0 or more wanted"),
        ("learning_rate=0", r"learning_rate is 0\.0; a positive number wanted"),
        ("tumour_share=2", r"tumour_share is 2\.0; 0 to 1 wanted"),
        ("augmentation.patch_px=64", r"augmentation\.patch_px is 64; 0: the exported graph is of one size wanted"),
        ("optimizer=adam", "setting optimizer does not exist; known here are calibration"),
    ],
)
def test_a_setting_that_does_not_hold_is_refused(override: str, message: str, checkpoint: Checkpoint) -> None:
    with pytest.raises(SpecError, match=message):
        build_qat_config(checkpoint, [override])
