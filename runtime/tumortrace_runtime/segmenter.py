"""The runtime's front door: a bundle and an engine in, masks and measurements out."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.backends import THROUGHPUT, Backend, load_backend
from tumortrace_runtime.bundle import NARROW_WEIGHTS, Bundle, open_bundle
from tumortrace_runtime.crop import Crop, Window, head_window, whole_grid
from tumortrace_runtime.errors import BackendError
from tumortrace_runtime.flow import Flow, timed
from tumortrace_runtime.io.scan import Scan
from tumortrace_runtime.machine import inspect_cpu
from tumortrace_runtime.memory import enough_memory
from tumortrace_runtime.models import find_bundle
from tumortrace_runtime.postprocessor import Postprocessor, Spacing, checked_spacing
from tumortrace_runtime.precision import default_precision, suited_precision
from tumortrace_runtime.preprocess.native import Preprocessor
from tumortrace_runtime.result import Result, doubts, notices
from tumortrace_runtime.stream import Stream

Array = npt.NDArray[Any]


class Segmenter:
    """Segments scans with a bundle, on one engine and device.

    with Segmenter("lgg.bundle", backend="openvino", precision="int8") as segmenter:
        result = segmenter.segment(volume)

    Slices without head never reach the network: they are background. While the network runs, the next slices are
    prepared and the last ones finished, in memory that is allocated once.

    Args:
        bundle: the bundle's folder, the name of a shipped model, or a bundle that was opened.
        backend: "openvino", "onnxruntime" or "tensorrt".
        device: the engine's own name of it, such as "GPU" or "CUDAExecutionProvider"; None for its CPU.
        precision: "fp32", "fp16", "int8", or "bf16" where the engine has it; None for what the bundle prefers, or
            FP16 where this device cannot run that. On a CPU whose INT8 sums saturate, "int8" runs the bundle's model
            with weights of 7 bits.
        threads: CPU threads; None for the engine's choice.
        public_key: PEM file of the Ed25519 key that must have signed the bundle; None asks for no signature.
        mode: "throughput", with which whole scans are done the soonest, or "latency", with which single slices are, as
            they come from `stream`.
        crop: whether the network sees only the part of the slices that has head in it, in steps of 64 px. It is the
            faster for it, but what lies along the edge may come out otherwise, and there is no OOD score. Only
            OpenVINO at INT8 can.

    Raises:
        BundleError: the bundle does not hold, or is not signed as asked.
        InputError: the key cannot be used.
        BackendError: engine, device, precision or mode are not to be had; nothing else is taken instead.
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
        mode: str = THROUGHPUT,
        crop: bool = False,
    ) -> None:
        self.bundle = _opened(bundle, public_key)
        cpu = inspect_cpu()
        wanted = precision or default_precision(self.bundle, backend, device, cpu)
        self.precision = suited_precision(self.bundle, backend, device, wanted, cpu)
        self._model = self.bundle.artefact(backend, self.precision)

        def load(grid_px: tuple[int, int] | None) -> Backend:
            return load_backend(
                backend,
                self._model,
                device=device,
                precision=self.precision.removesuffix(NARROW_WEIGHTS),
                threads=threads,
                integer_input=self.bundle.integer_input(backend, self.precision),
                mode=mode,
                grid_px=grid_px,
                cached=True,
            )

        self.backend = load(None)
        if crop and (backend != "openvino" or self.backend.integer_input is None):
            self.backend.close()
            raise BackendError(
                f"crop: {backend} at {self.precision} runs slices of one size alone; only OpenVINO at int8 can."
            )
        self._crop = Crop(load, self.backend) if crop else None
        # Statistics are taken before the network runs, while all processors are free.
        self._preprocessor = Preprocessor(self.bundle.preprocessing, threads=threads or cpu.threads)
        self._postprocessor = Postprocessor(self.bundle.postprocessing)
        self._lock = threading.Lock()

    def segment(self, scan: Scan | npt.NDArray[np.generic]) -> Result:
        """Segment one scan; threads wait for each other.

        Args:
            scan: a scan from `tumortrace_runtime.io`, whose channels are picked by name, or voxels
                (slices, rows, columns, channels) of any real dtype with the channels in the bundle's order.

        Raises:
            ScanError: a channel is missing, or the voxels are not what the bundle's input contract asks for.
            ResourceError: there is too little memory.
            BackendError: the engine failed.
        """
        return self.segment_voxels(scan, scan.geometry.spacing_mm if isinstance(scan, Scan) else None)

    def segment_voxels(self, scan: Scan | Array, spacing_mm: Spacing | None) -> Result:
        """What `segment` gives, with this distance between (slices, rows, columns), or None where it is not known.

        Raises:
            InputError: the spacing is not three positive, finite numbers; and as `segment` raises.
        """
        spacing_mm = checked_spacing(spacing_mm)
        timings_ms = dict.fromkeys(("preprocess", "infer", "postprocess", "total"), 0.0)
        origins = scan.origins if isinstance(scan, Scan) else ()
        with enough_memory(), self._lock, timed(timings_ms, "total"):
            with timed(timings_ms, "preprocess"):
                window = self._open(scan)
                seen = self._preprocessor.coverage().slices
            flow = self._flow(window, timings_ms)
            self._begin(len(seen), spacing_mm)
            flow.run(np.flatnonzero(seen).tolist(), first=0, stop=len(seen))
            replaced = self._preprocessor.replaced
            with timed(timings_ms, "postprocess"):
                found = self._postprocessor.finish()
                evidence = self._evidence(flow.statistics, replaced)
        return Result(
            mask=found.mask,
            lesions=found.lesions,
            runs=found.runs,
            timings_ms=timings_ms,
            warnings=[*notices(replaced, spacing_mm, origins), *doubts(evidence)],
            bundle_sha256=self.bundle.sha256,
            model_sha256=self.bundle.file_sha256(self._model),
            backend=f"{self.backend.name} {self.backend.version}",
            device=self.backend.device,
            precision=self.precision,
            executed_precision=self.backend.executed_precision,
            layer_precisions=self.backend.layer_precisions,
            skipped_slices=int(np.count_nonzero(~seen)),
            network_px=window.size_px,
            ood_score=max(evidence.values(), default=None),
        )

    def segment_newest(self, voxels: Array) -> npt.NDArray[np.uint8]:
        """The mask of the last slice of what there is of a scan, (rows, columns) 0 or 1; small lesions are left in.

        Args:
            voxels: (slices, rows, columns, channels), as `segment` takes them.

        Raises:
            ScanError: as `segment` raises it.
        """
        last = len(voxels) - 1
        with enough_memory(), self._lock:
            flow = self._flow(self._open(voxels), dict.fromkeys(("preprocess", "infer", "postprocess"), 0.0))
            self._begin(1, None)
            head = self._preprocessor.coverage().slices[last]
            flow.run([last] if head else [], first=last, stop=last + 1)
            return self._postprocessor.provisional(0)

    def stream(self, spacing_mm: Spacing | None = None) -> Stream:
        """Take the slices of a scan as a scanner produces them.

        Args:
            spacing_mm: distance between (slices, rows, columns), or None where it is not known.

        Raises:
            InputError: the spacing is not three positive, finite numbers.
        """
        return Stream(self, spacing_mm)

    def _open(self, scan: Scan | Array) -> Window:
        """Take up a scan; what the network is to see of its slices."""
        self._preprocessor.open(scan)
        if self._crop is None:
            return whole_grid(self._preprocessor.placement)
        return head_window(self._preprocessor.coverage(), self._preprocessor.placement)

    def _flow(self, window: Window, timings_ms: dict[str, float]) -> Flow:
        return Flow(self._preprocessor, self._postprocessor, self.backend, self._crop, window, timings_ms)

    def _begin(self, slices: int, spacing_mm: Spacing | None) -> None:
        gives_logits = next(iter(self.backend.requests[0].outputs.values())).ndim == 4
        confidence = self.bundle.confidence if gives_logits else None
        temperature = None if confidence is None else confidence.temperature
        self._postprocessor.begin(slices, self._preprocessor.placement, spacing_mm, temperature)

    def _evidence(self, statistics: npt.NDArray[np.float32] | None, replaced: Sequence[str]) -> dict[str, float]:
        """What speaks against the scan; nothing where the bundle cannot tell, or the network saw windows of slices."""
        confidence = self.bundle.confidence
        if statistics is None or self._crop is not None or confidence is None or confidence.ood is None:
            return {}
        return confidence.ood.evidence(statistics, replaced)

    def close(self) -> None:
        """Give back the engine's memory and threads."""
        self.backend.close()
        if self._crop is not None:
            self._crop.close()

    def __enter__(self) -> Segmenter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _opened(bundle: Bundle | Path | str, public_key: Path | None) -> Bundle:
    if isinstance(bundle, Bundle):
        return bundle if public_key is None else open_bundle(bundle.path, public_key=public_key)
    return open_bundle(find_bundle(bundle), public_key=public_key)
