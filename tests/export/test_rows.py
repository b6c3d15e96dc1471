from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tumortrace.checkpoint import Checkpoint
from tumortrace_export.artefacts import Finish, Writer
from tumortrace_export.assess import Accuracy
from tumortrace_export.rows import HEADINGS, PYTORCH, PYTORCH_NHWC, Row, make_rows, table
from tumortrace_runtime.backends import Backend, load_backend
from tumortrace_runtime.backends.backend import Layer
from tumortrace_runtime.bench.timing import Timing
from tumortrace_runtime.bundle import Bundle, open_bundle

ACCURACY = Accuracy(0.91234, 0.7, -0.00123, 0.0045, {"a": 0.7}, 0.5, 41.6, None)
FAST, SLOW = Timing(1.0, 1.2, 0.9, 20), Timing(4.0, 5.0, 3.9, 20)
TIMINGS = {PYTORCH: SLOW, PYTORCH_NHWC: FAST, "openvino int8": FAST}


@pytest.fixture(scope="module")
def bundle(by_program: Any) -> Bundle:
    return open_bundle(by_program.bundle)


@pytest.fixture
def writer(bundle: Bundle, checkpoint: Checkpoint) -> Writer:
    """What has written all files of the bundle, a second each."""
    formats, finish = ("onnx", "openvino", "tensorrt"), Finish("logits", 0.0, statistics=False)
    made_s: dict[str, float] = defaultdict(lambda: 1.0)
    return Writer(bundle.path, None, checkpoint.model, checkpoint.preprocessing, formats, finish, made_s)  # type: ignore[arg-type]


@pytest.fixture
def openvino(bundle: Bundle) -> Iterator[dict[str, Backend]]:
    """OpenVINO's INT8 model, the only one that was run."""
    with ExitStack() as stack:
        taken = bundle.integer_input("openvino", "int8")
        model = bundle.artefact("openvino", "int8")
        loaded = load_backend("openvino", model, precision="int8", integer_input=taken)
        yield {"openvino int8": stack.enter_context(loaded)}


def test_what_was_not_run_has_no_number(writer: Writer, openvino: dict[str, Backend]) -> None:
    rows = {row.name: row for row in make_rows(writer, openvino, {"openvino int8": ACCURACY}, TIMINGS)}
    assert (rows["openvino int8"].accuracy, rows["openvino int8"].speedup) == (ACCURACY, 4.0)
    assert rows["openvino int8"].executed_precision == "int8"
    for name in ("tensorrt fp16", "tensorrt int8", "onnxruntime fp32"):
        row = rows[name]
        assert row.file
        assert row.size_bytes > 0
        assert (row.accuracy, row.timing, row.speedup, row.executed_precision, row.layers) == (
            None,
            None,
            None,
            None,
            (),
        )


def test_bf16_is_a_row_where_the_cpu_has_it(writer: Writer, openvino: dict[str, Backend]) -> None:
    absent = make_rows(writer, openvino, {}, TIMINGS)
    there = make_rows(writer, {**openvino, "openvino bf16": openvino["openvino int8"]}, {}, TIMINGS)
    assert {row.name for row in there} - {row.name for row in absent} == {"openvino bf16"}


def test_weights_beside_a_model_count(writer: Writer, bundle: Bundle, openvino: dict[str, Backend]) -> None:
    row = next(row for row in make_rows(writer, openvino, {}, TIMINGS) if row.name == "openvino int8")
    parts = [bundle.path / row.file, (bundle.path / row.file).with_suffix(".bin")]
    assert row.size_bytes == sum(part.stat().st_size for part in parts)


def cells(row: Row) -> dict[str, str]:
    """What stands under each heading in the table of one row, whose columns lie as far apart as the rule says."""
    headings, rule, line = table([row]).splitlines()
    ends = [place for place, sign in enumerate(f"{rule} ") if sign == " " and rule[place - 1] == "-"]
    starts = [0, *(end + 2 for end in ends[:-1])]
    spans = list(zip(starts, ends, strict=True))
    assert [headings[start:end].strip() for start, end in spans] == list(HEADINGS)
    return {heading: line[start:end].strip() for heading, (start, end) in zip(HEADINGS, spans, strict=True)}


def test_a_measured_artefact_as_text() -> None:
    layers = [Layer("a", "Conv", "int8", 900), Layer("head", "Conv", "fp32", 100)]
    row = Row("openvino", "int8", Path("m.xml").name, 2_340_000, 1.26, ACCURACY, FAST, 4.0, "int8", layers)
    assert cells(row) == {
        "engine": "openvino",
        "precision": "int8",
        "ran in": "int8",
        "INT8 MACs": "90.0%",
        "made s": "1.3",
        "MB": "2.3",
        "Dice": "0.9123",
        "worst": "0.7000",
        "drop": "-0.0012",
        "case drop": "+0.0045",
        "small lesions": "0.500",
        "flipped ppm": "42",
        "ms/slice": "1.00",
        "speed-up": "4.00",
    }


def test_what_was_not_run_as_text() -> None:
    found = cells(Row("tensorrt", "int8", "tensorrt/model.int8-fp16.onnx", 2_000_000, 0.1))
    told = {heading: cell for heading, cell in found.items() if cell}
    assert told == {
        "engine": "tensorrt",
        "precision": "int8",
        "made s": "0.1",
        "MB": "2.0",
        "Dice": "not run",
        "ms/slice": "not run",
    }


def test_pytorch_in_another_memory_order_is_as_accurate_as_above() -> None:
    backend, precision = PYTORCH_NHWC.split()
    found = cells(Row(backend, precision, timing=FAST, speedup=4.0))
    assert (found["Dice"], found["drop"], found["MB"], found["ms/slice"]) == ("as above", "", "", "1.00")
