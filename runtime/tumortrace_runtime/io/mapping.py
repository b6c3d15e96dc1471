"""The mapping file: which file of a case folder holds which channel, and which label value means which class."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tumortrace_runtime.errors import ScanError
from tumortrace_runtime.files import read_json
from tumortrace_runtime.io.scan import WHOLE_TUMOUR, ChannelMapping

_KEYS = ("channels", "truth", "labels")
_CHANNEL = re.compile(r"[a-z][a-z0-9_]*")


def load_mapping(path: Path) -> ChannelMapping:
    """The mapping in a JSON file.

        {"channels": {"flair": "*_flair.nii.gz"}, "truth": "*_seg.nii.gz", "labels": {"0": 0, "4": 1}}

    `truth` and `labels` may be left out: no label map, and the labels of BraTS as whole tumour.

    Raises:
        ScanError: the file is missing, is not JSON, or a key in it does not hold; the message names the key.
    """
    return mapping_from_json(read_json(path, ScanError), path)


def mapping_from_json(value: Any, origin: Path) -> ChannelMapping:
    """`value`, as decoded from the JSON of `origin`, checked.

    Raises:
        ScanError: a key is missing, unknown, or its value does not hold.
    """
    if not isinstance(value, dict):
        raise ScanError(f"{origin}: is not a JSON object; one with the keys {', '.join(_KEYS)} is wanted.")
    if unknown := sorted(set(value) - set(_KEYS)):
        raise ScanError(f"{origin}: key {unknown[0]!r} is unknown; the keys are {', '.join(_KEYS)}.")
    truth = value.get("truth", "")
    if truth != "":
        _check_pattern(truth, "truth", origin)
    return ChannelMapping(_channels(value.get("channels"), origin), truth, _labels(value.get("labels"), origin))


def mapping_to_json(mapping: ChannelMapping) -> dict[str, Any]:
    """What `mapping_from_json` takes."""
    labels = {str(value): mapping.labels[value] for value in sorted(mapping.labels)}
    return {"channels": dict(mapping.channels), "truth": mapping.truth, "labels": labels}


def _channels(value: Any, origin: Path) -> Mapping[str, str]:
    if not isinstance(value, dict) or not value:
        raise ScanError(
            f'{origin}: key \'channels\' must name a file for each channel, as in {{"flair": "*_flair.nii.gz"}}.'
        )
    for name, pattern in value.items():
        if not _CHANNEL.fullmatch(name):
            raise ScanError(f"{origin}: key 'channels.{name}' must be a lower-case name such as t1, flair, t1ce or t2.")
        _check_pattern(pattern, f"channels.{name}", origin)
    return value


def _check_pattern(pattern: Any, key: str, origin: Path) -> None:
    if not isinstance(pattern, str) or not pattern or "/" in pattern or "\\" in pattern:
        raise ScanError(f"{origin}: key {key!r} is {pattern!r}; the name of a file in the case folder is wanted.")


def _labels(value: Any, origin: Path) -> Mapping[int, int]:
    if value is None:
        return dict(WHOLE_TUMOUR)
    if not isinstance(value, dict) or not value:
        raise ScanError(f'{origin}: key \'labels\' must give each label value its class, as in {{"0": 0, "4": 1}}.')
    for label, number in value.items():
        if not re.fullmatch(r"-?\d+", label) or type(number) is not int or not 0 <= number <= 255:
            raise ScanError(
                f"{origin}: key 'labels.{label}' is {number!r}; an integer label and a class 0 to 255 wanted."
            )
    return {int(label): number for label, number in value.items()}
