from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest

from tumortrace_runtime.bench.results import ENGINE, STAGES, Candidate, Results, Sample, Start
from tumortrace_runtime.metrics import measure_case

USUAL_MS = {"decode": 20.0, "preprocess": 15.0, "infer": 180.0, "postprocess": 4.0, "encode": 25.0}
CASES = {"one": 30, "two": 20, "three": 40}


@pytest.fixture
def make_results() -> Callable[..., Results]:
    """Results as a machine gives them whose speed wanders by a tenth, and single runs by a thirtieth."""

    def make(
        seed: int = 0,
        *,
        factors: Mapping[str, float] = {},
        dice_loss: float = 0.0,
        growth_bytes: int = 300_000,
        own_bytes: int = 75_000_000,
        mapped_bytes: int = 60_000_000,
        rounds: int = 5,
        spread: float = 0.03,
    ) -> Results:
        random = np.random.default_rng(seed)
        samples = []
        for number in range(rounds):
            for case, slices in CASES.items():
                speed = random.lognormal(0, 0.1)
                stages = {
                    stage: USUAL_MS[stage] * slices / 30 * factors.get(stage, 1.0) * speed * random.lognormal(0, spread)
                    for stage in STAGES
                }
                total = sum(stages.values()) * factors.get("total", 1.0)
                samples.append(Sample(case, number, 30 * speed * random.lognormal(0, spread), stages, total))
        truth = np.zeros((4, 20, 20), np.uint8)
        truth[1:3, 5:15, 5:15] = 1
        scores = [measure_case(case, truth, truth) for case in CASES]
        candidate = Candidate(
            name="openvino int8 CPU",
            kind=ENGINE,
            backend="openvino",
            precision="int8",
            device="CPU",
            threads=None,
            version="2026.4",
            executed_precision="int8",
            int8_mac_share=1.0,
            size_bytes=1_600_000,
            start=Start(300 * random.lognormal(0, 0.05), own_bytes + mapped_bytes, mapped_bytes, growth_bytes, 2000),
            cases=tuple(replace(score, dice=0.9 - dice_loss) for score in scores),
            samples=tuple(samples),
        )
        return Results(
            created_utc=f"2026-11-{10 + seed % 15:02}T08:00:00+00:00",
            environment={"cpu": {"model": "Some CPU", "threads": 2, "architecture": "x86_64"}, "python": "3.11"},
            bundle={"name": "tiny", "sha256": "b" * 64},
            model_sha256="a" * 64,
            data={"index_sha256": "1" * 64, "split_sha256": "2" * 64, "part": "test", "slices": dict(CASES)},
            rounds=rounds,
            candidates=(candidate,),
            not_run=(),
        )

    return make
