"""The runtime's front door: a bundle and an engine in, masks and measurements out."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.backends import load_backend
from tumortrace_runtime.bundle import NARROW_WEIGHTS, Bundle, open_bundle
from tumortrace_runtime.confidence import UNFAMILIAR
from tumortrace_runtime.errors import BackendError
from tumortrace_runtime.inference import BATCH_SIZE, own_logits, own_mask
from tumortrace_runtime.io.scan import Scan
from tumortrace_runtime.lesions import Lesion
from tumortrace_runtime.machine import Cpu, inspect_cpu
from tumortrace_runtime.models import find_bundle
from tumortrace_runtime.postprocessor import Postprocessor, Segmentation, Spacing
from tumortrace_runtime.preprocess import Placement
from tumortrace_runtime.preprocess.native import Preprocessor

CPU_DEVICES = {"openvino": "CPU", "onnxruntime": "CPUExecutionProvider"}
"""What engines that run on a CPU call it."""

BF16_FEATURES = {"avx512_bf16", "amx_bf16"}
"""Instruction sets with which OpenVINO runs bf16 on a CPU."""


@dataclass(frozen=True)
class Notice:
    """Something that the caller should know about a result.

    Attributes:
        code: for programs: "replaced-sequence", "unknown-spacing" or "out-of-distribution".
        message: for people.
    """

    code: str
    message: str


@dataclass(frozen=True)
class Result:
    """What segmenting one scan gave, and how.

    Attributes:
        mask: (slices, rows, columns) uint8, 1 for tumour, on the scan's own grid.
        lesions: connected components in 3-D, largest first.
        timings_ms: wall-clock milliseconds per stage: preprocess, infer, postprocess, total.
        warnings: what the caller should know.
        bundle_sha256: of the bundle's manifest.
        model_sha256: of the model file that ran.
        backend, device: where it ran, by the engine's own name.
        precision: of the model that ran.
        executed_precision: what most multiply-accumulates really ran in.
        layer_precisions: how many layers ran in which precision.
        ood_score: how unlike the scans of training this one is; above 1 are but a few of them, one in 20 where there
            were enough. None where the bundle cannot tell.
    """

    mask: npt.NDArray[np.uint8]
    lesions: list[Lesion]
    timings_ms: Mapping[str, float]
    warnings: list[Notice]
    bundle_sha256: str
    model_sha256: str
    backend: str
    device: str
    precision: str
    executed_precision: str
    layer_precisions: Mapping[str, int]
    ood_score: float | None = None
    status: str = field(default="ok")

    def to_dict(self) -> dict[str, Any]:
        """Everything but the mask, as JSON values."""
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self) if item.name != "mask"}
        values["lesions"] = [lesion.to_dict() for lesion in self.lesions]
        values["warnings"] = [dataclasses.asdict(notice) for notice in self.warnings]
        values["timings_ms"] = {stage: round(elapsed, 3) for stage, elapsed in self.timings_ms.items()}
        return values | {"layer_precisions": dict(self.layer_precisions)}


class Segmenter:
    """Segments scans with a bundle, on one engine and device.

    with Segmenter("lgg.bundle", backend="openvino", precision="int8") as segmenter:
        result = segmenter.segment(volume)

    Args:
        bundle: the bundle's folder, the name of a shipped model, or a bundle that was opened.
        backend: "openvino", "onnxruntime" or "tensorrt".
        device: the engine's own name of it, such as "GPU" or "CUDAExecutionProvider"; None for its CPU.
        precision: "fp32", "fp16", "int8", or "bf16" where the engine has it; None for what the bundle prefers, or
            FP16 where this device cannot run that. On a CPU whose INT8 sums saturate, "int8" runs the bundle's model
            with weights of 7 bits.
        threads: CPU threads; None for the engine's choice.
        public_key: PEM file of the Ed25519 key that must have signed the bundle; None asks for no signature.

    Raises:
        BundleError: the bundle does not hold, or is not signed as asked.
        InputError: the key cannot be used.
        BackendError: engine, device or precision are not to be had; nothing else is taken instead.
    """

    def __init__(
        self,
        bundle: Bundle | Path | str,
        *,
        backend: str = "openvino",
        device: str | None = None,
        precision: str | None = None,
        threads: int | None = None,
        public_key: Path | None = None,
    ) -> None:
        self.bundle = _opened(bundle, public_key)
        cpu = inspect_cpu()
        wanted = precision or default_precision(self.bundle, backend, device, cpu)
        self.precision = suited_precision(self.bundle, backend, device, wanted, cpu)
        self._model = self.bundle.artefact(backend, self.precision)
        self.backend = load_backend(
            backend,
            self._model,
            device=device,
            precision=self.precision.removesuffix(NARROW_WEIGHTS),
            threads=threads,
            integer_input=self.bundle.integer_input(backend, self.precision),
            cached=True,
        )
        self._preprocessor = Preprocessor(self.bundle.preprocessing)
        self._postprocessor = Postprocessor(self.bundle.postprocessing)
        self._lock = threading.Lock()

    def segment(self, scan: Scan | npt.NDArray[np.generic]) -> Result:
        """Segment one scan; threads wait for each other.

        Args:
            scan: a scan from `tumortrace_runtime.io`, whose channels are picked by name, or voxels
                (slices, rows, columns, channels) of any real dtype with the channels in the bundle's order.

        Raises:
            ScanError: a channel is missing, or the voxels are not what the bundle's input contract asks for.
        """
        spacing_mm = scan.geometry.spacing_mm if isinstance(scan, Scan) else None
        timings_ms = dict.fromkeys(("preprocess", "infer", "postprocess", "total"), 0.0)
        with self._lock, _timed(timings_ms, "total"):
            with _timed(timings_ms, "preprocess"):
                self._preprocessor.open(scan)
            outputs = self._infer(timings_ms)
            placement, replaced = self._preprocessor.placement, self._preprocessor.replaced
            with _timed(timings_ms, "postprocess"):
                evidence = self._evidence(outputs, replaced)
                found = self._postprocess(outputs[0], placement, spacing_mm)
        return Result(
            mask=found.mask,
            lesions=found.lesions,
            timings_ms=timings_ms,
            warnings=[*_notices(replaced, spacing_mm), *_doubts(evidence)],
            bundle_sha256=self.bundle.sha256,
            model_sha256=self.bundle.file_sha256(self._model),
            backend=f"{self.backend.name} {self.backend.version}",
            device=self.backend.device,
            precision=self.precision,
            executed_precision=self.backend.executed_precision,
            layer_precisions=self.backend.layer_precisions,
            ood_score=max(evidence.values(), default=None),
        )

    def _infer(self, timings_ms: dict[str, float]) -> list[npt.NDArray[Any]]:
        """Every output of the network, of all slices of the scan that is open."""
        parts = []
        for start in range(0, self._preprocessor.slices, BATCH_SIZE):
            stop = min(start + BATCH_SIZE, self._preprocessor.slices)
            with _timed(timings_ms, "preprocess"):
                integers = self.backend.integer_input
                batch = (
                    self._preprocessor.network_batch(start, stop)
                    if integers is None
                    else self._preprocessor.packed_batch(start, stop, integers)
                )
            with _timed(timings_ms, "infer"):
                parts.append(self.backend.run_all(batch).values())
        with _timed(timings_ms, "infer"):
            return [np.concatenate(column) for column in zip(*parts, strict=True)]

    def _evidence(self, outputs: Sequence[npt.NDArray[Any]], replaced: Sequence[str]) -> dict[str, float]:
        """What speaks against the scan; nothing where the bundle cannot tell."""
        confidence = self.bundle.confidence
        if confidence is None or confidence.ood is None:
            return {}
        return confidence.ood.evidence(outputs[1], replaced)

    def _postprocess(self, output: npt.NDArray[Any], placement: Placement, spacing_mm: Spacing | None) -> Segmentation:
        logits = own_logits(output, placement)
        if logits is None:
            return self._postprocessor.segment_mask(own_mask(output, placement), spacing_mm)
        temperature = None if self.bundle.confidence is None else self.bundle.confidence.temperature
        return self._postprocessor.segment_logits(logits, spacing_mm, temperature)

    def close(self) -> None:
        """Give back the engine's memory and threads."""
        self.backend.close()

    def __enter__(self) -> Segmenter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def default_precision(bundle: Bundle, backend: str, device: str | None, cpu: Cpu) -> str:
    """The precision where none is asked for: what the bundle prefers, or FP16 where this device cannot run that.

    Args:
        bundle: what has the models, and was measured on some machine.
        backend: as `Segmenter` takes it.
        device: as `Segmenter` takes it.
        cpu: this machine's processor.

    Raises:
        BackendError: the bundle was not exported for `backend`.
    """
    preferred = bundle.preferred(backend)
    on_cpu = _on_cpu(backend, device)
    lacks_bf16 = preferred == "bf16" and not (on_cpu and BF16_FEATURES & set(cpu.features))
    narrow = (backend, f"{preferred}{NARROW_WEIGHTS}") in bundle.choices()
    lacks_int8 = preferred == "int8" and on_cpu and cpu.saturates_int8 and not narrow
    if not lacks_bf16 and not lacks_int8:
        return preferred
    return "fp16" if (backend, "fp16") in bundle.choices() else "fp32"


def suited_precision(bundle: Bundle, backend: str, device: str | None, precision: str, cpu: Cpu) -> str:
    """The precision to run where `precision` is asked for: for "int8" on a `cpu` whose sums saturate, "int8-7bit".

    Args:
        bundle: what has the models.
        backend: as `Segmenter` takes it.
        device: as `Segmenter` takes it.
        precision: what is asked for.
        cpu: this machine's processor, which decides nothing where `device` is another.

    Raises:
        BackendError: the bundle has no model with 7-bit weights, and `cpu` needs it.
    """
    if precision != "int8" or not _on_cpu(backend, device) or not cpu.saturates_int8:
        return precision
    bundle.artefact(backend, precision)  # a bundle without INT8 is refused for that alone
    narrow = f"{precision}{NARROW_WEIGHTS}"
    if (backend, narrow) not in bundle.choices():
        raise BackendError(
            f"{bundle.path}: this CPU has no VNNI, its INT8 sums saturate, and the bundle has no INT8 model with 7-bit "
            f"weights for {backend}; take fp32 or fp16."
        )
    return narrow


def _on_cpu(backend: str, device: str | None) -> bool:
    return backend in CPU_DEVICES and device in (None, CPU_DEVICES[backend])


def _opened(bundle: Bundle | Path | str, public_key: Path | None) -> Bundle:
    if isinstance(bundle, Bundle):
        return bundle if public_key is None else open_bundle(bundle.path, public_key=public_key)
    return open_bundle(find_bundle(bundle), public_key=public_key)


@contextmanager
def _timed(timings_ms: dict[str, float], stage: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    timings_ms[stage] += (time.perf_counter() - started) * 1e3


def _doubts(evidence: Mapping[str, float]) -> list[Notice]:
    if not evidence or max(evidence.values()) <= 1:
        return []
    likeness = max(evidence, key=evidence.__getitem__)
    told = "in a way that was not foreseen" if likeness == UNFAMILIAR else f"most like this mistake: {likeness}"
    message = (
        f"the scan is unlike those that the model was trained on, {evidence[likeness]:.1f} times the limit, {told}. "
        "Look whether the right sequences were given, the right way up."
    )
    return [Notice("out-of-distribution", message)]


def _notices(replaced: Sequence[str], spacing_mm: Spacing | None) -> list[Notice]:
    notices = [
        Notice("replaced-sequence", f"{name} holds a copy of the FLAIR; it was treated as missing.")
        for name in replaced
    ]
    if spacing_mm is None:
        notices.append(Notice("unknown-spacing", "the scan has no spacing: sizes are in voxels and pixels."))
    return notices
