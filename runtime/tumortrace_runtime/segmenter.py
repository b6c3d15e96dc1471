"""The runtime's front door: a bundle and an engine in, masks and measurements out."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.backends import load_backend
from tumortrace_runtime.bundle import Bundle, open_bundle
from tumortrace_runtime.inference import tumour_logits
from tumortrace_runtime.io.scan import Scan
from tumortrace_runtime.lesions import Lesion, measure_lesions
from tumortrace_runtime.postprocess import segment_logits
from tumortrace_runtime.preprocess import Prepared, preprocess

BATCH_SIZE = 4
"""Slices that go through the network at a time: a tenth faster per slice than one alone, and more gain nothing."""


@dataclass(frozen=True)
class Notice:
    """Something that the caller should know about a result.

    Attributes:
        code: for programs: "replaced-sequence" or "unknown-spacing".
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
        precision: what was asked for.
        executed_precision: what most layers really ran in.
        layer_precisions: how many layers ran in which precision.
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
        bundle: the bundle's folder, or one that was opened.
        backend: "openvino" or "onnxruntime".
        device: the engine's own name of it, such as "GPU" or "CUDAExecutionProvider"; None for its CPU.
        precision: "fp32", "fp16", "int8", or "bf16" where the engine has it.
        threads: CPU threads; None for the engine's choice.

    Raises:
        BundleError: the bundle does not hold.
        BackendError: engine, device or precision are not to be had; nothing else is taken instead.
    """

    def __init__(
        self,
        bundle: Bundle | Path | str,
        *,
        backend: str = "openvino",
        device: str | None = None,
        precision: str = "int8",
        threads: int | None = None,
    ) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else open_bundle(Path(bundle))
        self.precision = precision
        self._model = self.bundle.artefact(backend, precision)
        self.backend = load_backend(backend, self._model, device=device, precision=precision, threads=threads)

    def segment(self, scan: Scan | npt.NDArray[np.generic]) -> Result:
        """Segment one scan.

        Args:
            scan: a scan from `tumortrace_runtime.io`, whose channels are picked by name, or voxels
                (slices, rows, columns, channels) of any real dtype with the channels in the bundle's order.

        Raises:
            ScanError: a channel is missing, or the voxels are not what the bundle's input contract asks for.
        """
        spec = self.bundle.preprocessing
        spacing_mm = scan.geometry.spacing_mm if isinstance(scan, Scan) else None
        timings_ms: dict[str, float] = {}
        with _timed(timings_ms, "total"):
            with _timed(timings_ms, "preprocess"):
                prepared = preprocess(scan, spec)
            with _timed(timings_ms, "infer"):
                logits = tumour_logits(self.backend.run, prepared, spec.context, BATCH_SIZE)
            with _timed(timings_ms, "postprocess"):
                mask = segment_logits(logits, self.bundle.postprocessing)
                lesions = measure_lesions(mask, spacing_mm, self.bundle.postprocessing.connectivity)
        return Result(
            mask=mask,
            lesions=lesions,
            timings_ms=timings_ms,
            warnings=_notices(prepared, spacing_mm),
            bundle_sha256=self.bundle.sha256,
            model_sha256=self.bundle.file_sha256(self._model),
            backend=f"{self.backend.name} {self.backend.version}",
            device=self.backend.device,
            precision=self.precision,
            executed_precision=self.backend.executed_precision,
            layer_precisions=self.backend.layer_precisions,
        )

    def close(self) -> None:
        """Give back the engine's memory and threads."""
        self.backend.close()

    def __enter__(self) -> Segmenter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def _timed(timings_ms: dict[str, float], stage: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    timings_ms[stage] = (time.perf_counter() - started) * 1e3


def _notices(prepared: Prepared, spacing_mm: tuple[float, float, float] | None) -> list[Notice]:
    notices = [
        Notice("replaced-sequence", f"{name} holds a copy of the FLAIR; it was treated as missing.")
        for name in prepared.replaced
    ]
    if spacing_mm is None:
        notices.append(Notice("unknown-spacing", "the scan has no spacing: sizes are in voxels and pixels."))
    return notices
