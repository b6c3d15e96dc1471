"""What a device does with an installed wheel: open a bundle and segment a scan through both engines, without torch."""

from __future__ import annotations

import importlib.util
import sys
import sysconfig
from pathlib import Path

import numpy as np

import tumortrace
import tumortrace_runtime
from tumortrace_runtime import Segmenter
from tumortrace_runtime.errors import InputError
from tumortrace_runtime.io import find_cases, read_case
from tumortrace_runtime.postprocess import Postprocessing
from tumortrace_runtime.postprocessor import Postprocessor

_MIN_AGREEMENT = 0.999


def main(bundle: Path, scan_folder: Path) -> None:
    """Segment the one scan in `scan_folder` with `bundle`; an AssertionError is a failed check."""
    installed = Path(sysconfig.get_path("platlib"))
    for package in (tumortrace, tumortrace_runtime):
        assert package.__file__ is not None
        assert installed in Path(package.__file__).parents, package.__file__
    for absent in ("torch", "onnx", "matplotlib", "scipy", "cv2", "cc3d"):
        assert importlib.util.find_spec(absent) is None, f"{absent} is installed; a device has none"

    (case,) = find_cases(scan_folder)
    scan = read_case(case, with_truth=False)
    masks = {}
    for backend in ("openvino", "onnxruntime"):
        with Segmenter(bundle, backend=backend, precision="int8") as segmenter:
            result = segmenter.segment(scan)
        assert result.mask.shape == scan.voxels.shape[:3], result.mask.shape
        assert result.mask.dtype == np.uint8
        assert result.mask.any(), f"{backend} found no lesion in a phantom that has one"
        masks[backend] = result.mask
        print(
            f"{backend}: {result.executed_precision}, {result.mask.sum()} voxels, {result.timings_ms['total']:.0f} ms"
        )
    check_errors()
    agreement = np.mean(masks["openvino"] == masks["onnxruntime"])
    assert agreement >= _MIN_AGREEMENT, f"the engines agree on {agreement:.4%} of the voxels"


def check_errors() -> None:
    """What the native core throws arrives, though the engines have brought another C++ library into the process."""
    too_many = 100_000
    try:
        Postprocessor(Postprocessing(), threads=too_many)
    except InputError as error:
        assert str(too_many) in str(error), error
    else:
        raise AssertionError(f"{too_many} threads were accepted")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
