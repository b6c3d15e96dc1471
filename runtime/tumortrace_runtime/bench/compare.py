"""A result against its baseline: what moved, by how much, and whether by more than it may."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tumortrace_runtime.bench.gates import Gates
from tumortrace_runtime.bench.results import ENGINE, STAGES, Candidate, Results, Start
from tumortrace_runtime.bench.stability import NOISY, machine_noise, reference_ms, relative_times, time_ratio
from tumortrace_runtime.errors import InputError

OK, WITHIN_NOISE, REGRESSION = "ok", "within noise", "regression"

_MB = 1e6


@dataclass(frozen=True)
class Finding:
    """One measure of one candidate, new against baseline.

    Attributes:
        candidate: its name.
        measure: "dice", "total", a stage, "first mask", "own memory", "memory growth" or "size".
        baseline, new: of both runs: mean Dice, median milliseconds, megabytes; None where there is none.
        change: the drop of a Dice, the growth in megabytes, or how many times the baseline.
        interval: of a ratio of times, 95 %; else None.
        limit: what the change may not exceed.
        verdict: "ok", "within noise" (beyond the limit, but not by more than chance), or "regression".
        detail: the case, or the stage, that moved the most.
    """

    candidate: str
    measure: str
    baseline: float | None
    new: float | None
    change: float
    interval: tuple[float, float] | None
    limit: float
    verdict: str
    detail: str


@dataclass(frozen=True)
class Comparison:
    """All of it.

    Attributes:
        findings: of every candidate of the baseline.
        remarks: what was not compared, and why.
    """

    findings: tuple[Finding, ...]
    remarks: tuple[str, ...]

    @property
    def regressions(self) -> list[Finding]:
        """What is beyond its limit."""
        return [each for each in self.findings if each.verdict == REGRESSION]

    def to_dict(self) -> dict[str, Any]:
        """As JSON stores it."""
        return asdict(self) | {"regressions": len(self.regressions)}


def compare(new: Results, base: Results, gates: Gates) -> Comparison:
    """Compare results of one model on the same data.

    Dice is paired by case, latency is in units of the reference workload that ran in the same run, and peers are left
    out. On another processor accuracy and size alone are compared.

    Raises:
        InputError: another model or data set, or no case in common.
    """
    cases = _common_cases(new, base)
    remarks = list(_remarks(new, base, cases))
    findings: list[Finding] = []
    for before in (each for each in base.candidates if each.kind == ENGINE):
        after = new.candidate(before.name)
        if after is None:
            reasons = [each.reason for each in new.not_run if before.name.startswith(each.name)]
            findings.append(_gone(before, reasons))
            continue
        findings.append(_accuracy(after, before, cases, gates))
        findings.append(_size(after, before, gates))
        if new.cpu == base.cpu:
            findings += _memory(after, before, gates)
            findings += _latency(after, before, cases, gates)
            findings += _first_mask(after, before, reference_ms(base) / reference_ms(new), gates)
    return Comparison(tuple(findings), tuple(remarks))


def _common_cases(new: Results, base: Results) -> list[str]:
    for what, ours, theirs in (
        ("model", new.model_sha256, base.model_sha256),
        ("index", new.data["index_sha256"], base.data["index_sha256"]),
        ("split", new.data["split_sha256"], base.data["split_sha256"]),
    ):
        if ours != theirs:
            raise InputError(f"baseline: {what} {theirs[:12]} there, {ours[:12]} here; one of the same is wanted.")
    cases = [case for case in base.data["slices"] if case in new.data["slices"]]
    if not cases:
        raise InputError("baseline: no case is in both results; measure the same part of the split.")
    return cases


def _remarks(new: Results, base: Results, cases: Sequence[str]) -> Iterator[str]:
    if len(cases) < max(len(new.data["slices"]), len(base.data["slices"])):
        ours, theirs = len(new.data["slices"]), len(base.data["slices"])
        yield f"compared on {len(cases)} cases that both have; {ours} here, {theirs} there"
    if new.cpu != base.cpu:
        yield f"accuracy and size alone are compared: {base.cpu} there, {new.cpu} here"
        return
    for name, results in (("here", new), ("in the baseline", base)):
        if (noise := machine_noise(results)) > NOISY:
            yield f"latencies say little: the reference workload spread by {100 * noise:.0f} % {name}"
    known = {each.name for each in base.candidates}
    for each in new.candidates:
        if each.kind == ENGINE and each.name not in known:
            yield f"{each.name}: not in the baseline"


def _gone(before: Candidate, reasons: Sequence[str]) -> Finding:
    reason = reasons[0] if reasons else "not measured"
    return Finding(before.name, "dice", before.dice, None, before.dice, None, 0, REGRESSION, f"did not run: {reason}")


def _accuracy(after: Candidate, before: Candidate, cases: Sequence[str], gates: Gates) -> Finding:
    ours, theirs = ({case.case_id: case.dice for case in each.cases} for each in (after, before))
    drops = {case: theirs[case] - ours[case] for case in cases}
    worst = max(drops, key=drops.__getitem__)
    mean = float(np.mean(list(drops.values())))
    beyond = mean > gates.dice_drop or drops[worst] > gates.case_dice_drop
    limited_by_case = drops[worst] > gates.case_dice_drop and mean <= gates.dice_drop
    return Finding(
        candidate=after.name,
        measure="dice",
        baseline=float(np.mean([theirs[case] for case in cases])),
        new=float(np.mean([ours[case] for case in cases])),
        change=drops[worst] if limited_by_case else mean,
        interval=None,
        limit=gates.case_dice_drop if limited_by_case else gates.dice_drop,
        verdict=REGRESSION if beyond else OK,
        detail=f"{worst}: {theirs[worst]:.4f} to {ours[worst]:.4f}" if drops[worst] > 0 else "",
    )


def _size(after: Candidate, before: Candidate, gates: Gates) -> Finding:
    return _ratio(after.name, "size", before.size_bytes / _MB, after.size_bytes / _MB, gates.size_ratio)


def _memory(after: Candidate, before: Candidate, gates: Gates) -> Iterator[Finding]:
    if after.start is None or before.start is None:
        return
    ours, theirs = after.start, before.start
    yield _ratio(after.name, "own memory", theirs.own_bytes / _MB, ours.own_bytes / _MB, gates.own_memory_ratio)
    if ours.growth_slices:
        yield _growth(after.name, ours, theirs, gates)


def _growth(name: str, ours: Start, theirs: Start, gates: Gates) -> Finding:
    grown = ours.growth_bytes / _MB
    return Finding(
        candidate=name,
        measure="memory growth",
        baseline=theirs.growth_bytes / _MB,
        new=grown,
        change=grown,
        interval=None,
        limit=gates.growth_mb,
        verdict=REGRESSION if grown > gates.growth_mb else OK,
        detail=f"after {ours.growth_slices} slices",
    )


def _ratio(name: str, measure: str, baseline: float, new: float, limit: float) -> Finding:
    change = new / baseline
    return Finding(name, measure, baseline, new, change, None, limit, REGRESSION if change > limit else OK, "")


def _latency(after: Candidate, before: Candidate, cases: Sequence[str], gates: Gates) -> Iterator[Finding]:
    stages = [_stage(after, before, stage, cases, gates.stage_ratio) for stage in STAGES]
    yield _stage(after, before, "total", cases, gates.total_ratio, moved=_moved(after, before))
    for found in stages:
        if max(found.baseline or 0, found.new or 0) >= gates.stage_least_ms:
            yield found


def _first_mask(after: Candidate, before: Candidate, slower: float, gates: Gates) -> Iterator[Finding]:
    """`slower`: how many times as long the reference workload took in the baseline."""
    if after.start is not None and before.start is not None:
        ours, theirs = after.start.first_mask_ms * slower, before.start.first_mask_ms
        yield _ratio(after.name, "first mask", theirs, ours, gates.first_mask_ratio)


def _stage(
    after: Candidate, before: Candidate, stage: str, cases: Sequence[str], limit: float, moved: str = ""
) -> Finding:
    ratio = time_ratio(relative_times(after, stage), relative_times(before, stage), cases)
    verdict = REGRESSION if ratio.low > limit else WITHIN_NOISE if ratio.value > limit else OK
    return Finding(
        candidate=after.name,
        measure=stage,
        baseline=float(np.median(before.times_ms(stage))),
        new=float(np.median(after.times_ms(stage))),
        change=ratio.value,
        interval=(ratio.low, ratio.high),
        limit=limit,
        verdict=verdict,
        detail="" if verdict == OK else f"most in {', '.join(filter(None, (moved, ratio.worst_case)))}",
    )


def _moved(after: Candidate, before: Candidate) -> str:
    """The stage that takes longer by the most, in units of the reference workload."""

    def middle(candidate: Candidate, stage: str) -> float:
        return float(np.median(np.concatenate(list(relative_times(candidate, stage).values()))))

    return max(STAGES, key=lambda stage: middle(after, stage) - middle(before, stage))
