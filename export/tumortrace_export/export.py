"""The export stage, whole: a checkpoint in, a measured bundle out, or nothing."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from tumortrace.checkpoint import Checkpoint
from tumortrace.index import Index
from tumortrace.model import channels_last
from tumortrace.predict import TorchNetwork
from tumortrace.progress import Progress, silent
from tumortrace.provenance import require_own_split
from tumortrace.quantisation import Quantisation
from tumortrace.split import Split
from tumortrace_export import int8
from tumortrace_export.artefacts import ENGINE_OF_FORMAT, FP32, NARROW_BITS, Finish, Writer
from tumortrace_export.assess import (
    Accuracy,
    expect,
    of_reference,
    small_lesion_voxels,
)
from tumortrace_export.assessor import Assessor
from tumortrace_export.calibration import calibration_batches, choose_cases
from tumortrace_export.calibration_cache import cached_ranges, dependencies
from tumortrace_export.elsewhere import LEAST_DICE, agreement
from tumortrace_export.job import Job, Report
from tumortrace_export.manifest import Cases, write_manifest
from tumortrace_export.onnx_model import onnx_model
from tumortrace_export.overflow import overflowing_layers, probed
from tumortrace_export.quantise import activations
from tumortrace_export.ranges import METHODS, Histogram, amax, collect
from tumortrace_export.resources import check_room
from tumortrace_export.rows import PYTORCH, Exported
from tumortrace_export.settings import Settings
from tumortrace_export.spoiled import flipped_per_million
from tumortrace_export.value_names import from_lasting
from tumortrace_export.verdict import conclude
from tumortrace_runtime.backends.backend import mac_share
from tumortrace_runtime.bundle import CONFIDENCE, NARROW_WEIGHTS
from tumortrace_runtime.errors import AccuracyError, OutputError, SpecError
from tumortrace_runtime.files import atomic_directory, write_json
from tumortrace_runtime.machine import inspect_cpu
from tumortrace_runtime.settings import to_dict

SENSITIVITY_SLICES = 32
EACH_SPOILED = 4
"""Every so manieth of them is spoiled, in every way that there is."""

SATURATES = (
    "this CPU has no VNNI: int8 sums saturate here, so what is measured of int8, golden masks included, holds on such "
    "CPUs alone; int8-7bit holds everywhere. Export on a CPU with VNNI for the others."
)


def export(
    checkpoint: Checkpoint,
    index: Index,
    split: Split,
    out: Path,
    settings: Settings,
    *,
    fold: int | None = None,
    report: Report = lambda line: None,
    progress: Progress = silent,
) -> Exported:
    """Write the bundle `out`, or nothing where an artefact lost too much.

    Args:
        checkpoint: the trained network.
        index: of the data.
        split: that it was trained on.
        out: the bundle's folder, which must not exist.
        settings: what to export.
        fold: of the split, where it was trained on one.
        report: takes lines for the user.
        progress: wraps the cases while they are measured.

    Raises:
        DatasetError: the checkpoint was trained on another split, calibration and scoring overlap, there are no
            validation cases, or no tumour to calibrate on.
        SpecError: settings that do not go together.
        CheckpointError: it is damaged, or the scales that it brings are not those of its network.
        AccuracyError: an artefact lost more than the gate allows, and INT8 with layers back in float still did.
        InputError: too little memory.
        OutputError: `out` exists or cannot be written, or there is too little disk.
    """
    job = _plan(checkpoint, index, split, settings, fold, report, progress)
    with _bundle_folder(out) as folder, tempfile.TemporaryDirectory(prefix="tumortrace-") as scratch:
        _check_room(job, out)
        exported = _make(job, folder, Path(scratch))
        write_manifest(
            folder, out.name.removesuffix(".bundle"), checkpoint, index, split, job.settings, job.cases, exported
        )
    return exported


def _plan(
    checkpoint: Checkpoint,
    index: Index,
    split: Split,
    settings: Settings,
    fold: int | None,
    report: Report,
    progress: Progress,
) -> Job:
    """What is to be exported, of which cases; refused where it does not go together."""
    if checkpoint.confidence is not None and checkpoint.confidence.ood is not None:
        settings = replace(settings, bottleneck_statistics=True)  # what it judges scans by
    if settings.output == "mask" and checkpoint.preprocessing.fit == "resize":
        raise SpecError("output mask of a model with fit 'resize': a decision cannot be resampled; take logits.")
    require_own_split(checkpoint, split, fold)
    cases = _choose(checkpoint, index, split, fold, settings)
    return Job(checkpoint, index, split, settings, cases, report, progress)


def _make(job: Job, folder: Path, scratch: Path) -> Exported:
    """Write every artefact into the bundle's folder, each held to the gate; the manifest is left to write."""
    writer = _writer(job, folder)
    assessor = _assessor(job, writer)
    writer.write_fp32()
    ranges = _ranges(job, writer)
    keep_float = overflowing_layers(writer.network, ranges.peaks)
    if "fp16" in job.settings.precisions:
        job.report(f"writing fp16{', in float where it would overflow: ' if keep_float else ''}{', '.join(keep_float)}")
        writer.write_fp16(keep_float)
    for backend, precision in list(assessor.choices()):
        assessor.require(backend, precision)
    found, slices = None, _slices(job)
    if "int8" in job.settings.precisions:
        if inspect_cpu().saturates_int8:
            job.report(SATURATES)
        found = _search(job, writer, assessor, ranges, slices, keep_float, scratch)
        _write_narrow(job, writer, assessor, found, keep_float)
    _check_elsewhere(job, writer, slices)
    writer.write_recipe()
    exported = conclude(job, writer, assessor, found, keep_float)
    if job.checkpoint.confidence is not None:
        write_json(folder / CONFIDENCE, to_dict(job.checkpoint.confidence))
    return exported


@contextmanager
def _bundle_folder(out: Path) -> Iterator[Path]:
    """Yield the temporary folder that becomes `out`; an error names `out` instead."""
    with atomic_directory(out) as folder:
        try:
            yield folder
        except OutputError as problem:
            raise OutputError(str(problem).replace(str(folder), str(out))) from problem


@dataclass(frozen=True)
class _Ranges:
    """How large activations are.

    Attributes:
        peaks: the largest magnitude of each of `probed(network)`; empty where only FP32 is made.
        candidates: by calibration method, what each of `activations(network)` is clipped at.
    """

    peaks: Mapping[str, float]
    candidates: Mapping[str, Mapping[str, float]]


def _choose(checkpoint: Checkpoint, index: Index, split: Split, fold: int | None, settings: Settings) -> Cases:
    validation, test = split.part("val", fold), split.part("test", fold)
    if _stored(checkpoint, settings):
        return Cases([], validation, test)
    return Cases(choose_cases(index, split.part("train", fold), [*validation, *test]), validation, test)


def _stored(checkpoint: Checkpoint, settings: Settings) -> Quantisation | None:
    """The scales that the checkpoint was trained with, unless a method is asked for by name."""
    return checkpoint.quantisation if settings.calibration == int8.AUTO else None


def _check_room(job: Job, out: Path) -> None:
    parameters = sum(weights.numel() for weights in job.checkpoint.weights.values())
    held = [*job.cases.validation, *job.cases.validation, *job.cases.calibration]  # validation with what came of it
    slices = sum(job.index.case(name).slices for name in held)
    check_room(out, parameters, slices * len(job.spec.channels) * math.prod(job.spec.grid_px))


def _writer(job: Job, folder: Path) -> Writer:
    settings = job.settings
    finish = Finish(settings.output, float(job.postprocessing.threshold_logit), settings.bottleneck_statistics)
    network = onnx_model(job.checkpoint.network(), job.spec.in_channels, job.spec.grid_px)
    return Writer(folder, network, job.checkpoint.model, job.spec, settings.formats, finish)


def _assessor(job: Job, writer: Writer) -> Assessor:
    """Runs PyTorch on the validation cases, for everything else to be held against."""
    job.report(f"running PyTorch on {len(job.cases.validation)} validation cases")
    reference = TorchNetwork(channels_last(job.checkpoint.network()))
    prepared = list(job.prepared(job.cases.validation))
    small_voxels = small_lesion_voxels(prepared, job.postprocessing)
    expected = [expect(reference, case, job.spec, job.postprocessing, small_voxels) for case in prepared]
    assessor = Assessor(writer, expected, small_voxels, job.postprocessing, job.settings.gate, job.report, job.progress)
    assessor.accuracies[PYTORCH] = of_reference(expected)
    return assessor


def _ranges(job: Job, writer: Writer) -> _Ranges:
    if not {"fp16", "int8"} & set(job.settings.precisions):
        return _Ranges({}, {})
    network, method = writer.network, job.settings.calibration
    if stored := _stored(job.checkpoint, job.settings):
        job.report("taking the scales that the checkpoint was trained with; nothing is calibrated")
        magnitudes = from_lasting(network, stored.magnitudes, activations(network))
        return _Ranges(from_lasting(network, stored.peaks, probed(network)), {int8.TRAINED: magnitudes})
    histograms = _histograms(job, writer)
    candidates = {
        name: {tensor: amax(each, name) for tensor, each in histograms.items()}
        for name in (METHODS if method == int8.AUTO else [method])
    }
    return _Ranges({name: each.peak for name, each in histograms.items()}, candidates)


def _histograms(job: Job, writer: Writer) -> dict[str, Histogram]:
    """Of all activations on the calibration slices."""
    source, tensors, names = writer.folder / FP32, probed(writer.network), job.cases.calibration

    def make() -> dict[str, Histogram]:
        job.report(f"collecting activations on {len(names)} calibration cases")
        prepared = list(job.prepared(names))
        return collect(source, tensors, lambda: calibration_batches(prepared, job.spec.context))

    return cached_ranges(dependencies(source, tensors, job.index, names, job.spec), make, report=job.report)


def _slices(job: Job) -> Callable[[], Sequence[int8.Batch]]:
    """Reads some calibration slices, or validation slices where none calibrates, once, when they are first wanted."""

    @cache
    def read() -> Sequence[int8.Batch]:
        names = job.cases.calibration or job.cases.validation
        batches = list(calibration_batches(job.prepared(names), job.spec.context))
        places = np.linspace(0, len(batches) - 1, min(len(batches), SENSITIVITY_SLICES))
        return [batches[int(place)] for place in places]

    return read


def _check_elsewhere(job: Job, writer: Writer, slices: Callable[[], Sequence[int8.Batch]]) -> None:
    """Refuse TensorRT's models where their ONNX, computed here, gives other masks than FP32 does."""
    for backend, precision, file in writer.choices():
        if backend != "tensorrt":
            continue
        threshold = float(job.postprocessing.threshold_logit)
        score = agreement(writer.folder / FP32, writer.folder / file, slices(), threshold)
        told = (
            f"tensorrt {precision}: not run; its ONNX, computed by ONNX Runtime, agrees with FP32 to Dice {score:.4f}"
        )
        job.report(f"{told} on {len(slices())} slices")
        if score < LEAST_DICE:
            raise AccuracyError(f"{told}; {LEAST_DICE} wanted. Nothing was written.")


def _search(
    job: Job,
    writer: Writer,
    assessor: Assessor,
    ranges: _Ranges,
    slices: Callable[[], Sequence[int8.Batch]],
    keep_float: Sequence[str],
    scratch: Path,
) -> int8.Found:
    """Find the INT8 model; the first attempt, with no layer in float, is kept in `scratch`."""
    engines = [ENGINE_OF_FORMAT[name] for name in ("openvino", "onnx") if name in job.settings.formats]

    def probe(magnitudes: Mapping[str, float]) -> Accuracy:
        writer.write_int8(magnitudes, float_layers=(), keep_float=keep_float, engines=engines[:1])
        with assessor.load(engines[0], "int8") as network:
            return assessor.measure(network, f"{engines[0]} int8")

    def spoil(candidates: Mapping[str, Mapping[str, float]]) -> Mapping[str, float]:
        channels, threshold = job.spec.channels, float(job.postprocessing.threshold_logit)
        return flipped_per_million(writer.network, candidates, slices()[::EACH_SPOILED], channels, threshold)

    def attempt(magnitudes: Mapping[str, float], float_layers: Sequence[str]) -> int8.Attempt:
        writer.write_int8(magnitudes, float_layers=float_layers, keep_float=keep_float)
        if not float_layers:
            assessor.keep_first(scratch)
        accuracies, shares = {}, []
        for engine in engines:
            with assessor.load(engine, "int8") as network:
                accuracies[f"{engine} int8"] = assessor.measure(network, f"{engine} int8")
                shares.append(mac_share(network.layers, "int8"))
        return int8.Attempt(accuracies, min(shares))

    return int8.search(
        writer.network,
        ranges.candidates,
        slices,
        job.settings.gate,
        probe=probe,
        spoil=spoil,
        attempt=attempt,
        report=job.report,
    )


def _write_narrow(job: Job, writer: Writer, assessor: Assessor, found: int8.Found, keep_float: Sequence[str]) -> None:
    """The variants with 7-bit weights, for CPUs without VNNI; one that loses too much is left out, aloud."""
    precision = f"int8{NARROW_WEIGHTS}"
    float_layers = found.float_layers
    writer.write_int8(found.magnitudes, float_layers=float_layers, keep_float=keep_float, weight_bits=NARROW_BITS)
    for backend in [backend for backend, other in assessor.choices() if other == precision]:
        name = f"{backend} {precision}"
        with assessor.load(backend, precision) as network:
            fault = assessor.gate.fault(name, assessor.measure(network, name))
        if fault:
            job.report(f"{fault} It is left out: CPUs without VNNI get no INT8 on {backend}.")
            writer.drop(backend, precision)
