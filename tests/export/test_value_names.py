from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import pytest

from tumortrace_export.overflow import probed
from tumortrace_export.quantise import activations
from tumortrace_export.value_names import from_lasting, to_lasting, value_names
from tumortrace_runtime.errors import CheckpointError


@pytest.mark.parametrize("name", ["unet-xs", "classic", "no stem"])
def test_figures_come_back_to_the_values_that_they_are_of(name: str, specimen: Callable[[str], Any]) -> None:
    model = specimen(name).model
    figures = {each: float(number) for number, each in enumerate(probed(model))}
    assert from_lasting(model, to_lasting(model, figures), figures) == figures


def test_names_are_those_of_modules_and_operators(specimen: Callable[[str], Any]) -> None:
    model = specimen("unet-xs").model
    names = value_names(model)
    assert {names[each] for each in activations(model)} >= {
        *("input", "encoder.0.0.0/Relu", "encoder.2.1.0/Relu"),
        *("decoder.0.narrow.0", "decoder.0.narrow.0/Resize", "decoder.0.narrow.0/Resize/Add"),
    }
    assert names["logits"] == "head"


def test_another_exporters_names_and_layout_do_not_matter(specimen: Callable[[str], Any]) -> None:
    """Space-to-depth as one operator, and values called otherwise."""
    model, other = specimen("unet-xs").model, specimen("unet-xs").model
    nodes = other.graph.node
    block = onnx.helper.make_node("SpaceToDepth", ["input"], list(nodes[2].output), "stem", blocksize=4)
    assert [node.op_type for node in nodes[:3]] == ["Reshape", "Transpose", "Reshape"]
    del nodes[:3]
    nodes.insert(0, block)
    for node in nodes:
        node.output[:] = [f"other_{each}" for each in node.output]
        node.input[:] = [
            f"other_{each}" if each in value_names(model) and each != "input" else each for each in node.input
        ]

    figures = {each: float(number) for number, each in enumerate(activations(model))}
    found = from_lasting(other, to_lasting(model, figures), activations(other))
    assert found == {f"other_{each}": figure for each, figure in figures.items()}


def test_a_value_without_a_figure_is_refused(specimen: Callable[[str], Any]) -> None:
    model = specimen("unet-xs").model
    with pytest.raises(CheckpointError, match=r"has no figure for encoder\.0\.0\.0/Relu; .*--calibration percentile"):
        from_lasting(model, {"input": 1.0}, activations(model))
