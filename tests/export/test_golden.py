from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from tumortrace.checkpoint import Checkpoint
from tumortrace.predict import CheckpointPredictor, TorchNetwork
from tumortrace_export.golden import CASES, SLICES, golden_inputs, write_golden
from tumortrace_runtime.golden import FOLDER, load_golden
from tumortrace_runtime.inference import predict_mask
from tumortrace_runtime.preprocess import Preprocessing

SPEC = Preprocessing(channels=("flair", "t1ce"), grid_px=(48, 32))


class Reluctant(TorchNetwork):
    """Gives logits that are lower by 1."""

    def run(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return super().run(batch) - np.float32(1)


def test_inputs_are_a_few_slices_of_the_models_sequences() -> None:
    inputs = golden_inputs(SPEC)
    assert len(inputs) == CASES
    for voxels in inputs:
        assert voxels.dtype == np.uint8
        assert voxels.shape[1:] == (32, 32, 2)
        assert 1 <= len(voxels) <= SLICES


def test_inputs_are_the_same_every_time_whatever_the_order_of_the_sequences() -> None:
    turned = golden_inputs(Preprocessing(channels=("t1ce", "flair"), grid_px=(48, 32)))
    for voxels, other in zip(golden_inputs(SPEC), turned, strict=True):
        np.testing.assert_array_equal(voxels, other[..., ::-1])


def test_a_sequence_that_phantoms_do_not_have_leaves_none() -> None:
    assert golden_inputs(Preprocessing(channels=("flair", "t2"), grid_px=(32, 32))) == []


def test_files_hold_what_each_engine_gave_and_are_the_same_to_the_byte(checkpoint: Checkpoint, tmp_path: Path) -> None:
    engines = {
        "openvino fp32": CheckpointPredictor(checkpoint).network,
        "openvino int8": Reluctant(checkpoint.network()),
    }
    for name in ("one", "two"):
        write_golden(tmp_path / name, engines, checkpoint.preprocessing, checkpoint.postprocessing)

    files, again = (sorted((tmp_path / name / FOLDER).iterdir()) for name in ("one", "two"))
    assert [file.read_bytes() for file in files] == [file.read_bytes() for file in again]
    assert [file.name for file in files] == ["phantom-1.npz", "phantom-2.npz"]
    for file, voxels in zip(files, golden_inputs(checkpoint.preprocessing), strict=True):
        case = load_golden(file)
        np.testing.assert_array_equal(case.voxels, voxels)
        assert set(case.masks) == set(engines)
        for name, engine in engines.items():
            expected = predict_mask(engine, voxels, checkpoint.preprocessing, checkpoint.postprocessing)
            np.testing.assert_array_equal(case.masks[name], expected)
    assert any(load_golden(file).masks["openvino fp32"].any() for file in files)
