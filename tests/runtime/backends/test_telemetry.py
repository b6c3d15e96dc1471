"""Nothing calls home."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnx
import pytest

RELU = '<ir_version: 9, opset_import: ["": 18]> relu (float[1] x) => (float[1] y) { y = Relu(x) }'
WATCHED = """
import os, socket, sys
import {first}
def refuse(*_, **__):
    print("calls home")
socket.getaddrinfo = socket.socket.connect = os.fork = refuse
import openvino
openvino.convert_model("{model}")
print(sys.modules["openvino_telemetry"])
"""


@pytest.mark.parametrize("first", ["tumortrace_runtime.backends.openvino", "tumortrace_export.openvino_ir"])
def test_openvino_tells_nobody_that_it_is_used(first: str, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    onnx.save(onnx.parser.parse_model(RELU), model)
    code = WATCHED.format(first=first, model=model)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "None\n"
    assert done.stderr == ""
