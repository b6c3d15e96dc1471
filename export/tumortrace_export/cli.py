"""The program `tumortrace-export`: a checkpoint in, a bundle out."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from tumortrace.commands.options import own_data_options, progress_bar
from tumortrace_runtime.command import run
from tumortrace_runtime.errors import OutputError
from tumortrace_runtime.libraries import install_command
from tumortrace_runtime.version import __version__

if TYPE_CHECKING:
    from tumortrace_export.log import Report
    from tumortrace_export.rows import Exported
    from tumortrace_export.settings import Settings


@click.command(epilog="Research software, not a medical device.")
@click.argument("checkpoint_path", metavar="CHECKPOINT", type=click.Path(path_type=Path))
@click.option("--precision", help="Which to make, of fp32,fp16,int8; fp32 is always made.  [default: fp32,fp16]")
@click.option("--fp16", is_flag=True, help="Short for --precision fp32,fp16.")
@click.option("--int8", is_flag=True, help="Short for --precision fp32,fp16,int8.")
@click.option("--format", "formats", help="Of onnx,openvino,tensorrt.  [default: all that this machine can make]")
@own_data_options
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Bundle to write: NAME.bundle.")
@click.option("--calibration", default="auto", show_default=True, help="minmax, percentile, mse, or auto to try all.")
@click.option("--max-drop", type=float, default=0.001, show_default=True, help="Mean Dice that may be lost at most.")
@click.option("--max-case-drop", type=float, default=0.02, show_default=True, help="Dice that any case may lose.")
@click.option("--output", default="logits", show_default=True, help="logits, or mask: the graph thresholds itself.")
@click.option("--bottleneck-statistics", is_flag=True, help="Give statistics of the coarsest features too.")
@click.option("--archive", is_flag=True, help="Pack the bundle into one file, OUT.tar, too.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.version_option(__version__, message="%(prog)s %(version)s")
def command(
    checkpoint_path: Path,
    index_path: Path,
    split_path: Path,
    fold: int | None,
    out: Path,
    archive: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Turn CHECKPOINT into a bundle that needs no PyTorch.

    Calibrates on the split's training cases, scores every artefact on its validation cases, puts layers of an INT8
    model back in float where it loses more than --max-drop or --max-case-drop, and writes nothing where that does not
    help (exit code 3). What happened stands in a log beside the bundle, NAME.export.log.
    """
    from tumortrace.checkpoint import load_checkpoint
    from tumortrace.index import load_index
    from tumortrace.progress import silent
    from tumortrace.split import load_split
    from tumortrace_export.export import export
    from tumortrace_export.log import keep_log

    archive_path = out.parent / f"{out.name}.tar"
    for path in (out, archive_path) if archive else (out,):
        if path.exists():
            raise OutputError(f"{path}: already exists; remove it or choose another name.")
    with keep_log(out, None if as_json else _to_stderr) as report:
        settings = _settings(report, **options)
        index = load_index(index_path)
        split = load_split(split_path, index)
        checkpoint = load_checkpoint(checkpoint_path)
        progress = progress_bar if sys.stderr.isatty() and not as_json else silent
        exported = export(checkpoint, index, split, out, settings, fold=fold, report=report, progress=progress)
        packed = archive_path if archive else None
        text = _text(out, packed, exported)
        report(text, shown=False)
    if packed:
        from tumortrace_runtime.archive import pack

        pack(out, packed)
    click.echo(json.dumps(_result(out, packed, exported)) if as_json else text)


def _to_stderr(line: str) -> None:
    click.echo(line, err=True)


def _settings(
    report: Report,
    *,
    precision: str | None,
    fp16: bool,
    int8: bool,
    formats: str | None,
    max_drop: float,
    max_case_drop: float,
    output: Any,
    **others: Any,
) -> Settings:
    from tumortrace_export.gate import Gate
    from tumortrace_export.settings import FORMATS, PRECISIONS, Settings, formats_here

    named = {
        *_list(precision),
        *(PRECISIONS[:2] if fp16 or not (precision is not None or int8) else ()),
        *(PRECISIONS if int8 else ()),
    }
    here = formats_here()
    if formats is None and (missing := [name for name in FORMATS if name not in here]):
        line = f"leaving out {', '.join(missing)}: not installed here ({install_command(missing[0])})."
        report(line, shown=False)
        _to_stderr(line)  # with --json too: nothing is left out unsaid
    return Settings(
        precisions=[*(name for name in PRECISIONS if name in named), *sorted(named - set(PRECISIONS))],
        formats=here if formats is None else _list(formats),
        gate=Gate(max_drop, max_case_drop),
        output=output,
        **others,
    )


def _list(text: str | None) -> list[str]:
    return [] if text is None else [part.strip() for part in text.split(",")]


def _result(out: Path, archive: Path | None, exported: Exported) -> dict[str, Any]:
    found = exported.int8
    return {
        "bundle": str(out),
        "archive": archive and str(archive),
        "artefacts": [asdict(row) for row in exported.rows],
        "preferred": dict(exported.preferred),
        "calibration": found and found.method,
        "float_layers": list(found.float_layers) if found else [],
        "fp16_float_layers": list(exported.fp16_float_layers),
        "ms_per_slice_without_fallback": {name: asdict(timing) for name, timing in exported.without_fallback.items()},
        "test": {name: asdict(accuracy) for name, accuracy in exported.test.items()},
    }


def _text(out: Path, archive: Path | None, exported: Exported) -> str:
    from tumortrace_export.rows import table

    lines = [table(exported.rows), ""]
    lines += [f"{engine}: {precision} is preferred" for engine, precision in exported.preferred.items()]
    if exported.int8 and exported.int8.float_layers:
        lines.append(f"in float, for accuracy: {', '.join(exported.int8.float_layers)}")
        by_name = {row.name: row.timing for row in exported.rows}
        for name, before in exported.without_fallback.items():
            after = by_name[name]
            assert after is not None
            lines.append(f"which costs {name} {after.median_ms - before.median_ms:+.2f} ms per slice")
    for name, accuracy in exported.test.items():
        lines.append(f"test, for the record: {name} Dice {accuracy.dice:.4f}, worst {accuracy.worst_dice:.4f}")
    bundle = shlex.quote(str(out))
    engine = "" if "openvino" in exported.preferred else " --backend onnxruntime"  # OpenVINO is what is run unasked
    lines += ["", str(archive or out)]
    lines += [f"tumortrace doctor {bundle}", f"tumortrace segment {bundle} SCAN -o OUT{engine}"]
    if any(row.backend == "tensorrt" for row in exported.rows):
        lines.append(f"tumortrace build-engine {bundle}    # on the NVIDIA device")
    return "\n".join(lines)


def main() -> NoReturn:
    """Entry point of the console script."""
    run(command, "tumortrace-export", extra="export")
