from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tumortrace_runtime.errors import ScanError
from tumortrace_runtime.io import WHOLE_TUMOUR, ChannelMapping, load_mapping
from tumortrace_runtime.io.mapping import mapping_from_json, mapping_to_json

CHANNELS = {"flair": "Flair.nii.gz"}


def save(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


def test_a_whole_mapping(tmp_path: Path) -> None:
    value = {"channels": {**CHANNELS, "t1ce": "T1c*.nii"}, "truth": "OT.nii.gz", "labels": {"0": 0, "1": 2, "-3": 1}}
    mapping = load_mapping(save(tmp_path / "mapping.json", value))
    assert mapping == ChannelMapping({"flair": "Flair.nii.gz", "t1ce": "T1c*.nii"}, "OT.nii.gz", {0: 0, 1: 2, -3: 1})
    assert mapping_from_json(mapping_to_json(mapping), tmp_path) == mapping


def test_labels_are_those_of_brats_and_truth_is_none_when_left_out(tmp_path: Path) -> None:
    mapping = load_mapping(save(tmp_path / "mapping.json", {"channels": CHANNELS}))
    assert (mapping.truth, mapping.labels) == ("", WHOLE_TUMOUR)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([], "not a JSON object"),
        ({}, "key 'channels'"),
        ({"channels": {}}, "key 'channels'"),
        ({"channels": {"FLAIR": "a.nii"}}, "key 'channels.FLAIR'"),
        ({"channels": {"flair": 3}}, "key 'channels.flair'"),
        ({"channels": {"flair": ""}}, "key 'channels.flair'"),
        ({"channels": {"flair": "../other/a.nii"}}, "key 'channels.flair'"),
        ({"channels": CHANNELS, "truth": "sub/seg.nii"}, "key 'truth'"),
        ({"channels": CHANNELS, "truth": None}, "key 'truth'"),
        ({"channels": CHANNELS, "labels": {}}, "key 'labels'"),
        ({"channels": CHANNELS, "labels": {"one": 1}}, "key 'labels.one'"),
        ({"channels": CHANNELS, "labels": {"1": 256}}, "key 'labels.1'"),
        ({"channels": CHANNELS, "labels": {"1": True}}, "key 'labels.1'"),
        ({"channels": CHANNELS, "lables": {"1": 1}}, "key 'lables' is unknown"),
    ],
)
def test_a_mapping_that_does_not_hold_is_refused_by_key(tmp_path: Path, value: Any, reason: str) -> None:
    path = save(tmp_path / "mapping.json", value)
    with pytest.raises(ScanError) as caught:
        load_mapping(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert reason in str(caught.value)


def test_a_file_that_is_missing_or_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="cannot be read"):
        load_mapping(tmp_path / "mapping.json")
    (tmp_path / "mapping.json").write_text("{")
    with pytest.raises(ScanError, match="is not JSON"):
        load_mapping(tmp_path / "mapping.json")
