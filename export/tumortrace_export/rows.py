"""What an export made, as figures: a row for each engine and precision, and what was decided on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tumortrace_export.artefacts import Writer
from tumortrace_export.assess import Accuracy
from tumortrace_export.int8 import Found
from tumortrace_runtime.backends import Backend
from tumortrace_runtime.backends.backend import Layer, mac_share
from tumortrace_runtime.bench.timing import Timing, speedups
from tumortrace_runtime.bundle import model_files
from tumortrace_runtime.preprocess import IntegerInput
from tumortrace_runtime.table import format_table

HEADINGS = (
    *("engine", "precision", "ran in", "INT8 MACs", "made s", "MB", "Dice", "worst", "drop", "case drop"),
    *("small lesions", "flipped ppm", "ms/slice", "speed-up"),
)
PYTORCH = "PyTorch fp32"
PYTORCH_NHWC = "PyTorch-NHWC fp32"


@dataclass(frozen=True)
class Row:
    """One line of the export's table: an engine, or PyTorch, at one precision.

    Attributes:
        backend: the engine's name.
        precision: of the artefact.
        file: in the bundle; "" for PyTorch.
        size_bytes: of the artefact, weights included.
        made_s: seconds that it took to make.
        accuracy: on the validation cases; None where it was not run, and for PyTorch-NHWC, which is the same network.
        timing: per slice; None where it was not run.
        speedup: times as fast as PyTorch eager in its default memory order, by medians of the same run.
        executed_precision: what most multiply-accumulates really ran in; None where it was not run.
        layers: what ran in what.
    """

    backend: str
    precision: str
    file: str = ""
    size_bytes: int = 0
    made_s: float = 0.0
    accuracy: Accuracy | None = None
    timing: Timing | None = None
    speedup: float | None = None
    executed_precision: str | None = None
    layers: Sequence[Layer] = ()

    @property
    def name(self) -> str:
        """Engine and precision."""
        return f"{self.backend} {self.precision}"


@dataclass(frozen=True)
class Exported:
    """What an export made.

    Attributes:
        rows: the table.
        preferred: the precision to run, by engine.
        int8: the INT8 model that was found, or None.
        fp16_float_layers: what FP16 could not hold.
        without_fallback: timings of INT8 with no layer back in float, by name, where some are.
        test: accuracy on the test cases by name, scored once.
        integer_inputs: how a file takes its input as integers, by its path.
    """

    rows: Sequence[Row]
    preferred: Mapping[str, str]
    int8: Found | None
    fp16_float_layers: Sequence[str]
    without_fallback: Mapping[str, Timing]
    test: Mapping[str, Accuracy]
    integer_inputs: Mapping[str, IntegerInput]


def make_rows(
    writer: Writer,
    backends: Mapping[str, Backend],
    accuracies: Mapping[str, Accuracy],
    timings: Mapping[str, Timing],
) -> list[Row]:
    """PyTorch first, then every artefact of the bundle, those that were not run included."""
    faster = speedups(timings, PYTORCH)
    rows = []
    for name in (PYTORCH, PYTORCH_NHWC):
        backend, precision = name.split()
        timing, speedup = timings[name], faster[name]
        rows.append(Row(backend, precision, accuracy=accuracies.get(name), timing=timing, speedup=speedup))
    for backend, precision, file in writer.choices():
        name = f"{backend} {precision}"
        loaded = backends.get(name)
        if precision == "bf16" and loaded is None:
            continue  # this CPU has none; the file is that of fp16
        rows.append(
            Row(
                backend=backend,
                precision=precision,
                file=file,
                size_bytes=sum((writer.folder / part).stat().st_size for part in model_files(file)),
                made_s=writer.made_s[file],
                accuracy=accuracies.get(name),
                timing=timings.get(name),
                speedup=faster.get(name),
                executed_precision=loaded.executed_precision if loaded else None,
                layers=loaded.layers if loaded else (),
            )
        )
    return rows


def table(rows: Sequence[Row]) -> str:
    """The rows as text, with "not run" where nothing was measured."""
    return format_table(HEADINGS, [_cells(row) for row in rows])


def _cells(row: Row) -> tuple[str, ...]:
    artefact = (f"{row.made_s:.1f}", f"{row.size_bytes / 1e6:.1f}") if row.file else ("", "")
    share = f"{mac_share(row.layers, 'int8'):.1%}" if row.precision.startswith("int8") and row.layers else ""
    speed = (f"{row.timing.median_ms:.2f}", f"{row.speedup:.2f}") if row.timing else ("not run", "")
    return (row.backend, row.precision, row.executed_precision or "", share, *artefact, *_accuracy(row), *speed)


def _accuracy(row: Row) -> tuple[str, ...]:
    if row.accuracy is None:
        return ("as above" if row.name == PYTORCH_NHWC else "not run", *[""] * 5)
    accuracy = row.accuracy
    recall = "" if accuracy.small_lesion_recall is None else f"{accuracy.small_lesion_recall:.3f}"
    return (
        f"{accuracy.dice:.4f}",
        f"{accuracy.worst_dice:.4f}",
        f"{accuracy.drop:+.4f}",
        f"{accuracy.case_drop:+.4f}",
        recall,
        f"{accuracy.flipped_per_million:.0f}",
    )
