"""Runs the artefacts of an export on this machine: loads them as the runtime does, measures them, and keeps score."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tumortrace.progress import Progress
from tumortrace_export.artefacts import Writer
from tumortrace_export.assess import Accuracy, Expected, measure
from tumortrace_export.gate import Gate
from tumortrace_runtime.backends import Backend, load_backend
from tumortrace_runtime.bundle import ARTEFACTS, NARROW_WEIGHTS
from tumortrace_runtime.errors import AccuracyError, BackendError, InputError
from tumortrace_runtime.postprocess import Postprocessing
from tumortrace_runtime.preprocess import IntegerInput

NOT_RUN = ("tensorrt",)
"""Engines whose artefacts are made here and run elsewhere."""

Report = Callable[[str], None]


class Assessor:
    """Measures artefacts on validation cases.

    Attributes:
        accuracies: of every artefact that was measured, by "engine precision".
        gate: what may be lost.
        expected: the validation cases, with what PyTorch makes of them.
        small_voxels: up to how many a lesion is small.
    """

    def __init__(
        self,
        writer: Writer,
        expected: Sequence[Expected],
        small_voxels: int,
        postprocessing: Postprocessing,
        gate: Gate,
        report: Report,
        progress: Progress,
    ) -> None:
        self._writer = writer
        self.expected = expected
        self.small_voxels = small_voxels
        self._postprocessing = postprocessing
        self._report = report
        self._progress = progress
        self.gate = gate
        self.accuracies: dict[str, Accuracy] = {}
        self._bf16: dict[str, bool] = {}

    def load(self, backend: str, precision: str) -> Backend:
        """An artefact in its engine."""
        return _load(backend, precision, self._writer.folder, self._writer.integer_inputs)

    def keep_first(self, scratch: Path) -> None:
        """Keep the artefacts as they are now in another folder, to be timed beside what they become."""
        shutil.copytree(self._writer.folder, scratch, dirs_exist_ok=True)
        self._first = scratch, dict(self._writer.integer_inputs)

    def load_first(self, backend: str) -> Backend:
        """The INT8 model that was kept."""
        return _load(backend, "int8", *self._first)

    def choices(self) -> Iterator[tuple[str, str]]:
        """Engine and precision of everything that can be run here."""
        for backend, precision, _ in self._writer.choices():
            if backend not in NOT_RUN and (precision != "bf16" or self._has_bf16(backend)):
                yield backend, precision

    def measure(self, network: Backend, name: str) -> Accuracy:
        """The accuracy of a loaded artefact, kept under its name.

        Raises:
            AccuracyError: it gives NaN.
        """
        self._report(f"measuring {name} on {len(self.expected)} cases")
        try:
            accuracy = measure(network, self.expected, self._writer.spec, self._postprocessing, self._progress)
        except InputError as problem:
            raise AccuracyError(f"{name}: {problem} Nothing was written.") from problem
        self.accuracies[name] = accuracy
        return accuracy

    def require(self, backend: str, precision: str) -> None:
        """Measure an artefact that has to hold the gate.

        Raises:
            AccuracyError: it does not.
        """
        name = f"{backend} {precision}"
        with self.load(backend, precision) as network:
            fault = self.gate.fault(name, self.measure(network, name))
        if not fault:
            return
        if precision != "bf16":  # what is asked of the FP16 file at run time is only not preferred
            raise AccuracyError(f"{fault} Nothing was written.")
        self._report(f"{fault} It is never preferred.")

    def _has_bf16(self, backend: str) -> bool:
        if backend not in self._bf16:
            try:
                self.load(backend, "bf16").close()
                self._bf16[backend] = True
            except BackendError:
                self._bf16[backend] = False
        return self._bf16[backend]


def _load(backend: str, precision: str, folder: Path, integer_inputs: Mapping[str, IntegerInput]) -> Backend:
    file = ARTEFACTS[backend, precision]
    arithmetic = precision.removesuffix(NARROW_WEIGHTS)
    return load_backend(backend, folder / file, precision=arithmetic, integer_input=integer_inputs.get(file))
