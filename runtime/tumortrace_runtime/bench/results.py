"""What a benchmark measured: the format of its result files, and nothing that depends on how it was measured."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tumortrace_runtime.errors import InputError, SpecError
from tumortrace_runtime.files import read_json, write_json
from tumortrace_runtime.metrics import CaseMetrics
from tumortrace_runtime.settings import from_dict, to_dict

FORMAT = "tumortrace-bench"
VERSION = 2

STAGES = ("decode", "preprocess", "infer", "postprocess", "encode")
"""Parts of a run, in their order; "total" is all of it, waiting included."""

ENGINE, PEER = "engine", "peer"


@dataclass(frozen=True)
class Sample:
    """One scan, once, from files to files.

    Attributes:
        case_id: the scan.
        round: the round, from 0.
        reference_ms: what the reference workload took just before.
        stages_ms: what each of `STAGES` took; a peer has those that it tells apart.
        total_ms: all of it.
    """

    case_id: str
    round: int
    reference_ms: float
    stages_ms: dict[str, float]
    total_ms: float

    @property
    def in_memory_ms(self) -> float:
        """From a scan in memory to its mask and lesions there."""
        return self.total_ms - self.stages_ms["decode"] - self.stages_ms["encode"]


@dataclass(frozen=True)
class Start:
    """A process of its own, from its start on.

    Attributes:
        first_mask_ms: until the first mask, of one slice, where the engine finds what it keeps on disk; the least of
            some starts.
        peak_bytes: the most memory that it held, having segmented the largest scan.
        mapped_bytes: what of it are files that it maps, its libraries above all. The kernel shares them and can drop
            them, and how much of a file it maps at a touch depends on how the file came into its cache: by 40 MB from
            one machine to the next.
        growth_bytes: what it held more after `growth_slices` slices than before.
        growth_slices: slices of scans that were segmented again and again.
    """

    first_mask_ms: float
    peak_bytes: int
    mapped_bytes: int
    growth_bytes: int
    growth_slices: int

    @property
    def own_bytes(self) -> int:
        """What of the peak is the process's own."""
        return self.peak_bytes - self.mapped_bytes


@dataclass(frozen=True)
class Candidate:
    """One way to segment scans, and what it made of them.

    Attributes:
        name: unique in its file, and the same in others: "openvino int8 CPU", with " 1 thread" where threads were asked
            for, or a peer's.
        kind: "engine" for a bundle's, "peer" for other software.
        backend, precision, device: as they were asked for; a peer says what it is.
        threads: as asked for; None for the engine's choice.
        version: of the engine.
        executed_precision: what most multiply-accumulates really ran in.
        int8_mac_share: the share of them that ran in INT8, 0 to 1.
        size_bytes: of the model's files.
        start: None where it was not measured.
        cases: what each mask is worth.
        samples: every scan of every round, in the order of running.
    """

    name: str
    kind: str
    backend: str
    precision: str
    device: str
    threads: int | None
    version: str
    executed_precision: str
    int8_mac_share: float
    size_bytes: int
    start: Start | None
    cases: tuple[CaseMetrics, ...]
    samples: tuple[Sample, ...]

    @property
    def dice(self) -> float:
        """Mean over cases."""
        return float(np.mean([case.dice for case in self.cases]))

    def times_ms(self, stage: str) -> list[float]:
        """Of every sample a stage, or "total"; of those that tell it."""
        if stage == "total":
            return [sample.total_ms for sample in self.samples]
        return [sample.stages_ms[stage] for sample in self.samples if stage in sample.stages_ms]


@dataclass(frozen=True)
class NotRun:
    """A candidate that this machine cannot run, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Results:
    """One run of the benchmark.

    Attributes:
        created_utc: ISO 8601.
        environment: what the machine is and runs, as `environment.describe` tells it.
        bundle: name and SHA-256 of the bundle.
        model_sha256: of its network in FP32, which stays when the bundle is made anew.
        data: SHA-256 of index and split, the part, and slices by case.
        rounds: over all cases.
        candidates: in the order in which they took turns.
        not_run: what could not take part.
    """

    created_utc: str
    environment: dict[str, Any]
    bundle: dict[str, str]
    model_sha256: str
    data: dict[str, Any]
    rounds: int
    candidates: tuple[Candidate, ...]
    not_run: tuple[NotRun, ...]

    @property
    def cpu(self) -> str:
        """The processor's name."""
        return str(self.environment["cpu"]["model"])

    def slices_per_s(self, candidate: Candidate) -> float:
        """Throughput: all slices of all samples by all of their time."""
        slices = sum(self.data["slices"][sample.case_id] for sample in candidate.samples)
        return float(slices / sum(candidate.times_ms("total")) * 1e3)

    def candidate(self, name: str) -> Candidate | None:
        """The one of this name, if it took part."""
        return next((each for each in self.candidates if each.name == name), None)


def write_results(results: Results, path: Path) -> None:
    """Write a result file.

    Raises:
        OutputError: it cannot be written.
    """
    write_json(path, {"format": FORMAT, "version": VERSION} | to_dict(results))


def read_results(path: Path) -> Results:
    """Read a result file.

    Raises:
        InputError: it is none, or of another version.
    """
    values = read_json(path)
    kind = (values.pop("format", None), values.pop("version", None)) if isinstance(values, dict) else None
    if kind != (FORMAT, VERSION):
        raise InputError(f"{path}: no result of `tumortrace bench run` of version {VERSION}; measure anew.")
    try:
        return from_dict(Results, values)
    except SpecError as problem:
        raise InputError(f"{path}: {problem} Measure anew.") from None


def baseline_name(results: Results) -> str:
    """The file that keeps a result as a baseline, named by device and day: "amd-epyc-2-threads.2026-11-23.json"."""
    cpu = results.environment["cpu"]
    device = results.environment.get("jetson") or cpu["model"] or cpu["architecture"]
    words = re.findall(r"[a-z0-9]+", f"{device} {cpu['threads']} threads".lower())
    return f"{'-'.join(words)}.{results.created_utc[:10]}.json"


def percentiles(times_ms: Iterable[float]) -> dict[str, float]:
    """Least, 50th, 90th and 99th percentile, and greatest, interpolated between samples."""
    names = ("min", "p50", "p90", "p99", "max")
    return dict(zip(names, np.percentile(list(times_ms), (0, 50, 90, 99, 100)).tolist(), strict=True))
