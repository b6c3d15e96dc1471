"""The device's self-test: golden inputs written, read, passed, and failed by a device that computes something else."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tumortrace_runtime.bundle import Bundle, open_bundle
from tumortrace_runtime.errors import AccuracyError, OutputError
from tumortrace_runtime.golden import FOLDER, REQUIRED_DICE, GoldenCase, load_golden, save_golden, self_test
from tumortrace_runtime.segmenter import Segmenter

ENGINES = ("openvino", "onnxruntime")


def golden_bundle(tiny_bundle: Path, folder: Path, cases: dict[str, GoldenCase]) -> Bundle:
    """The tiny bundle's models with other golden cases."""
    for path in tiny_bundle.iterdir():
        if path.name != FOLDER:
            (folder / path.name).symlink_to(path)
    (folder / FOLDER).mkdir()
    for name, case in cases.items():
        save_golden(folder / FOLDER / name, case)
    return dataclasses.replace(open_bundle(tiny_bundle), path=folder)


@pytest.fixture(scope="module")
def case(tiny_bundle: Path) -> GoldenCase:
    return load_golden(tiny_bundle / FOLDER / "phantom-1.npz")


def test_a_case_survives_its_file(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(0, 255, (2, 3, 4, 3), dtype=np.uint8)
    masks = {"openvino int8": (voxels[..., 0] > 99).astype(np.uint8), "onnxruntime fp32": voxels[..., 1] // 128}

    save_golden(tmp_path / "new" / "one.npz", GoldenCase(voxels, masks))
    found = load_golden(tmp_path / "new" / "one.npz")

    np.testing.assert_array_equal(found.voxels, voxels)
    assert found.masks.keys() == masks.keys()
    for name, mask in masks.items():
        np.testing.assert_array_equal(found.masks[name], mask)
        assert found.masks[name].dtype == np.uint8


def test_a_case_that_cannot_be_written_leaves_nothing(tmp_path: Path, case: GoldenCase) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(OutputError, match=r"one\.npz"):
        save_golden(tmp_path / "file" / "one.npz", case)

    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_golden_inputs_hold_tumour(tiny_bundle: Path) -> None:
    """Two empty masks have a Dice of 1, whatever the device computes."""
    cases = [load_golden(path) for path in sorted((tiny_bundle / FOLDER).iterdir())]

    assert len(cases) >= 2
    for each in cases:
        assert {f"{engine} {precision}" for engine in ENGINES for precision in ("fp32", "int8")} <= set(each.masks)
        assert all(mask.any() for mask in each.masks.values())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_machine_that_exported_passes(engine: str, precision: str, tiny_bundle: Path) -> None:
    with Segmenter(tiny_bundle, backend=engine, precision=precision) as segmenter:
        scores = self_test(segmenter)

    assert scores.keys() == {"phantom-1.npz", "phantom-2.npz"}
    assert min(scores.values()) >= REQUIRED_DICE


def test_a_device_that_computes_something_else_fails(tiny_bundle: Path, tmp_path: Path, case: GoldenCase) -> None:
    ran = [name for name in case.masks if name.startswith("openvino int8")]  # with 7-bit weights on a CPU without VNNI
    wrong = case.masks["openvino int8"].copy()
    wrong[wrong.nonzero()[0][0]] = 0
    bundle = golden_bundle(
        tiny_bundle,
        tmp_path,
        {"right.npz": case, "wrong.npz": GoldenCase(case.voxels, {**case.masks, **dict.fromkeys(ran, wrong)})},
    )

    with (
        Segmenter(bundle, backend="openvino", precision="int8") as segmenter,
        pytest.raises(
            AccuracyError, match=r"self-test failed on openvino int8\S*: Dice 0\.\d+ on wrong\.npz"
        ) as caught,
    ):
        self_test(segmenter)
    assert caught.value.exit_code == 3
    with Segmenter(bundle, backend="openvino", precision="fp32") as segmenter:
        assert set(self_test(segmenter)) == {"right.npz", "wrong.npz"}


def test_an_engine_of_which_nothing_was_expected_is_not_held_to_anything(
    tiny_bundle: Path, tmp_path: Path, case: GoldenCase
) -> None:
    only_int8 = GoldenCase(case.voxels, {"openvino int8": case.masks["openvino int8"]})
    bundle = golden_bundle(tiny_bundle, tmp_path, {"one.npz": only_int8})

    with Segmenter(bundle, backend="openvino", precision="fp32") as segmenter:
        assert self_test(segmenter) == {}
