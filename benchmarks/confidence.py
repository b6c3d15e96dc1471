"""How well a calibrated checkpoint or bundle knows its limits, on the cases of a split.

python benchmarks/confidence.py lgg.bundle --data index.json --split split.json -o confidence.json

It measures the calibration error of the head's voxels, and how the out-of-distribution score tells the part's scans
from spoiled copies of them, from phantoms, and from other scans that are given: area under the ROC curve, and the share
that is flagged.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from scipy.stats import mannwhitneyu

from tumortrace.calibrate import head_voxels
from tumortrace.commands.options import data_options, engine_options, progress_bar, refuse_given
from tumortrace.dataset import TrainingCase, prepare_case
from tumortrace.index import load_index, open_case
from tumortrace.perturb import Planes, ways_to_spoil
from tumortrace.phantom import generate_case
from tumortrace.provenance import refuse_seen
from tumortrace.split import load_split
from tumortrace_runtime.bundle import MANIFEST
from tumortrace_runtime.command import run
from tumortrace_runtime.confidence import OodReference, Reliability, probabilities, reliability
from tumortrace_runtime.errors import SpecError
from tumortrace_runtime.files import sha256_file, write_json
from tumortrace_runtime.inference import BATCH_SIZE, MeasuringNetwork, infer_with_statistics
from tumortrace_runtime.io import ChannelMapping, Scan, find_cases, read_case
from tumortrace_runtime.preprocess import Preprocessing, preprocess
from tumortrace_runtime.table import format_table

PHANTOM_SEED = 7
KINDS = {"order": "wrong order", "turned": "turned", "upside": "upside down", "noise": "noise"}
"""What the first word of a way to spoil a scan stands for."""


@dataclass(frozen=True)
class Model:
    """Something calibrated that runs.

    Attributes:
        network: gives logits and statistics.
        spec: what it takes.
        temperature: of its probabilities.
        reference: what it judges scans by.
    """

    network: MeasuringNetwork
    spec: Preprocessing
    temperature: float
    reference: OodReference

    def look_at(self, planes: Planes, replaced: Sequence[str] = ()) -> tuple[npt.NDArray[Any], float]:
        """Logits (slices, rows, columns) on the network's grid, and the out-of-distribution score, of a scan."""
        output, statistics = infer_with_statistics(self.network, planes, self.spec.context, BATCH_SIZE)
        return output[:, 0], self.reference.score(statistics, replaced)


@click.command()
@click.argument("model", metavar="CHECKPOINT|BUNDLE", type=click.Path(path_type=Path))
@data_options
@click.option("--part", type=click.Choice(["val", "test"]), default="val", show_default=True)
@click.option("--fold", type=int, help="The part of this fold (from 0) instead of the fixed split's.")
@click.option("--phantoms", type=click.IntRange(min=0), default=16, show_default=True, help="How many to look at.")
@click.option("--other", "others", multiple=True, metavar="NAME=FOLDER", help="Scans of another kind, as cases.")
@click.option("--dicom", "series", multiple=True, metavar="NAME=FOLDER", help="A DICOM series as every channel.")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="JSON file to write.")
@engine_options
def command(
    model: Path,
    index_path: Path,
    split_path: Path,
    part: str,
    fold: int | None,
    phantoms: int,
    others: tuple[str, ...],
    series: tuple[str, ...],
    out: Path,
    **engine: Any,
) -> None:
    """Measure calibration and out-of-distribution scores, print a table, and write all scores as JSON."""
    index = load_index(index_path)
    split = load_split(split_path, index)
    names = split.part(part, fold)
    with open_model(model, engine) as (opened, about, training):
        if part == "test":
            refuse_seen(str(model), training, names, index)
        scores: dict[str, dict[str, float]] = {}
        empty = np.zeros(0, np.float32)
        before = after = reliability(empty, empty)
        with progress_bar(names, f"looking at {part}") as shown:
            for name in shown:
                case = prepare_case(open_case(index, name), opened.spec)
                scores[name], bins = judge_case(opened, case)
                before, after = before + bins[0], after + bins[1]
        strangers = judge_strangers(opened, phantoms, dict(map(_named, others)), dict(map(_named, series)))
    result = {
        "about": {**about, "part": part, "fold": fold, "split_sha256": split.sha256},
        "calibration_error": {"before": before.error, "after": after.error, "voxels": int(after.voxels.sum())},
        "ood": {"kinds": compare(scores, strangers), "cases": scores, "strangers": strangers},
    }
    write_json(out, result)
    click.echo(_text(result, out))


@contextmanager
def open_model(path: Path, engine: Mapping[str, Any]) -> Iterator[tuple[Model, dict[str, Any], Mapping[str, Any]]]:
    """A calibrated checkpoint in PyTorch, or a bundle as the options say, what it is, and how it was trained.

    Raises:
        SpecError: it has no out-of-distribution reference.
    """
    if (path / MANIFEST).exists():
        from tumortrace_runtime.segmenter import Segmenter

        with Segmenter(path, **engine) as segmenter:
            confidence, spec = segmenter.bundle.confidence, segmenter.bundle.preprocessing
            about = {"bundle_sha256": segmenter.bundle.sha256, "backend": segmenter.backend.name}
            about["precision"] = segmenter.precision
            training = segmenter.bundle.manifest["training"]
            yield _model(path, segmenter.backend, spec, confidence), about, training
    else:
        refuse_given(engine, "a checkpoint runs in PyTorch at fp32; give a bundle")
        from tumortrace.checkpoint import CONFIG, load_checkpoint
        from tumortrace.model import channels_last
        from tumortrace.predict import TorchNetwork

        checkpoint = load_checkpoint(path)
        network = TorchNetwork(channels_last(checkpoint.network()))
        about = {"checkpoint_sha256": sha256_file(path / CONFIG), "backend": "pytorch", "precision": "fp32"}
        yield _model(path, network, checkpoint.preprocessing, checkpoint.confidence), about, checkpoint.training


def judge_case(model: Model, case: TrainingCase) -> tuple[dict[str, float], tuple[Reliability, Reliability]]:
    """Scores of a case as it is ("") and by way of being spoiled, and its reliability before and after calibration.

    Where copies of the FLAIR stand in for missing sequences, their order is no mistake that could be made.
    """
    planes, replaced, head = case.prepared.planes, case.prepared.replaced, head_voxels(case.prepared)
    logits, score = model.look_at(planes, replaced)
    bins = [reliability(probabilities(logits[head], each), case.grid_truth[head]) for each in (1.0, model.temperature)]
    rng = np.random.default_rng(zlib.crc32(case.case_id.encode()))
    spoiled = {
        way: model.look_at(np.ascontiguousarray(spoil(planes, rng)), replaced)[1]
        for way, spoil in ways_to_spoil(model.spec.channels).items()
        if not (replaced and way.startswith("order"))
    }
    return {"": score, **spoiled}, (bins[0], bins[1])


def judge_strangers(
    model: Model, phantoms: int, others: Mapping[str, Path], series: Mapping[str, Path]
) -> dict[str, list[float]]:
    """Scores of scans that are none of the data set's, by what they are."""

    def score(voxels: npt.NDArray[Any]) -> float:
        prepared = preprocess(voxels, model.spec)
        return model.look_at(prepared.planes, prepared.replaced)[1]

    size_px, channels = min(model.spec.grid_px), model.spec.channels
    made = [generate_case(PHANTOM_SEED, number, size_px=size_px) for number in range(1, phantoms + 1)]
    found = {"phantom": [score(scan.select(channels)) for scan in made]} if made else {}
    for name, folder in others.items():
        cases = [read_case(files, with_truth=False) for files in find_cases(folder)]
        found[name] = [score(scan.select(channels)) for scan in cases]
    for name, folder in series.items():
        found[name] = [score(_read_study(folder, channels).select(channels))]
    return found


def compare(
    cases: Mapping[str, Mapping[str, float]], strangers: Mapping[str, Sequence[float]]
) -> dict[str, dict[str, Any]]:
    """By kind: scans, AUROC against the cases as they are, and share flagged; of the cases themselves too."""
    own = [scores[""] for scores in cases.values()]
    kinds: dict[str, list[float]] = {}
    for scores in cases.values():
        for way, score in scores.items():
            if way:
                kinds.setdefault(KINDS[way.split()[0]], []).append(score)
    found: dict[str, dict[str, Any]] = {"as they are": {"scans": len(own), "auroc": None, "flagged": _flagged(own)}}
    for kind, others in {**kinds, **strangers}.items():
        area = float(mannwhitneyu(others, own).statistic) / (len(others) * len(own))
        found[kind] = {"scans": len(others), "auroc": area, "flagged": _flagged(others)}
    return found


def _flagged(scores: Sequence[float]) -> float:
    return float(np.mean(np.array(scores) > 1))


def _model(path: Path, network: MeasuringNetwork, spec: Preprocessing, confidence: Any) -> Model:
    if confidence is None or confidence.ood is None:
        raise SpecError(f"{path}: has no out-of-distribution reference; calibrate it: tumortrace calibrate.")
    return Model(network, spec, confidence.temperature, confidence.ood)


def _named(text: str) -> tuple[str, Path]:
    name, sign, folder = text.partition("=")
    if not sign:
        raise SpecError(f"{text!r} given; NAME=FOLDER wanted.")
    return name, Path(folder)


def _read_study(folder: Path, channels: Sequence[str]) -> Scan:
    """A study of one MR series, which stands for every channel."""
    (files,) = find_cases(folder)
    mapping = ChannelMapping(dict.fromkeys(channels, "Modality=MR"))
    return read_case(files, mapping, channels=channels, with_truth=False)


def _text(result: Mapping[str, Any], out: Path) -> str:
    rows = [
        (kind, str(each["scans"]), "" if each["auroc"] is None else f"{each['auroc']:.3f}", f"{each['flagged']:.0%}")
        for kind, each in result["ood"]["kinds"].items()
    ]
    error = result["calibration_error"]
    told = f"calibration error {error['after']:.4f}, before {error['before']:.4f}, of {error['voxels']} voxels"
    return f"{format_table(('scans', 'count', 'AUROC', 'flagged'), rows)}\n\n{told}\n{out}"


if __name__ == "__main__":
    run(command, "confidence")
