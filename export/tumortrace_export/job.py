"""What one export has to do, and with what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from tumortrace.checkpoint import Checkpoint
from tumortrace.dataset import TrainingCase, prepare_case
from tumortrace.index import Index, open_case
from tumortrace.progress import Progress
from tumortrace.split import Split
from tumortrace_export.manifest import Cases
from tumortrace_export.settings import Settings
from tumortrace_runtime.postprocess import Postprocessing
from tumortrace_runtime.preprocess import Preprocessing

Report = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """What one export has to do, and with what."""

    checkpoint: Checkpoint
    index: Index
    split: Split
    settings: Settings
    cases: Cases
    report: Report
    progress: Progress

    @property
    def spec(self) -> Preprocessing:
        """What the network sees."""
        return self.checkpoint.preprocessing

    @property
    def postprocessing(self) -> Postprocessing:
        """What makes its logits a mask."""
        return self.checkpoint.postprocessing

    def prepared(self, names: Iterable[str]) -> Iterator[TrainingCase]:
        """Cases by their ids, read and preprocessed one after another."""
        scans = (open_case(self.index, name, channels=self.spec.channels) for name in names)
        return (prepare_case(scan, self.spec) for scan in scans)
