"""Masks that the graph makes, and statistics of the bottleneck."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from tumortrace_export.lowering import block_head, take_integers
from tumortrace_export.onnx_model import OUTPUT
from tumortrace_export.outputs import MASK, STATISTICS, give_mask, give_statistics
from tumortrace_export.unsigned import to_unsigned
from tumortrace_runtime.backends import Backend

Floats = npt.NDArray[np.float32]

BOTTLENECKS = {"no stem": "decoder.0.narrow.0", "three classes": "decoder.0.narrow.0", "classic": "upsample.0"}
"""Specimens, and the layer that takes the coarsest features."""


def expected_mask(logits: Floats, threshold: float) -> npt.NDArray[np.uint8]:
    decided = logits[:, 0] > threshold if logits.shape[1] == 1 else logits.argmax(axis=1)
    return decided.astype(np.uint8)


def expected_statistics(features: Floats) -> npt.NDArray[np.float64]:
    exact = features.astype(np.float64)
    return np.concatenate([exact.mean(axis=(2, 3)), exact.std(axis=(2, 3))], axis=1)


def logit_of_a_pixel(logits: Floats) -> float:
    """A threshold that one pixel just does not exceed."""
    return float(np.sort(logits, axis=None)[logits.size // 2])


def assert_mask(mask: npt.NDArray[Any], logits: Floats, threshold: float) -> None:
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, expected_mask(logits, threshold))
    assert set(np.unique(mask)) == set(range(max(2, logits.shape[1])))


def taken_by(model: onnx.ModelProto, layer: str) -> str:
    return next(str(node.input[0]) for node in model.graph.node if node.name == layer)


@pytest.mark.parametrize("name", ["no stem", "three classes"])
def test_openvino_gives_a_mask_and_statistics_and_stays_int8(
    name: str,
    specimen: Callable[[str], Any],
    load_model: Callable[..., Backend],
    run_model: Callable[..., Floats],
    openvino_logits: Callable[[str], Floats],
) -> None:
    sample, logits = specimen(name), openvino_logits(name)
    source = sample.quantised()
    lowered = take_integers(block_head(source), sample.config.stem)
    assert lowered is not None
    model, spec = lowered
    threshold = logit_of_a_pixel(logits)
    backend = load_model("openvino", give_mask(give_statistics(model), threshold), spec)

    outputs = backend.run_all(sample.packed(0, 5, spec))
    assert list(outputs) == [MASK, STATISTICS]
    assert_mask(outputs[MASK], logits, threshold)
    # by ONNX Runtime, whose values lie a step aside here and there
    features = run_model(source, sample.batch, taken_by(source, BOTTLENECKS[name]))
    expected = expected_statistics(features)
    np.testing.assert_allclose(outputs[STATISTICS], expected, atol=0.01 * expected.max())
    assert backend.layer_precisions == {"int8": len(backend.layers)}


@pytest.mark.parametrize("name", ["no stem", "three classes", "classic"])
def test_onnxruntime_gives_a_mask_and_statistics_and_fuses_as_before(
    name: str, specimen: Callable[[str], Any], load_model: Callable[..., Backend]
) -> None:
    sample = specimen(name)
    lowered = take_integers(to_unsigned(sample.quantised()), sample.config.stem)
    assert lowered is not None
    model, spec = lowered
    packed = sample.packed(0, 5, spec)
    plain = load_model("onnxruntime", model, spec)
    logits = plain.run(packed)
    threshold = logit_of_a_pixel(logits)
    backend = load_model("onnxruntime", give_mask(give_statistics(model), threshold), spec)

    outputs = backend.run_all(packed)
    assert list(outputs) == [MASK, STATISTICS]
    assert_mask(outputs[MASK], logits, threshold)
    assert backend.layers == plain.layers
    assert "int8" in backend.layer_precisions


@pytest.mark.parametrize("name", ["no stem", "three classes"])
def test_a_mask_is_what_exceeds_the_threshold_or_the_largest_class(
    name: str, specimen: Callable[[str], Any], run_model: Callable[..., Floats]
) -> None:
    model, batch = specimen(name).model, specimen(name).batch
    logits = run_model(model, batch)
    for threshold in (float(logits[0, 0, 0, 0]), -1e30, 1e30):
        masked = give_mask(model, threshold)
        onnx.checker.check_model(masked, full_check=True)
        mask = run_model(masked, batch, MASK)
        assert mask.dtype == np.uint8
        assert mask.shape == (5, 32, 32)
        np.testing.assert_array_equal(mask, expected_mask(logits, threshold))


def test_a_mask_takes_the_place_of_the_logits(specimen: Callable[[str], Any]) -> None:
    model = specimen("no stem").model
    masked = give_mask(model, 0.0)
    (output,) = masked.graph.output
    assert output.name == MASK
    assert output.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    batch, rows, columns = output.type.tensor_type.shape.dim
    assert batch.dim_param == model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    assert (rows.dim_value, columns.dim_value) == (32, 32)
    assert [each.name for each in model.graph.output] == [OUTPUT]


@pytest.mark.parametrize("name", BOTTLENECKS)
def test_statistics_are_numpys(name: str, specimen: Callable[[str], Any], run_model: Callable[..., Floats]) -> None:
    model, batch = specimen(name).model, specimen(name).batch
    expected = expected_statistics(run_model(model, batch, taken_by(model, BOTTLENECKS[name])))
    assert expected.shape == (5, 2 * specimen(name).config.widths[-1])
    for optimised in (False, True):
        given = run_model(give_statistics(model), batch, STATISTICS, optimised=optimised)
        np.testing.assert_allclose(given, expected, atol=1e-4 * expected.max())


@pytest.mark.parametrize("name", BOTTLENECKS)
def test_statistics_of_int8_are_those_of_what_the_decoder_takes(
    name: str, specimen: Callable[[str], Any], run_model: Callable[..., Floats]
) -> None:
    model, batch = specimen(name).quantised(), specimen(name).batch
    expected = expected_statistics(run_model(model, batch, taken_by(model, BOTTLENECKS[name])))
    given = run_model(give_statistics(model), batch, STATISTICS)
    np.testing.assert_allclose(given, expected, atol=1e-4 * expected.max())


def test_statistics_are_there_where_the_decoder_begins_in_float(
    specimen: Callable[[str], Any], run_model: Callable[..., Floats]
) -> None:
    model = specimen("no stem").quantised(float_layers=[BOTTLENECKS["no stem"]])
    batch = specimen("no stem").batch
    expected = expected_statistics(run_model(model, batch, taken_by(model, BOTTLENECKS["no stem"])))
    given = run_model(give_statistics(model), batch, STATISTICS)
    np.testing.assert_allclose(given, expected, atol=1e-4 * expected.max())


def test_features_that_hardly_vary_have_a_deviation_all_the_same(
    specimen: Callable[[str], Any], run_model: Callable[..., Floats]
) -> None:
    """E[x²] - E[x]² rounds below 0 where all values are alike: never NaN."""
    sample = specimen("no stem")
    flat = np.full_like(sample.batch, 3.0)
    deviation = run_model(give_statistics(sample.model), flat, STATISTICS)[:, sample.config.widths[-1] :]
    assert np.isfinite(deviation).all()
    assert (deviation >= 0).all()


def test_logits_stay_the_first_output(specimen: Callable[[str], Any], run_model: Callable[..., Floats]) -> None:
    model, batch = specimen("three classes").model, specimen("three classes").batch
    given = give_statistics(model)
    onnx.checker.check_model(given, full_check=True)
    assert [each.name for each in given.graph.output] == [OUTPUT, STATISTICS]
    np.testing.assert_array_equal(run_model(given, batch), run_model(model, batch))
