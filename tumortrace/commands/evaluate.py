"""`tumortrace evaluate`: how good a checkpoint or a bundle is on the cases of a split."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tumortrace.commands.options import (
    BUNDLE,
    data_options,
    engine_options,
    key_option,
    part_options,
    progress_bar,
    refuse_given,
)
from tumortrace_runtime.files import sha256_file

if TYPE_CHECKING:
    from tumortrace.report import Predict


@click.command("evaluate")
@click.argument("model", metavar="CHECKPOINT|BUNDLE", type=BUNDLE)
@data_options
@part_options
@click.option("--tolerance", type=float, default=2.0, show_default=True, help="Of surface Dice, in mm or else px.")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Folder of the report.")
@engine_options
@key_option
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def command(
    model: Path,
    index_path: Path,
    split_path: Path,
    part: str,
    fold: int | None,
    tolerance: float,
    out: Path,
    as_json: bool,
    **engine: Any,
) -> None:
    """Measure every case of a part in 3-D, on its own grid, and write cases.csv, summary.json and overlays.

    Beside the voxel measures there are lesions found and made up, and Dice by site, tumour size and missing sequence.

    A test part with patients that the model was trained or chosen on is refused.

    A checkpoint runs in PyTorch at fp32; a bundle runs as --backend and --precision say. With --key, only a bundle
    that it signed will do.
    """
    from tumortrace.commands.tables import summary_text
    from tumortrace.index import load_index, open_case
    from tumortrace.provenance import refuse_seen
    from tumortrace.report import evaluate_cases, write_report
    from tumortrace.split import load_split
    from tumortrace.strata import assign_strata

    index = load_index(index_path)
    split = load_split(split_path, index)
    names = split.part(part, fold)
    with _predictor(model, engine) as (predict, channels, about, training):
        if part == "test":
            refuse_seen(str(model), training, names, index)
        about |= {"part": part, "fold": fold, "index_sha256": index.sha256, "split_sha256": split.sha256}
        with progress_bar(names, "evaluating") as shown:
            scans = (open_case(index, name, channels=channels) for name in shown)
            evaluated = evaluate_cases(scans, predict, tolerance)
            summary = write_report(out, evaluated, strata=assign_strata(names, index), about=about)
    files = f"{out}: {summary['cases']} cases; cases.csv, summary.json, overlays/"
    click.echo(json.dumps(summary) if as_json else f"{summary_text(summary)}\n\n{files}")


@contextmanager
def _predictor(
    model: Path, engine: dict[str, Any]
) -> Iterator[tuple[Predict, tuple[str, ...], dict[str, Any], dict[str, Any]]]:
    """A function from scan to mask, the channels it sees, what it is, for the report, and how it was trained."""
    from tumortrace_runtime.bundle import MANIFEST

    if engine["public_key"] is not None or (model / MANIFEST).exists():
        from tumortrace_runtime.segmenter import Segmenter

        with Segmenter(model, **engine) as segmenter:
            about = {
                "bundle_sha256": segmenter.bundle.sha256,
                "backend": segmenter.backend.name,
                "executed_precision": segmenter.backend.executed_precision,
            }
            bundle = segmenter.bundle
            channels = bundle.preprocessing.channels
            yield (lambda scan: segmenter.segment(scan).mask), channels, about, bundle.manifest.get("training", {})
    else:
        refuse_given(engine, "a checkpoint runs in PyTorch at fp32; give a bundle")
        from tumortrace.checkpoint import CONFIG, load_checkpoint
        from tumortrace.predict import CheckpointPredictor

        checkpoint = load_checkpoint(model)
        about = {
            "checkpoint": str(model),
            "checkpoint_sha256": sha256_file(model / CONFIG),
            "backend": "pytorch",
        }
        yield CheckpointPredictor(checkpoint), checkpoint.preprocessing.channels, about, dict(checkpoint.training)
