from __future__ import annotations

from tumortrace_runtime.table import format_table


def test_columns_are_as_wide_as_their_widest_cell_and_numbers_stand_to_the_right() -> None:
    table = format_table(["format", "Dice"], [["onnx", "0.9"], ["openvino fp16", "-0.0812"], ["-", "n/a"]])

    assert table.split("\n") == [
        "format         Dice",
        "-------------  -------",
        "onnx               0.9",
        "openvino fp16  -0.0812",
        "            -  n/a",
    ]


def test_a_table_may_be_empty() -> None:
    assert format_table(["a", "bc"], []) == "a  bc\n-  --"
