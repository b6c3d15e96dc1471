"""What segmenting a scan gives: mask, lesions, and what the caller should know."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tumortrace_runtime.confidence import UNFAMILIAR
from tumortrace_runtime.postprocessor import Segmentation, Spacing

if TYPE_CHECKING:
    from tumortrace_runtime.io.scan import ChannelOrigin


WELL_COVERED = 0.95
"""Of a channel that covers less of the scan's grid a notice tells: more than the edges are missing."""


@dataclass(frozen=True)
class Notice:
    """Something that the caller should know about a result.

    Attributes:
        code: for programs: one of those in the runtime's README, such as "out-of-distribution".
        message: for people.
    """

    code: str
    message: str


@dataclass(frozen=True)
class Result(Segmentation):
    """What segmenting one scan gave, and how.

    Attributes:
        timings_ms: wall-clock milliseconds: preprocess, infer, postprocess, total. The network runs while other slices
            are prepared and finished; "infer" is what remained to wait for it.
        warnings: what the caller should know.
        bundle_sha256: of the bundle's manifest.
        model_sha256: of the model file that ran.
        backend, device: where it ran, by the engine's own name.
        precision: of the model that ran.
        executed_precision: what most multiply-accumulates really ran in.
        layer_precisions: how many layers ran in which precision.
        ood_score: how unlike the scans of training this one is; above 1 are but a few of them, one in 20 where there
            were enough. None where the bundle cannot tell, or the network saw a part of the slices alone.
        skipped_slices: slices without head, which the network did not see; they are background.
        network_px: (rows, columns) that it saw of the others; less than the bundle's grid where margins were cropped.
    """

    timings_ms: Mapping[str, float]
    warnings: list[Notice]
    bundle_sha256: str
    model_sha256: str
    backend: str
    device: str
    precision: str
    executed_precision: str
    layer_precisions: Mapping[str, int]
    skipped_slices: int
    network_px: tuple[int, int]
    ood_score: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Everything but the mask and its runs, as JSON values."""
        left_out = ("mask", "runs")
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self) if item.name not in left_out}
        values["lesions"] = [lesion.to_dict() for lesion in self.lesions]
        values["warnings"] = [dataclasses.asdict(notice) for notice in self.warnings]
        values["timings_ms"] = {stage: round(elapsed, 3) for stage, elapsed in self.timings_ms.items()}
        return values | {"layer_precisions": dict(self.layer_precisions)}


def doubts(evidence: Mapping[str, float]) -> list[Notice]:
    """What to say of a scan that evidence speaks against; nothing where none is above its limit, 1."""
    if not evidence or max(evidence.values()) <= 1:
        return []
    likeness = max(evidence, key=evidence.__getitem__)
    told = "in a way that was not foreseen" if likeness == UNFAMILIAR else f"most like this mistake: {likeness}"
    message = (
        f"the scan is unlike those that the model was trained on, {evidence[likeness]:.1f} times the limit, {told}. "
        "Look whether the right sequences were given, the right way up."
    )
    return [Notice("out-of-distribution", message)]


def notices(replaced: Sequence[str], spacing_mm: Spacing | None, origins: Sequence[ChannelOrigin] = ()) -> list[Notice]:
    """What to say of a scan whose channels `replaced` hold copies, whose spacing may not be known, of such origins."""
    found = [
        Notice("replaced-sequence", f"{name} holds a copy of the FLAIR; it was treated as missing.")
        for name in replaced
    ]
    found += [
        Notice("named-otherwise", f"{origin.channel}: {origin.series} was named; its header says {other}.")
        for origin in origins
        if (other := origin.header_says) and origin.channel not in replaced
    ]
    told = {origin: (origin.series, origin.doubt, origin.covered) for origin in origins}
    for about in dict.fromkeys(told.values()):
        series, doubt, covered = about
        of = f"{', '.join(origin.channel for origin in origins if told[origin] == about)}: {series}"
        if doubt:
            found.append(Notice("incomplete-series", f"{of}: {doubt}; slices may be missing."))
        if covered < WELL_COVERED:
            told_of = f"{of} covers {math.floor(100 * covered)} % of the scan"
            found.append(Notice("partial-coverage", f"{told_of}, and was taken for 0 in the rest."))
    if spacing_mm is None:
        found.append(
            Notice("unknown-spacing", "the scan has no spacing: nothing is told in millilitres or millimetres.")
        )
    return found
