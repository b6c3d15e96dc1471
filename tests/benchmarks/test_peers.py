"""Other software segments the same scans with the same weights: its masks must be the product's, nearly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tumortrace.checkpoint import load_checkpoint
from tumortrace.index import load_index, open_case
from tumortrace_runtime.bench.candidates import PeerInput, load_peers
from tumortrace_runtime.bundle import Bundle, open_bundle
from tumortrace_runtime.errors import InputError
from tumortrace_runtime.io import Scan
from tumortrace_runtime.metrics import dice
from tumortrace_runtime.postprocessor import Postprocessor
from tumortrace_runtime.preprocess import network_batch, preprocess
from tumortrace_runtime.segmenter import Segmenter

_FOLDER = Path(__file__).parents[2] / "benchmarks" / "peers"


def segment_bundle(bundle: Bundle, scan: Scan) -> np.ndarray:
    with Segmenter(bundle, backend="onnxruntime", precision="fp32") as segmenter:
        return segmenter.segment(scan).mask


def segment_checkpoint(path: Path, scan: Scan) -> np.ndarray:
    torch = pytest.importorskip("torch")
    checkpoint = load_checkpoint(path)
    prepared = preprocess(scan, checkpoint.preprocessing)
    batch = network_batch(prepared.planes, 0, len(prepared.planes), checkpoint.preprocessing.context)
    with torch.inference_mode():
        logits = checkpoint.network()(torch.from_numpy(batch)).numpy()
    postprocessor = Postprocessor(checkpoint.postprocessing)
    postprocessor.begin(len(logits), prepared.placement)
    postprocessor.add(logits)
    return postprocessor.finish().mask


@pytest.mark.parametrize(
    ("file", "package", "names"),
    [
        ("pytorch", "torch", ["PyTorch eager", "torch.compile"]),
        ("monai_inferer", "monai", ["MONAI sliding window"]),
        ("onnx_runtime", "onnxruntime", ["plain ONNX Runtime"]),
        ("openvino_model_api", "model_api", ["openvino-model-api"]),
    ],
)
def test_a_peer_finds_what_the_product_finds(
    file: str, package: str, names: list[str], tiny_bundle: Path, tiny_checkpoint: Path, tiny_data: Path
) -> None:
    pytest.importorskip(package, reason=f"not run: no {package}")
    bundle, index = open_bundle(tiny_bundle), load_index(tiny_data / "index.json")
    peers = load_peers(_FOLDER / f"{file}.py", PeerInput(bundle, tiny_checkpoint, 1))
    assert [peer.name for peer in peers] == names
    scan = next(scan for case in index.cases if (scan := open_case(index, case.case_id)).truth.any())
    from_weights = package in ("torch", "monai")
    wanted = segment_checkpoint(tiny_checkpoint, scan) if from_weights else segment_bundle(bundle, scan)
    assert wanted.any()
    for peer in [each for each in peers if each.name != "torch.compile"]:  # which takes half a minute to compile
        outcome = peer.segment(scan)
        assert outcome.mask.shape == wanted.shape
        assert dice(outcome.mask, wanted) > 0.95
        assert set(outcome.stages_ms) == {"preprocess", "infer", "postprocess"}
        assert peer.size_bytes > 0 and peer.version
        peer.close()


def test_the_classic_network_is_whole_and_finds_nothing(
    tiny_bundle: Path, tiny_checkpoint: Path, tiny_data: Path
) -> None:
    pytest.importorskip("torch")
    given = PeerInput(open_bundle(tiny_bundle), tiny_checkpoint, 1)
    (peer,) = load_peers(_FOLDER / "classic_unet.py", given)
    assert 7.7e6 < peer.size_bytes / 4 < 7.9e6
    index = load_index(tiny_data / "index.json")
    scan = open_case(index, index.cases[0].case_id)
    outcome = peer.segment(scan)
    assert outcome.mask.shape == scan.voxels.shape[:3]
    assert not outcome.mask.any()


@pytest.mark.parametrize(
    ("file", "name"), [("pytorch", "PyTorch"), ("monai_inferer", "MONAI"), ("classic_unet", "classic U-Net")]
)
def test_what_wants_a_checkpoint_says_so(file: str, name: str, tiny_bundle: Path) -> None:
    pytest.importorskip("torch" if file != "monai_inferer" else "monai")
    with pytest.raises(InputError, match=f"{name}: no checkpoint given"):
        load_peers(_FOLDER / f"{file}.py", PeerInput(open_bundle(tiny_bundle), None, None))


def test_the_usual_preprocessing_is_the_definitions_nearly(
    script: Callable, tiny_data: Path, tiny_bundle: Path
) -> None:
    index, spec = load_index(tiny_data / "index.json"), open_bundle(tiny_bundle).preprocessing
    scan = open_case(index, index.cases[0].case_id)
    planes = preprocess(scan, spec).planes
    found = script("peers.usual").prepare(scan, spec)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, network_batch(planes, 0, len(planes), spec.context), atol=0.1)
