"""Ranges kept from one export to the next, under a key of all that they depend on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from tumortrace.index import Index, verify_case
from tumortrace_export.calibration import SLICES_PER_CASE
from tumortrace_export.ranges import BINS, Histogram
from tumortrace_runtime.errors import DatasetError, OutputError
from tumortrace_runtime.files import atomic_file, cache_folder, canonical_json, sha256_bytes, sha256_file
from tumortrace_runtime.preprocess import Preprocessing
from tumortrace_runtime.settings import to_dict
from tumortrace_runtime.version import __version__

VERSION = 1
"""Of the file's layout."""

Histograms = dict[str, Histogram]
_Arrays = Mapping[str, npt.NDArray[Any]]


def dependencies(
    source: Path, tensors: Sequence[str], index: Index, case_ids: Iterable[str], preprocessing: Preprocessing
) -> dict[str, object]:
    """What the ranges of a model's tensors on calibration cases depend on, versions of libraries aside.

    The content of each case's files is compared with the index, so that its hashes speak for them.

    Args:
        source: the FP32 ONNX model.
        tensors: names of the values that are looked at.
        index: has the cases.
        case_ids: the calibration cases.
        preprocessing: what their scans go through.

    Raises:
        DatasetError: a case is not in the index, or a file is gone or was changed.
    """
    cases = {}
    for case_id in case_ids:
        verify_case(index, case_id)
        case = index.case(case_id)
        cases[case_id] = [file.sha256 for file in (*case.images, *case.truth)]
    return {
        "model": sha256_file(source),
        "tensors": list(tensors),
        "index": index.sha256,
        "cases": cases,
        "slices_per_case": SLICES_PER_CASE,
        "preprocessing": to_dict(preprocessing),
    }


def cached_ranges(
    key_parts: Mapping[str, object],
    make: Callable[[], Histograms],
    *,
    report: Callable[[str], None] = lambda line: None,
) -> Histograms:
    """The ranges that an earlier export made from the same, or else those that `make` makes, kept for the next.

    They are kept in `XDG_CACHE_HOME`/tumortrace/calibration (by default in ~/.cache). That a file is damaged is
    reported, and it is made anew. That a file cannot be written, as where a container's home is read-only, is reported
    too, and the ranges are given all the same: all that is lost is time.

    Args:
        key_parts: JSON values, from `dependencies`; versions of NumPy, ONNX Runtime and TumorTrace are added.
        make: collects the ranges.
        report: takes lines for the user.
    """
    path = cache_folder("calibration") / f"{_key(key_parts)}.npz"
    if path.exists():
        try:
            return _read(path)
        except DatasetError as problem:
            report(f"{problem} The ranges are collected again.")
    histograms = make()
    try:
        _write(path, histograms)
    except OutputError as problem:
        report(f"the ranges are not kept for the next export: {problem}")
    return histograms


def _key(parts: Mapping[str, object]) -> str:
    versions = {"numpy": np.__version__, "onnxruntime": onnxruntime.__version__, "tumortrace": __version__}
    return sha256_bytes(canonical_json({**parts, "bins": BINS, "layout": VERSION, "versions": versions}))


def _write(path: Path, histograms: Histograms) -> None:
    arrays = {
        "tensors": np.array(list(histograms)),
        "minimum": np.array([each.minimum for each in histograms.values()]),
        "maximum": np.array([each.maximum for each in histograms.values()]),
        "counts": np.array([each.counts for each in histograms.values()]),
    }
    with atomic_file(path) as partial:
        np.savez_compressed(partial, allow_pickle=False, **arrays, sha256=np.array(_digest(arrays)))


def _read(path: Path) -> Histograms:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        intact = str(arrays.pop("sha256")) == _digest(arrays)
    except Exception as problem:  # a damaged archive raises whatever its reader meets first
        raise DatasetError(f"{path}: cannot be read ({problem}).") from problem
    if not intact:
        raise DatasetError(f"{path}: does not match its hash; it was altered.")
    values = zip(arrays["minimum"], arrays["maximum"], arrays["counts"], strict=True)
    return {
        str(name): Histogram(float(minimum), float(maximum), counts)
        for name, (minimum, maximum, counts) in zip(arrays["tensors"], values, strict=True)
    }


def _digest(arrays: _Arrays) -> str:
    content = {
        name: [array.dtype.str, list(array.shape), sha256_bytes(array.tobytes())] for name, array in arrays.items()
    }
    return sha256_bytes(canonical_json(content))
