from __future__ import annotations

import json

import pytest

from tumortrace_runtime.errors import SpecError
from tumortrace_runtime.preprocess import Preprocessing
from tumortrace_runtime.settings import from_dict, to_dict

CHANNELS = ("t1", "flair", "t1ce")


def test_a_spec_survives_json() -> None:
    spec = Preprocessing(
        channels=("flair", "t2"),
        context=2,
        grid_px=(192, 240),
        fit="resize",
        foreground="not-border",
        foreground_fraction=0.2,
        clip_percentiles=(1.0, 99.0),
    )

    assert from_dict(Preprocessing, json.loads(json.dumps(to_dict(spec)))) == spec


@pytest.mark.parametrize(("context", "in_channels"), [(0, 3), (1, 9), (2, 15)])
def test_the_network_takes_every_sequence_of_every_neighbour(context: int, in_channels: int) -> None:
    assert Preprocessing(CHANNELS, context=context).in_channels == in_channels


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("channels", []),
        ("channels", ["t1", "flair", "t1"]),
        ("channels", "flair"),
        ("channels", None),
        ("context", -1),
        ("context", 9),
        ("context", 1.0),
        ("context", True),
        ("grid_px", [256]),
        ("grid_px", [256, 15]),
        ("grid_px", [256, 4097]),
        ("grid_px", [256, 256.0]),
        ("fit", "crop"),
        ("foreground", "not-zero"),
        ("foreground_fraction", 0),
        ("foreground_fraction", 1),
        ("foreground_fraction", float("nan")),
        ("clip_percentiles", [99.5, 0.5]),
        ("clip_percentiles", [50, 50]),
        ("clip_percentiles", [-1, 99]),
        ("clip_percentiles", [1, 101]),
        ("normalisation", "z-score"),
    ],
)
def test_a_setting_out_of_range_is_named(key: str, value: object) -> None:
    values = {**to_dict(Preprocessing(CHANNELS)), key: value}

    with pytest.raises(SpecError, match=key):
        from_dict(Preprocessing, values)


def test_channels_have_no_default() -> None:
    with pytest.raises(SpecError, match="channels is missing"):
        from_dict(Preprocessing, {})
