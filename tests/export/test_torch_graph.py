from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tumortrace_export.torch_graph import compute, straight_through, to_integers
from tumortrace_runtime.errors import CheckpointError

Floats = npt.NDArray[np.float32]
floats = hnp.arrays(np.float32, st.integers(1, 50), elements=st.floats(-1e4, 1e4, width=32))
scales = st.floats(2.0**-14, 100, width=16)


def integers_of(values: Floats, scale: float) -> Floats:
    """As ONNX defines QuantizeLinear for int8."""
    integers: Floats = np.clip(np.rint(values / np.float32(scale)), -128, 127)
    return integers


@given(values=floats, scale=scales)
def test_rounding_is_that_of_onnx(values: Floats, scale: float) -> None:
    found = to_integers(torch.from_numpy(values), torch.tensor(scale), -128, 127)
    np.testing.assert_array_equal(found.numpy(), integers_of(values, scale))


@given(values=floats, scale=scales)
def test_rounding_has_the_gradient_of_the_identity_inside_and_none_outside(values: Floats, scale: float) -> None:
    taken, step = torch.tensor(values, requires_grad=True), torch.tensor(scale, requires_grad=True)
    again = to_integers(taken, step, -128, 127) * step
    again.sum().backward()  # type: ignore[no-untyped-call]
    assert taken.grad is not None and step.grad is not None
    steps = values / np.float32(scale)
    inside = (steps >= -128) & (steps <= 127)
    np.testing.assert_allclose(taken.grad.numpy(), inside, rtol=1e-6)
    learned = integers_of(values, scale) - np.where(inside, steps, 0)  # Esser et al. 2020, equation 3
    assert step.grad.item() == pytest.approx(float(learned.sum(dtype=np.float64)), rel=1e-4, abs=1e-2)


@given(smooth=floats, data=st.data())
def test_straight_through_gives_the_exact_values_to_the_bit(smooth: Floats, data: st.DataObject) -> None:
    exact = data.draw(hnp.arrays(np.float32, len(smooth), elements=st.floats(-(2.0**90), 2.0**90, width=32)))
    found = straight_through(torch.from_numpy(smooth), torch.from_numpy(exact))
    np.testing.assert_array_equal(found.numpy(), exact)


@pytest.mark.parametrize("name", ["unet-xs", "classic", "no stem", "three classes"])
def test_each_operator_of_the_family_is_that_of_onnx_runtime(name: str, specimen: Callable[[str], Any]) -> None:
    """Each node of an INT8 model by itself, given what ONNX Runtime gave the nodes before it."""
    model, batch = specimen(name).quantised(), specimen(name).batch
    stored = {item.name: torch.tensor(onnx.numpy_helper.to_array(item)) for item in model.graph.initializer}
    values = {"input": torch.from_numpy(batch), **by_onnx_runtime(model, batch)}
    for node in model.graph.node:
        found = compute([node], {**stored, **values})[node.output[0]].float()
        np.testing.assert_allclose(found, values[node.output[0]], rtol=1e-5, atol=1e-4, err_msg=node.name)


def by_onnx_runtime(model: onnx.ModelProto, batch: Floats) -> dict[str, torch.Tensor]:
    """What each node gives, operator by operator as the file says."""
    given = onnx.ModelProto()
    given.CopyFrom(model)
    names = [output for node in model.graph.node for output in node.output]
    del given.graph.output[:]
    given.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(given.SerializeToString(), options, providers=["CPUExecutionProvider"])
    arrays = zip(names, session.run(names, {"input": batch}), strict=True)
    return {name: torch.from_numpy(array.astype(np.float32)) for name, array in arrays}


def test_an_operator_that_no_network_of_ours_has_is_refused() -> None:
    node = onnx.helper.make_node("Softmax", ["input"], ["output"], "last")
    with pytest.raises(CheckpointError, match=r"node last: operator Softmax; known are Conv, .*DequantizeLinear\."):
        compute([node], {"input": torch.zeros(1)})
