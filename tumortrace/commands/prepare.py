"""`tumortrace prepare`: from a folder of scans to an index."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tumortrace.commands.options import progress_bar

if TYPE_CHECKING:
    from tumortrace.index import Index


@click.command("prepare")
@click.argument("src", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Index to write, as JSON.")
@click.option("--layout", help="How the files are laid out: lgg or nifti; found by the files present when left out.")
@click.option("--mapping", "mapping_path", type=click.Path(path_type=Path), help="Mapping of channels to NIfTI files.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(src: Path, out: Path, layout: str | None, mapping_path: Path | None, as_json: bool) -> None:
    """Read, validate and record every case in SRC, one case folder or a folder of them.

    A case that does not hold is refused, named with the reason, and the rest goes on (exit code 5).
    """
    from tumortrace.index import prepare, save_index
    from tumortrace_runtime.command import DonePartly
    from tumortrace_runtime.errors import DatasetError
    from tumortrace_runtime.files import spelled_out
    from tumortrace_runtime.io import load_mapping

    mapping = load_mapping(mapping_path) if mapping_path else None
    index = prepare(src, layout=layout, mapping=mapping, progress=progress_bar)
    for refusal in index.refused:
        click.echo(f"Refused: {spelled_out(refusal.reason)}", err=True)
    if not index.cases:
        raise DatasetError(f"{src}: all {len(index.refused)} cases were refused; no index was written.")
    save_index(index, out)
    summary = {"index": str(out), **_summary(index)}
    click.echo(json.dumps(summary) if as_json else _table(summary))
    if index.refused:
        click.get_current_context().exit(DonePartly.exit_code)


def _summary(index: Index) -> dict[str, Any]:
    return {
        "sha256": index.sha256,
        "cases": len(index.cases),
        "patients": len({case.patient_id for case in index.cases}),
        "slices": sum(case.slices for case in index.cases),
        "sites": dict(sorted(Counter(case.site for case in index.cases if case.site).items())),
        "tumour_free": sum(case.tumour_free for case in index.cases),
        "replaced": {case.case_id: list(case.replaced) for case in index.cases if case.replaced},
        "refused": [asdict(refusal) for refusal in index.refused],
    }


def _table(summary: dict[str, Any]) -> str:
    sites = ", ".join(f"{site} {count}" for site, count in summary["sites"].items())
    replaced = [f"  {case}: {', '.join(channels)}" for case, channels in summary["replaced"].items()]
    counts = f"{summary['cases']} cases of {summary['patients']} patients, {summary['slices']} slices"
    return "\n".join(
        [
            f"{summary['index']}: {counts}",
            f"sites: {sites or 'not told by the layout'}",
            f"tumour-free cases: {summary['tumour_free']}",
            f"cases with a sequence replaced by FLAIR: {len(replaced)}",
            *replaced,
            f"refused: {len(summary['refused'])}",
        ]
    )
