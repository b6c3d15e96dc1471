"""Engines on tiny networks: what they compute, what they say of themselves, and what they refuse."""

from __future__ import annotations

import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from tumortrace_runtime.backends import BACKENDS, default_device, devices, load_backend
from tumortrace_runtime.errors import BackendError, InputError

CHANNELS, SIDE = 4, 32
EACH_BACKEND = pytest.mark.parametrize("name", sorted({*BACKENDS} - {"tensorrt"}))  # which takes no plain ONNX


def tiny_network(kernels):
    """Conv 3x3 + ReLU, then Conv 1x1 to one class, with a dynamic batch."""
    weights = {"w1": kernels[0], "b1": np.linspace(-0.2, 0.2, 16, dtype=np.float32), "w2": kernels[1]}
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["features"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["features"], ["active"], "relu"),
        helper.make_node("Conv", ["active", "w2"], ["logits"], "second"),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", CHANNELS, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1, SIDE, SIDE])],
        [numpy_helper.from_array(value, key) for key, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


class Batches(CalibrationDataReader):
    """Two calibration batches."""

    def __init__(self):
        self.batches = iter([{"image": images(2, seed)} for seed in (1, 2)])

    def get_next(self):
        return next(self.batches, None)


def images(count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, CHANNELS, SIDE, SIDE)).astype(np.float32)


@pytest.fixture(scope="module")
def kernels():
    random = np.random.default_rng(7)
    return [(random.standard_normal(shape) / 6).astype(np.float32) for shape in ((16, CHANNELS, 3, 3), (1, 16, 1, 1))]


@pytest.fixture(scope="module")
def models(tmp_path_factory, kernels):
    folder = tmp_path_factory.mktemp("models")
    fp32, int8 = folder / "model.onnx", folder / "model.int8.onnx"
    onnx.save(tiny_network(kernels), fp32)
    quantize_static(
        fp32,
        int8,
        Batches(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
    )
    openvino.save_model(openvino.convert_model(fp32), folder / "model.fp16.xml", compress_to_fp16=True)
    openvino.save_model(openvino.convert_model(int8), folder / "model.int8.xml", compress_to_fp16=True)
    return folder


def expected_logits(batch, kernels):
    padded = np.pad(batch.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    features = np.einsum("nchwyx,ocyx->nohw", windows, kernels[0]) + np.linspace(-0.2, 0.2, 16).reshape(1, -1, 1, 1)
    return np.einsum("nohw,po->nphw", features.clip(min=0), kernels[1][..., 0, 0])


@EACH_BACKEND
@pytest.mark.parametrize("count", [1, 3, 8])
def test_fp32_logits_are_the_networks(name, count, models, kernels):
    batch = images(count)
    with load_backend(name, models / "model.onnx", precision="fp32") as backend:
        logits = backend.run(batch)

    np.testing.assert_allclose(logits, expected_logits(batch, kernels), atol=2e-5)
    assert logits.dtype == np.float32


@EACH_BACKEND
def test_a_backend_says_what_really_ran(name, models):
    with load_backend(name, models / "model.onnx", precision="fp32", threads=1) as backend:
        assert backend.name == name
        assert backend.device == default_device(name)
        assert backend.executed_precision == "fp32"
        assert backend.layer_precisions == {"fp32": 2}
        versions = {"openvino": openvino.__version__.split("-")[0], "onnxruntime": onnxruntime.__version__}
        assert backend.version == versions[name]


@pytest.mark.parametrize(
    ("name", "file", "precision", "executed"),
    [
        ("openvino", "model.int8.xml", "int8", "int8"),
        ("openvino", "model.fp16.xml", "fp16", "fp32"),
        ("onnxruntime", "model.int8.onnx", "int8", "int8"),
    ],
)
def test_the_executed_precision_is_read_from_the_engine(name, file, precision, executed, models):
    with load_backend(name, models / file, precision=precision) as backend:
        assert backend.executed_precision == executed
        assert sum(backend.layer_precisions.values()) == 2


def test_both_engines_agree_at_int8(models, kernels):
    batch = images(4, seed=9)
    with load_backend("openvino", models / "model.int8.xml", precision="int8") as backend:
        by_openvino = backend.run(batch)
    with load_backend("onnxruntime", models / "model.int8.onnx", precision="int8") as backend:
        by_onnxruntime = backend.run(batch)

    truth = expected_logits(batch, kernels)
    scale = np.abs(truth).max()
    assert np.abs(by_openvino - by_onnxruntime).max() < 0.02 * scale
    assert np.abs(by_openvino - truth).mean() < 0.01 * scale


def test_bf16_runs_only_where_it_is_asked_for_and_there(models):
    has_bf16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if has_bf16:
        with load_backend("openvino", models / "model.fp16.xml", precision="bf16") as backend:
            assert backend.executed_precision == "bf16"
    else:
        with pytest.raises(BackendError, match="no bf16"):
            load_backend("openvino", models / "model.fp16.xml", precision="bf16")


def test_onnxruntime_has_no_bf16(models):
    with pytest.raises(BackendError, match="no bf16"):
        load_backend("onnxruntime", models / "model.onnx", precision="bf16")


@EACH_BACKEND
def test_results_are_the_callers_own(name, models):
    with load_backend(name, models / "model.onnx") as backend:
        first = backend.run(images(2, seed=1))
        kept = first.copy()
        backend.run(images(2, seed=2))
    np.testing.assert_array_equal(first, kept)


@EACH_BACKEND
@pytest.mark.parametrize(
    ("batch", "told"),
    [
        (images(1)[:, :3], r"float32 \(n, 4, 32, 32\) wanted"),
        (images(1).astype(np.float64), "float64"),
        (images(1)[0], r"shape \(4, 32, 32\)"),
        (images(0), r"shape \(0, 4, 32, 32\)"),
        (images(2).transpose(0, 1, 3, 2), "C-contiguous"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(name, batch, told, models):
    with load_backend(name, models / "model.onnx") as backend, pytest.raises(InputError, match=told):
        backend.run(batch)


@EACH_BACKEND
def test_a_closed_backend_runs_no_more(name, models):
    backend = load_backend(name, models / "model.onnx")
    backend.close()
    backend.close()
    with pytest.raises(BackendError, match="closed"):
        backend.run(images(1))


@EACH_BACKEND
def test_a_device_that_is_not_there_is_refused_with_those_that_are(name, models):
    present = devices(name)
    assert default_device(name) in present
    with pytest.raises(BackendError, match=f"no device 'AUTO' here; there are: .*{present[-1]}"):
        load_backend(name, models / "model.onnx", device="AUTO")


@EACH_BACKEND
def test_a_damaged_model_is_named(name, models, tmp_path):
    damaged = tmp_path / "model.onnx"
    damaged.write_bytes((models / "model.onnx").read_bytes()[:-200])
    with pytest.raises(BackendError, match=r"model\.onnx: .* cannot load it"):
        load_backend(name, damaged)


def test_damaged_weights_beside_an_ir_are_named(models, tmp_path):
    (tmp_path / "model.xml").write_bytes((models / "model.int8.xml").read_bytes())
    (tmp_path / "model.bin").write_bytes((models / "model.int8.bin").read_bytes()[:-40])
    with pytest.raises(BackendError, match=r"model\.xml: OpenVINO cannot load it"):
        load_backend("openvino", tmp_path / "model.xml", precision="int8")


@EACH_BACKEND
def test_a_missing_model_is_named(name, tmp_path):
    with pytest.raises(BackendError, match=r"none\.onnx: no such model file"):
        load_backend(name, tmp_path / "none.onnx")


@EACH_BACKEND
def test_a_network_of_another_form_is_refused(name, tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "loose",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4, "h", "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4, "h", "w"])],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "loose.onnx"
    )
    with pytest.raises(BackendError, match="fixed sizes wanted"):
        load_backend(name, tmp_path / "loose.onnx")


def test_quantised_onnx_is_not_given_to_openvino(models):
    with pytest.raises(BackendError, match="wants IR"):
        load_backend("openvino", models / "model.int8.onnx", precision="int8")


def test_unknown_names_are_refused(models):
    with pytest.raises(BackendError, match=r"'tensorflow' is unknown; known are openvino, onnxruntime"):
        load_backend("tensorflow", models / "model.onnx")
    with pytest.raises(BackendError, match=r"'int4' is unknown; known are fp32, fp16, bf16, int8"):
        load_backend("onnxruntime", models / "model.onnx", precision="int4")


@EACH_BACKEND
def test_a_missing_library_is_named_with_the_command_that_installs_it(name, models, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, BACKENDS[name], raising=False)
    with pytest.raises(BackendError, match=rf"pip install 'tumortrace\[{name}\]'"):
        load_backend(name, models / "model.onnx")


def test_onnxruntime_leaves_no_trace_files(models, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with load_backend("onnxruntime", models / "model.onnx") as backend:
        backend.run(images(1))
    assert list(tmp_path.iterdir()) == []
