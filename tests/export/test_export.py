from __future__ import annotations

import hashlib
import json
import math
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tumortrace.checkpoint import Checkpoint
from tumortrace.index import Index, open_case, prepare
from tumortrace.model import build_model, family_config
from tumortrace.predict import CheckpointPredictor
from tumortrace.split import Parts, Split
from tumortrace_export.export import export
from tumortrace_export.gate import Gate
from tumortrace_export.ranges import METHODS
from tumortrace_export.rows import PYTORCH, PYTORCH_NHWC
from tumortrace_export.settings import Settings, formats_here
from tumortrace_runtime.backends import load_backend
from tumortrace_runtime.bundle import ARTEFACTS, MANIFEST, SEAL, Bundle, open_bundle
from tumortrace_runtime.errors import BackendError, DatasetError, OutputError, SpecError
from tumortrace_runtime.files import canonical_json, read_json, sha256_bytes, sha256_file
from tumortrace_runtime.golden import load_golden, self_test
from tumortrace_runtime.inference import batches
from tumortrace_runtime.io import write_case
from tumortrace_runtime.postprocess import Postprocessing
from tumortrace_runtime.preprocess import Preprocessing, preprocess
from tumortrace_runtime.segmenter import Segmenter
from tumortrace_runtime.settings import to_dict

WEIGHTS = {file.replace(".xml", ".bin") for file in ARTEFACTS.values() if file.endswith(".xml")}
OTHERS = {"model.int8.onnx", "tensorrt/recipe.json", "golden/phantom-1.npz", "golden/phantom-2.npz"}
ANY_CPU = [choice for choice in ARTEFACTS if choice[0] != "tensorrt" and choice[1] != "bf16"]
"""What every machine can run that can export."""

WITHOUT_FP16 = [choice for choice in ANY_CPU if choice[1] != "fp16"]
MadeOnce = Callable[[str, Callable[[Path], object]], Path]

LENIENT = Gate(max_drop=1, max_case_drop=1)
QUICK = Settings(precisions=["fp32"], formats=["onnx"], gate=LENIENT)


@pytest.fixture(scope="module")
def bundle(by_program: Any) -> Bundle:
    return open_bundle(by_program.bundle)


@pytest.fixture(scope="module")
def rows(by_program: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(by_program.stdout)["artefacts"]
    return rows


@pytest.fixture(scope="module")
def run_here(bundle: Bundle) -> set[tuple[str, str]]:
    """Engine and precision of all that this machine can run: where its CPU has bf16, that too."""
    try:
        load_backend("openvino", bundle.artefact("openvino", "bf16"), precision="bf16").close()
    except BackendError:
        return set(ANY_CPU)
    return {*ANY_CPU, ("openvino", "bf16")}


def files_of(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def artefact_of(bundle: Bundle, backend: str, precision: str) -> dict[str, Any]:
    """What the manifest says of an artefact."""
    found: dict[str, Any] = next(
        item for item in bundle.manifest["artefacts"] if (item["backend"], item["precision"]) == (backend, precision)
    )
    return found


def test_every_file_is_there_listed_and_as_hashed(bundle: Bundle) -> None:
    files = files_of(bundle.path)
    assert set(files) == {*ARTEFACTS.values(), *WEIGHTS, *OTHERS, MANIFEST, SEAL}
    listed = bundle.manifest["files"]
    assert set(listed) == set(files) - {MANIFEST, SEAL}
    for name, entry in listed.items():
        assert entry == {"sha256": hashlib.sha256(files[name]).hexdigest(), "size_bytes": len(files[name])}


def test_the_seal_is_checked_by_coreutils(bundle: Bundle) -> None:
    done = subprocess.run(["sha256sum", "--check", SEAL], cwd=bundle.path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{MANIFEST}: OK\n")


def test_the_manifest_says_what_the_network_takes_and_gives(bundle: Bundle, checkpoint: Checkpoint) -> None:
    manifest = bundle.manifest
    assert (manifest["format"], manifest["version"], manifest["name"]) == ("tumortrace-bundle", 1, "tiny")
    assert manifest["input"] == {
        "tensor": "input",
        "shape": ["batch", 9, 64, 64],
        "dtype": "float32",
        "preprocessing": to_dict(checkpoint.preprocessing),
    }
    assert manifest["output"] == {
        "tensor": "logits",
        "shape": ["batch", 1, 64, 64],
        "dtype": "float32",
        "statistics": None,
        "classes": ["background", "tumour"],
        "segments": [
            {
                "label": "Lesion",
                "category": {"value": "49755003", "scheme": "SCT", "meaning": "Morphologically Abnormal Structure"},
                "type": {"value": "52988006", "scheme": "SCT", "meaning": "Lesion"},
            }
        ],
        "postprocessing": to_dict(checkpoint.postprocessing),
    }
    assert bundle.preprocessing == checkpoint.preprocessing
    assert bundle.postprocessing == checkpoint.postprocessing
    assert manifest["model"] == to_dict(checkpoint.model)
    assert "Not a medical device" in manifest["intended_use"]
    assert len(manifest["limits"]) >= 2


def test_the_manifest_says_where_it_comes_from(
    bundle: Bundle, checkpoint: Checkpoint, index: Index, split: Split
) -> None:
    manifest = bundle.manifest
    assert manifest["training"] == json.loads(json.dumps(dict(checkpoint.training)))
    validation, test = split.part("val"), split.part("test")
    assert manifest["validation"] == {
        "cases": validation,
        "index_sha256": index.sha256,
        "split_sha256": split.sha256,
        "gate": {"max_drop": 1, "max_case_drop": 1},
    }
    assert manifest["test"]["cases"] == test
    calibration = manifest["calibration"]
    assert calibration["cases"] == split.part("train")
    assert not set(calibration["cases"]) & {*validation, *test}
    assert calibration["cases_sha256"] == sha256_bytes(canonical_json(calibration["cases"]))
    assert (calibration["slices_per_case"], calibration["float_layers"]) == (8, [])
    assert manifest["fp16"] == {"float_layers": []}
    assert set(manifest["tools"]) == {"tumortrace", "torch", "onnx", "onnxruntime", "openvino", "numpy"}


def test_auto_calibration_keeps_the_best_and_says_what_it_tried(bundle: Bundle) -> None:
    calibration = bundle.manifest["calibration"]
    tried = calibration["tried"]
    assert set(tried) == set(METHODS)
    best = tried[calibration["method"]]
    good = [each for each in tried.values() if max(other["dice"] for other in tried.values()) - each["dice"] <= 0.0005]
    assert best in good
    assert best["flipped_per_million_spoiled"] == min(each["flipped_per_million_spoiled"] for each in good)
    accuracy = artefact_of(bundle, "openvino", "int8")["accuracy"]
    assert all(best[name] == accuracy[name] for name in ("dice", "flipped_per_million"))


def test_the_readme_specifies_every_field(bundle: Bundle) -> None:
    readme = (Path(__file__).resolve().parents[2] / "export" / "README.md").read_text()
    manifest = bundle.manifest
    measured = manifest["measurements"]
    parts = [manifest, manifest["input"], manifest["output"], manifest["calibration"], manifest["validation"], measured]
    parts += [manifest["input"]["preprocessing"], manifest["output"]["postprocessing"], manifest["model"]]
    parts += [manifest["validation"]["gate"], next(iter(manifest["calibration"]["tried"].values()))]
    parts += [manifest["test"], manifest["fp16"], next(iter(manifest["integer_inputs"].values()))]
    parts += [manifest["artefacts"][0], manifest["artefacts"][0]["accuracy"], manifest["artefacts"][2]["layers"][0]]
    parts += [measured["cpu"], next(iter(measured["ms_per_slice"].values()))]
    parts += [next(iter(manifest["files"].values())), manifest["tools"]]
    named = set(re.findall(r"[a-z0-9_]+", readme))
    assert [key for part in parts for key in part if key not in named] == []


def test_every_artefact_that_runs_here_is_measured(
    bundle: Bundle, rows: list[dict[str, Any]], checkpoint: Checkpoint, run_here: set[tuple[str, str]]
) -> None:
    reference, channels_last, *artefacts = bundle.manifest["artefacts"]
    scores = checkpoint.training["validation_dice"]
    assert (reference["path"], reference["size_bytes"]) == ("", 0)
    assert reference["accuracy"]["case_dice"] == pytest.approx(scores)
    assert reference["accuracy"]["dice"] == pytest.approx(np.mean(list(scores.values())))
    assert reference["accuracy"]["worst_dice"] == pytest.approx(min(scores.values()))
    assert channels_last["accuracy"] is None  # it is the same network

    measured = {(item["backend"], item["precision"]): item for item in artefacts if item["accuracy"]}
    assert set(measured) == run_here
    for (_, precision), item in measured.items():
        accuracy = item["accuracy"]
        losses = [reference["accuracy"]["case_dice"][name] - accuracy["case_dice"][name] for name in scores]
        assert accuracy["drop"] == pytest.approx(np.mean(losses))
        assert accuracy["case_drop"] == pytest.approx(max(losses))
        assert 0 <= accuracy["small_lesion_recall"] <= 1
        assert accuracy["largest_logit_error"] < {"fp32": 1e-3, "fp16": 0.2}.get(precision, 3)
        assert sum(item["layer_precisions"].values()) == len(item["layers"]) == 11
    assert [item["accuracy"] for item in bundle.manifest["artefacts"]] == [row["accuracy"] for row in rows]


def test_what_runs_on_another_device_has_no_number(bundle: Bundle) -> None:
    for precision in ("fp16", "int8"):
        item = artefact_of(bundle, "tensorrt", precision)
        assert (item["accuracy"], item["executed_precision"], item["layers"]) == (None, None, [])
        assert (bundle.path / item["path"]).stat().st_size == item["size_bytes"]
    measured = bundle.manifest["measurements"]
    names = {*measured["ms_per_slice"], *measured["speedup_over_pytorch"], *measured["preferred"]}
    assert not [name for name in names if name.startswith("tensorrt")]


def test_int8_runs_in_int8(bundle: Bundle) -> None:
    """All of it in OpenVINO; ONNX Runtime on CPUs computes the head in float, as nothing integer follows."""
    for precision in ("int8", "int8-7bit"):
        assert artefact_of(bundle, "openvino", precision)["layer_precisions"] == {"int8": 11}
        onnxruntime = artefact_of(bundle, "onnxruntime", precision)
        assert [layer["name"] for layer in onnxruntime["layers"] if layer["precision"] != "int8"] == ["head"]
        assert onnxruntime["int8_mac_share"] > 0.95


def test_int8_models_of_cpus_take_integers(bundle: Bundle) -> None:
    taken = bundle.manifest["integer_inputs"]
    assert set(taken) == {ARTEFACTS[engine, precision] for engine, precision in ANY_CPU if "int8" in precision}
    assert {item["block_px"] for item in taken.values()} == {bundle.manifest["model"]["stem"]}


def test_speed_is_measured_beside_pytorch(
    bundle: Bundle, rows: list[dict[str, Any]], run_here: set[tuple[str, str]]
) -> None:
    measured = bundle.manifest["measurements"]
    names = {PYTORCH, PYTORCH_NHWC, *(f"{backend} {precision}" for backend, precision in run_here)}
    assert set(measured["ms_per_slice"]) == set(measured["speedup_over_pytorch"]) == names
    reference = measured["ms_per_slice"][PYTORCH]["median_ms"]
    for name, timing in measured["ms_per_slice"].items():
        assert 0 < timing["min_ms"] <= timing["median_ms"] <= timing["p90_ms"]
        assert measured["speedup_over_pytorch"][name] == pytest.approx(reference / timing["median_ms"])
    assert measured["cpu"]["threads"] >= 1
    for row in rows:
        assert row["timing"] == measured["ms_per_slice"].get(f"{row['backend']} {row['precision']}")


def test_the_fastest_is_preferred_and_run_where_none_is_asked_for(bundle: Bundle) -> None:
    measured = bundle.manifest["measurements"]
    assert set(measured["preferred"]) == {"onnxruntime", "openvino"}
    for backend, preferred in measured["preferred"].items():
        times = {
            name.split()[1]: timing["median_ms"]
            for name, timing in measured["ms_per_slice"].items()
            if name.startswith(backend) and not name.endswith("-7bit")
        }
        assert preferred == min(times, key=times.__getitem__)
        with Segmenter(bundle, backend=backend) as segmenter:
            assert segmenter.precision.removesuffix("-7bit") == preferred


@pytest.mark.parametrize(("backend", "precision"), ANY_CPU)
def test_a_bundle_segments_as_was_measured(
    backend: str, precision: str, bundle: Bundle, checkpoint: Checkpoint, index: Index, split: Split
) -> None:
    with Segmenter(bundle, backend=backend, precision=precision) as segmenter:
        scores = self_test(segmenter)
        masks = [segmenter.segment(open_case(index, name)).mask for name in split.part("val")]

    assert scores == {"phantom-1.npz": 1.0, "phantom-2.npz": 1.0}
    predict = CheckpointPredictor(checkpoint)
    expected = [predict(open_case(index, name)) for name in split.part("val")]
    assert any(mask.any() for mask in expected)
    flipped = sum(int((mask != wanted).sum()) for mask, wanted in zip(masks, expected, strict=True))
    recorded = artefact_of(bundle, backend, precision)["accuracy"]["flipped_per_million"]
    assert math.isclose(1e6 * flipped / sum(mask.size for mask in masks), recorded)


def test_golden_masks_are_there_for_all_that_runs_here(bundle: Bundle, run_here: set[tuple[str, str]]) -> None:
    cases = [load_golden(file) for file in sorted((bundle.path / "golden").iterdir())]
    names = {f"{backend} {precision}" for backend, precision in run_here}
    assert [set(case.masks) for case in cases] == [names, names]
    assert any(mask.any() for case in cases for mask in case.masks.values())


def test_test_cases_are_scored_for_the_record(
    bundle: Bundle, checkpoint: Checkpoint, index: Index, split: Split
) -> None:
    recorded = bundle.manifest["test"]["accuracy"]
    assert set(recorded) == {PYTORCH, "onnxruntime int8", "openvino int8"}
    predict = CheckpointPredictor(checkpoint)
    scans = [open_case(index, name) for name in split.part("test")]
    flipped = 0
    with Segmenter(bundle, backend="openvino", precision="int8") as segmenter:
        flipped = sum(int((segmenter.segment(scan).mask != predict(scan)).sum()) for scan in scans)
    voxels = sum(scan.truth.size for scan in scans if scan.truth is not None)
    assert math.isclose(recorded["openvino int8"]["flipped_per_million"], 1e6 * flipped / voxels)
    assert list(recorded[PYTORCH]["case_dice"]) == split.part("test")


@pytest.fixture(scope="module")
def masks_bundle(bundle: Bundle, checkpoint: Checkpoint, index: Index, split: Split, made_once: MadeOnce) -> Bundle:
    """The same as `bundle`, but for what its models give: masks, and statistics of the bottleneck."""
    settings = Settings(
        precisions=["int8"],
        formats=["onnx", "openvino"],
        gate=LENIENT,
        calibration=bundle.manifest["calibration"]["method"],
        output="mask",
        bottleneck_statistics=True,
    )
    return open_bundle(made_once("masks.bundle", lambda out: export(checkpoint, index, split, out, settings)))


def test_a_bundle_of_masks_segments_as_one_of_logits(
    masks_bundle: Bundle, bundle: Bundle, index: Index, split: Split
) -> None:
    for file in ("golden/phantom-1.npz", "golden/phantom-2.npz"):
        logits, masks = load_golden(bundle.path / file), load_golden(masks_bundle.path / file)
        assert set(masks.masks) == {f"{backend} {precision}" for backend, precision in WITHOUT_FP16}
        for name, mask in masks.masks.items():
            np.testing.assert_array_equal(mask, logits.masks[name], err_msg=name)
    scan = open_case(index, split.part("test")[0])
    for precision in ("fp32", "int8"):
        with (
            Segmenter(bundle, backend="openvino", precision=precision) as logits_segmenter,
            Segmenter(masks_bundle, backend="openvino", precision=precision) as masks_segmenter,
        ):
            mask = masks_segmenter.segment(scan).mask
            np.testing.assert_array_equal(mask, logits_segmenter.segment(scan).mask)
        assert mask.any()


def test_the_manifest_says_that_masks_and_statistics_are_given(masks_bundle: Bundle) -> None:
    output = masks_bundle.manifest["output"]
    assert (output["tensor"], output["dtype"], output["shape"]) == ("mask", "uint8", ["batch", 64, 64])
    for backend, precision in WITHOUT_FP16:
        assert artefact_of(masks_bundle, backend, precision)["accuracy"]["largest_logit_error"] is None
        model = masks_bundle.artefact(backend, precision)
        taken = masks_bundle.integer_input(backend, precision)
        arithmetic = precision.removesuffix("-7bit")
        with load_backend(backend, model, precision=arithmetic, integer_input=taken) as loaded:
            planes = preprocess(
                load_golden(masks_bundle.path / "golden/phantom-1.npz").voxels, masks_bundle.preprocessing
            )
            outputs = loaded.run_all(next(batches(loaded, planes.planes, 1, 2)))
        assert list(outputs) == [output["tensor"], output["statistics"]]
        assert outputs["mask"].dtype == np.uint8
        assert outputs[output["statistics"]].shape == (2, 2 * masks_bundle.manifest["model"]["widths"][-1])


def test_formats_that_were_not_asked_for_are_not_there(masks_bundle: Bundle) -> None:
    assert not [name for name in masks_bundle.manifest["files"] if "tensorrt" in name]


def test_all_formats_can_be_made_where_their_libraries_are() -> None:
    assert set(formats_here()) == {"onnx", "openvino", "tensorrt"}


def test_a_mask_of_another_grid_is_refused(checkpoint: Checkpoint, index: Index, split: Split, tmp_path: Path) -> None:
    resizing = replace(checkpoint, preprocessing=replace(checkpoint.preprocessing, fit="resize"))
    with pytest.raises(SpecError, match=r"output mask .* fit 'resize'.*take logits"):
        export(resizing, index, split, tmp_path / "tiny.bundle", replace(QUICK, output="mask"))
    assert list(tmp_path.iterdir()) == []


@dataclass(frozen=True)
class Hard:
    """What came of exporting a network that INT8 cannot hold everywhere."""

    bundle: Bundle
    lines: list[str]


@pytest.fixture(scope="module")
def hard(index: Index, made_once: MadeOnce) -> Hard:
    """A network that finds bright FLAIR, with two weights that do nothing but widen the range of INT8.

    One is on T1, which is missing in all scans, and of the first layer: beside it the layer's other weights round to 0.
    One is on a feature that is always 0, of the second layer: with 8 bits the other weights round to 1 step of it, with
    7 bits to 0.
    """
    folder = made_once("hard", lambda folder: export_hard(index, folder))
    return Hard(open_bundle(folder / "hard.bundle"), (folder / "lines").read_text().splitlines())


def export_hard(index: Index, folder: Path) -> None:
    for case in index.cases[:3]:
        scan = open_case(index, case.case_id)
        t1, flair = (scan.channels.index(name) for name in ("t1", "flair"))
        voxels = scan.voxels.copy()
        voxels[..., t1] = voxels[..., flair]  # as LGG has a missing sequence
        write_case("lgg", replace(scan, voxels=voxels), folder / "scans")
    without_t1 = prepare(folder / "scans")
    train, *val = (case.case_id for case in without_t1.cases)
    split = Split(without_t1.sha256, 0, (0.5, 0.25, 0.25), Parts((train,), tuple(val), ()), ())

    spec = Preprocessing(channels=("t1", "flair", "t1ce"), grid_px=(64, 64))
    config = family_config("unet-xs", spec.in_channels)
    training = {"data": {"split_sha256": split.sha256, "training_cases": [train]}}
    checkpoint = Checkpoint(config, spec, Postprocessing(), training, finding_bright(build_model(config)))
    lines: list[str] = []
    settings = Settings(precisions=["int8"], formats=["onnx"], gate=Gate(0.1, 0.1), calibration="minmax")
    export(checkpoint, without_t1, split, folder / "hard.bundle", settings, report=lines.append)
    (folder / "lines").write_text("\n".join(lines))


def finding_bright(network: Any) -> dict[str, torch.Tensor]:
    """Weights of a compact U-Net for which the logit of a pixel is 8 x (normalised FLAIR - 1.2); see `hard`."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.zeros_(module.weight)
    t1, flair = 3 * 16, 4 * 16  # of the middle one of three slices, 16 pixels each
    path = [network.encoder[0][0][0], network.encoder[0][1][0], network.decoder[-1].merge[0], network.head]
    for convolution, first, gain in zip(path, (flair, 0, 0, 0), (1, 1, 1, 8), strict=True):
        for pixel in range(16):
            convolution.weight.data[pixel, first + pixel, 1, 1] = gain
    path[0].weight.data[:16, t1, 0, 0] = 1000
    path[1].weight.data[:16, 20, 0, 0] = 127
    nn.init.constant_(network.head.bias, -8 * 1.2)
    weights: dict[str, torch.Tensor] = network.state_dict()
    return weights


def test_a_layer_that_int8_cannot_hold_goes_back_to_float(hard: Hard) -> None:
    assert hard.bundle.manifest["calibration"]["float_layers"] == ["encoder.0.0.0"]
    (line,) = [line for line in hard.lines if "goes back to float" in line]
    assert line.startswith("onnxruntime int8: mean validation Dice 0.")
    assert line.endswith("at most 0.1 was allowed (--max-drop). encoder.0.0.0 goes back to float")
    item = artefact_of(hard.bundle, "onnxruntime", "int8")
    assert item["accuracy"]["drop"] <= 0.1
    assert [layer["name"] for layer in item["layers"] if layer["precision"] != "int8"] == ["encoder.0.0.0", "head"]
    assert 0.5 < item["int8_mac_share"] < 0.95


def test_what_the_float_layer_costs_is_measured_beside_the_model_without(hard: Hard) -> None:
    measured = hard.bundle.manifest["measurements"]
    assert set(measured["ms_per_slice_without_fallback"]) == {"onnxruntime int8"}
    without, with_it = (measured[f"ms_per_slice{kind}"]["onnxruntime int8"] for kind in ("_without_fallback", ""))
    assert set(without) == set(with_it)
    assert 0 < without["min_ms"] <= without["median_ms"]


def test_a_network_that_begins_in_float_takes_floats(hard: Hard) -> None:
    assert hard.bundle.manifest["integer_inputs"] == {}
    with Segmenter(hard.bundle, backend="onnxruntime", precision="int8") as segmenter:
        assert self_test(segmenter) == {"phantom-1.npz": 1.0, "phantom-2.npz": 1.0}


def test_weights_of_7_bits_that_lose_too_much_are_left_out_aloud(hard: Hard) -> None:
    assert ("onnxruntime", "int8") in hard.bundle.choices()
    assert not [name for name in hard.bundle.manifest["files"] if "7bit" in name]
    (line,) = [line for line in hard.lines if line.startswith("onnxruntime int8-7bit: mean")]
    assert line.endswith("It is left out: CPUs without VNNI get no INT8 on onnxruntime.")


def test_without_test_cases_nothing_is_recorded_of_them(hard: Hard) -> None:
    assert hard.bundle.manifest["test"] is None


def test_another_split_is_refused(checkpoint: Checkpoint, index: Index, split: Split, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="trained on another split"):
        export(checkpoint, index, replace(split, seed=9), tmp_path / "tiny.bundle", QUICK)
    assert list(tmp_path.iterdir()) == []


def test_a_fold_whose_validation_was_trained_on_is_refused(
    checkpoint: Checkpoint, index: Index, split: Split, tmp_path: Path
) -> None:
    seen = set(split.part("train"))
    fold = next(number for number in range(2) if seen & set(split.part("val", number)))
    with pytest.raises(DatasetError, match="the checkpoint was trained on the fixed split; fold"):
        export(checkpoint, index, split, tmp_path / "tiny.bundle", QUICK, fold=fold)
    with pytest.raises(SpecError, match="no fold 2"):
        export(checkpoint, index, split, tmp_path / "tiny.bundle", QUICK, fold=2)
    assert list(tmp_path.iterdir()) == []


Refused = Callable[[Index, Split, str], None]


@pytest.fixture
def refused(checkpoint: Checkpoint, tmp_path: Path) -> Refused:
    """Checks that a split, which the checkpoint is made to have been trained on, is refused before anything is done."""

    def check(index: Index, split: Split, told: str) -> None:
        data = {"split_sha256": split.sha256, "training_cases": list(split.fixed.train)}
        lines: list[str] = []
        with pytest.raises(DatasetError, match=told):
            export(
                replace(checkpoint, training={"data": data}),
                index,
                split,
                tmp_path / "tiny.bundle",
                QUICK,
                report=lines.append,
            )
        assert (list(tmp_path.iterdir()), lines) == ([], [])

    return check


@pytest.mark.parametrize("part", ["val", "test"])
def test_a_patient_that_calibrates_does_not_score(part: str, index: Index, split: Split, refused: Refused) -> None:
    patient = index.case(split.part("train")[0]).patient_id
    scoring = split.part(part)[0]
    cases = [replace(case, patient_id=patient) if case.case_id == scoring else case for case in index.cases]
    refused(replace(index, cases=tuple(cases)), split, f"patient {patient} would both calibrate .* and score")


def test_without_validation_cases_nothing_is_exported(index: Index, split: Split, refused: Refused) -> None:
    refused(index, replace(split, fixed=replace(split.fixed, val=())), "no validation case .*`tumortrace split`")


def test_without_tumour_nothing_is_calibrated(index: Index, split: Split, refused: Refused) -> None:
    healthy = replace(index, cases=tuple(replace(case, tumour_voxels=0) for case in index.cases))
    refused(healthy, split, "none of 2 training cases shows tumour")


def test_an_existing_bundle_is_left_alone(bundle: Bundle, checkpoint: Checkpoint, index: Index, split: Split) -> None:
    before = sha256_file(bundle.path / MANIFEST)
    with pytest.raises(OutputError, match=r"tiny\.bundle: already exists"):
        export(checkpoint, index, split, bundle.path, QUICK)
    assert sha256_file(bundle.path / MANIFEST) == before
    assert read_json(bundle.path / MANIFEST)["name"] == "tiny"


def test_a_full_disk_leaves_nothing(
    checkpoint: Checkpoint, index: Index, split: Split, tmp_path: Path, files_of_at_most: Any
) -> None:
    with (
        files_of_at_most(100_000),
        pytest.raises(OutputError, match=rf"{tmp_path}/tiny\.bundle/model\.onnx: cannot be written \(File too large\)"),
    ):
        export(checkpoint, index, split, tmp_path / "tiny.bundle", QUICK)
    assert list(tmp_path.iterdir()) == []
