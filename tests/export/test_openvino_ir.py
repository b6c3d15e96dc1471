"""IR is written whole, and the same each time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tumortrace_export.openvino_ir import write_ir
from tumortrace_runtime.errors import OutputError


def test_equal_sources_give_equal_irs(int8_file: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_ir(int8_file, tmp_path / f"{name}.xml")
    for suffix in (".xml", ".bin"):
        assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()


def test_an_ir_that_the_disk_has_no_room_for_is_refused(onnx_file: Path, tmp_path: Path, files_of_at_most: Any) -> None:
    with files_of_at_most(50_000), pytest.raises(OutputError, match=r"model\.xml: cannot be written"):
        write_ir(onnx_file, tmp_path / "model.xml")
