from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tumortrace.checkpoint import CONFIG, load_checkpoint, save_checkpoint
from tumortrace.quantisation import Quantisation
from tumortrace_runtime.errors import CheckpointError, SpecError
from tumortrace_runtime.files import read_json, write_json


def test_scales_travel_with_the_checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> None:
    plain = load_checkpoint(tiny_checkpoint)
    assert plain.quantisation is None
    scales = Quantisation({"input": 3.3, "encoder.0.0.0/Relu": 1 / 3}, {"input": 4.0}, weight_bits=7)
    save_checkpoint(tmp_path / "checkpoint", replace(plain, quantisation=scales))
    assert load_checkpoint(tmp_path / "checkpoint").quantisation == scales


@pytest.mark.parametrize("magnitude", [0.0, -1.0, float("nan")])
def test_a_magnitude_that_is_none_is_refused(magnitude: float) -> None:
    with pytest.raises(SpecError, match=r"quantisation\.magnitudes\.input is .*; a positive number wanted"):
        Quantisation({"input": magnitude}, {})


def test_damaged_scales_are_named(tiny_checkpoint: Path, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "checkpoint", load_checkpoint(tiny_checkpoint))
    path = tmp_path / "checkpoint" / CONFIG
    write_json(path, {**read_json(path), "quantisation": {"magnitudes": {"input": "3"}, "peaks": {}}})
    with pytest.raises(
        CheckpointError, match=r"checkpoint\.json: Quantisation\.magnitudes\.input is '3'; float wanted"
    ):
        load_checkpoint(tmp_path / "checkpoint")
