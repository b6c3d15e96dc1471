"""The checkpoint's network as ONNX: FP32, the source of every other artefact."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import onnx
import torch
from torch import nn

from tumortrace_runtime.errors import CheckpointError
from tumortrace_runtime.files import write_bytes

INPUT = "input"
OUTPUT = "logits"
OPSET = 18


def onnx_model(network: nn.Module, in_channels: int, grid_px: tuple[int, int]) -> onnx.ModelProto:
    """`network` as ONNX with a dynamic batch: input (batch, in_channels, rows, columns) to logits, float32.

    Convolutions carry the names of the network's modules. What the exporter adds of this machine, such as source paths
    in stack traces, is taken out, so that equal networks give equal bytes.

    Raises:
        CheckpointError: the network cannot be expressed in ONNX.
    """
    example = torch.zeros(2, in_channels, *grid_px)
    try:
        with _quiet():
            program = torch.onnx.export(
                network.eval(),
                (example,),
                input_names=[INPUT],
                output_names=[OUTPUT],
                opset_version=OPSET,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                dynamo=True,
            )
    except torch.onnx.errors.OnnxExporterError as problem:
        raise CheckpointError(f"the network cannot be written as ONNX: {str(problem).splitlines()[0]}") from problem
    assert program is not None  # None only where the exporter itself writes the file
    model: onnx.ModelProto = program.model_proto
    _anonymise(model)
    return model


def save_onnx(model: onnx.ModelProto, path: Path) -> None:
    """Check a model and write it; equal models give equal bytes.

    Raises:
        OutputError: it could not be written.
    """
    onnx.checker.check_model(model, full_check=True)
    write_bytes(path, model.SerializeToString(deterministic=True))


def _anonymise(model: onnx.ModelProto) -> None:
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
        if node.op_type in ("Conv", "ConvTranspose"):
            node.name = node.input[1].removesuffix(".weight")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what the exporter prints of its progress; its errors still come."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
