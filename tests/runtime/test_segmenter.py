"""The whole way from a bundle and a scan to a result, through both engines, on a network whose masks are known.

The bundle's network gives each pixel the logit 8 x (normalised FLAIR - 1.2), so a mask can be told from the scan alone.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tumortrace.phantom import generate_case
from tumortrace_runtime import Segmenter
from tumortrace_runtime.bundle import Bundle, open_bundle
from tumortrace_runtime.errors import BackendError, BundleError, ScanError
from tumortrace_runtime.files import sha256_file
from tumortrace_runtime.inference import tumour_logits
from tumortrace_runtime.io.scan import Geometry, Scan
from tumortrace_runtime.machine import Cpu, inspect_cpu
from tumortrace_runtime.metrics import dice
from tumortrace_runtime.precision import CPU_DEVICES, default_precision, suited_precision
from tumortrace_runtime.preprocess import channel_statistics, normalise, preprocess

ENGINES = ("openvino", "onnxruntime")
EACH_ENGINE = pytest.mark.parametrize("engine", ENGINES)
WITHOUT_VNNI = Cpu("", "x86_64", 2, ("avx2", "avx512f"))

# The engines sum float32 products in another order: measured 0 on this network, 3e-5 on a trained one whose logits
# reach 23. At INT8 one step of the last layer's scale is about 0.1; the engines may round a tie differently.
LOGIT_TOLERANCE = {"fp32": 1e-4, "int8": 0.1}
MASK_TOLERANCE = {"fp32": 1e-5, "int8": 1e-3}  # share of the voxels


@cache
def phantom() -> Scan:
    """A phantom of 64 px and 8 slices with a lesion."""
    scan = generate_case(3, 1, size_px=64)
    assert scan.truth is not None
    middle = int(scan.truth.sum(axis=(1, 2)).argmax())
    kept = slice(middle - 4, middle + 4)
    return dataclasses.replace(scan, voxels=scan.voxels[kept], truth=scan.truth[kept])


@pytest.fixture(scope="module")
def segmenters(tiny_bundle: Path) -> Iterator[dict[tuple[str, str], Segmenter]]:
    opened = open_bundle(tiny_bundle)
    made = {
        (engine, precision): Segmenter(opened, backend=engine, precision=precision, threads=1)
        for engine in ENGINES
        for precision in ("fp32", "int8")
    }
    yield made
    for segmenter in made.values():
        segmenter.close()


def expected_mask(segmenter: Segmenter, scan: Scan) -> np.ndarray:
    flair = scan.select(("flair",))[..., 0]
    return normalise(flair, channel_statistics(flair, segmenter.bundle.preprocessing)) > 1.2


@EACH_ENGINE
def test_fp32_gives_the_mask_that_the_network_means(engine: str, segmenters: dict) -> None:
    segmenter = segmenters[engine, "fp32"]

    mask = segmenter.segment(phantom()).mask

    assert mask.dtype == np.uint8
    assert 100 < mask.sum() < mask.size // 4
    np.testing.assert_array_equal(mask, expected_mask(segmenter, phantom()))


@EACH_ENGINE
def test_int8_comes_close_to_it(engine: str, segmenters: dict) -> None:
    mask = segmenters[engine, "int8"].segment(phantom()).mask

    assert dice(mask, expected_mask(segmenters[engine, "int8"], phantom())) > 0.95


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_both_engines_agree(precision: str, segmenters: dict) -> None:
    one, other = (segmenters[engine, precision] for engine in ENGINES)
    prepared = preprocess(phantom().voxels, one.bundle.preprocessing)

    logits = [tumour_logits(each.backend, prepared, 1, 1) for each in (one, other)]

    np.testing.assert_allclose(*logits, atol=LOGIT_TOLERANCE[precision], rtol=0)
    differing = (one.segment(phantom()).mask != other.segment(phantom()).mask).mean()
    assert differing <= MASK_TOLERANCE[precision]


@EACH_ENGINE
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_result_says_what_ran(engine: str, precision: str, segmenters: dict, tiny_bundle: Path) -> None:
    segmenter = segmenters[engine, precision]

    result = segmenter.segment(phantom())

    assert result.backend.split()[0] == engine
    assert result.backend.split()[1][0].isdigit()
    assert result.device == {"openvino": "CPU", "onnxruntime": "CPUExecutionProvider"}[engine]
    ran = suited_precision(segmenter.bundle, engine, None, precision, inspect_cpu())
    assert (result.precision, result.executed_precision) == (ran, precision)
    assert max(result.layer_precisions, key=result.layer_precisions.__getitem__) == precision
    assert result.bundle_sha256 == sha256_file(tiny_bundle / "manifest.json")
    assert result.model_sha256 == sha256_file(segmenter.bundle.artefact(engine, ran))
    stages = ("preprocess", "infer", "postprocess")
    assert set(result.timings_ms) == {*stages, "total"}
    assert min(result.timings_ms.values()) > 0
    assert sum(result.timings_ms[stage] for stage in stages) <= result.timings_ms["total"]


def test_lesions_are_measured_in_the_scans_own_spacing(segmenters: dict) -> None:
    scan = dataclasses.replace(phantom(), geometry=Geometry((2.0, 5.0, 0.1)))

    result = segmenters["onnxruntime", "fp32"].segment(scan)

    assert result.warnings == []
    assert sum(lesion.voxels for lesion in result.lesions) == result.mask.sum()
    assert result.lesions[0].volume_ml == pytest.approx(result.lesions[0].voxels / 1000)
    found = result.lesions[0].diameters
    ends = np.array(found.longest_ends) * (5.0, 0.1)
    assert found.longest_mm == pytest.approx(np.linalg.norm(ends[1] - ends[0]))
    assert found.longest_mm > found.perpendicular_mm > 0


def test_a_result_tells_borders_and_run_lengths(segmenters: dict) -> None:
    result = segmenters["onnxruntime", "fp32"].segment(phantom())

    lengths = result.run_lengths()
    fullest = int(result.mask.sum(axis=(1, 2)).argmax())

    np.testing.assert_array_equal(np.repeat(np.arange(len(lengths)) % 2, lengths), result.mask.ravel())
    borders = result.contours(fullest)
    assert {border.label for border in borders} <= {lesion.label for lesion in result.lesions}
    for border in borders:
        (top, left), (bottom, right) = border.corners.min(axis=0), border.corners.max(axis=0)
        assert border.hole or result.mask[fullest, top:bottom, left:right].any()


def test_a_result_goes_into_json(segmenters: dict) -> None:
    result = segmenters["onnxruntime", "fp32"].segment(phantom().voxels)

    values = json.loads(json.dumps(result.to_dict(), allow_nan=False))

    assert set(values) == {field.name for field in dataclasses.fields(result)} - {"mask", "runs"}
    assert len(values["lesions"]) == len(result.lesions) > 0
    assert values["lesions"][0]["voxels"] == result.lesions[0].voxels
    assert values["lesions"][0]["diameters"]["longest_mm"] is None
    assert [warning["code"] for warning in values["warnings"]] == ["unknown-spacing"]


def test_a_replaced_sequence_is_a_warning(segmenters: dict) -> None:
    voxels = phantom().voxels.copy()
    voxels[..., 2] = voxels[..., 1]

    result = segmenters["onnxruntime", "fp32"].segment(dataclasses.replace(phantom(), voxels=voxels))

    (warning,) = result.warnings
    assert warning.code == "replaced-sequence"
    assert warning.message == "t1ce holds a copy of the FLAIR; it was treated as missing."


def test_channels_are_picked_by_name(segmenters: dict) -> None:
    scan = phantom()
    noise = np.random.default_rng(0).integers(0, 255, scan.voxels.shape[:3], dtype=np.uint8)
    shuffled = dataclasses.replace(
        scan,
        channels=("t1ce", "t2", "flair", "t1"),
        voxels=np.stack([scan.voxels[..., 2], noise, scan.voxels[..., 1], scan.voxels[..., 0]], axis=-1),
    )
    segmenter = segmenters["openvino", "int8"]

    np.testing.assert_array_equal(segmenter.segment(shuffled).mask, segmenter.segment(scan.voxels).mask)


def test_the_scans_grid_may_be_smaller_than_the_networks(segmenters: dict) -> None:
    scan = dataclasses.replace(phantom(), voxels=phantom().voxels[:, 3:60, 5:], truth=None)
    segmenter = segmenters["onnxruntime", "fp32"]

    mask = segmenter.segment(scan).mask

    assert mask.shape == (8, 57, 59)
    np.testing.assert_array_equal(mask, expected_mask(segmenter, scan))


def test_segmenting_again_gives_the_same(segmenters: dict) -> None:
    segmenter = segmenters["openvino", "int8"]
    first = segmenter.segment(phantom()).mask
    kept = first.copy()

    segmenter.segment(phantom().voxels[::-1])

    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(segmenter.segment(phantom()).mask, kept)


def test_a_missing_channel_is_refused(segmenters: dict) -> None:
    scan = dataclasses.replace(phantom(), channels=("t1", "flair"), voxels=phantom().voxels[..., :2])

    with pytest.raises(ScanError, match="has channels t1, flair; t1ce wanted too"):
        segmenters["openvino", "fp32"].segment(scan)


@pytest.mark.parametrize(
    ("voxels", "told"),
    [
        (np.zeros((4, 64, 64, 2), np.uint8), "3: t1, flair, t1ce"),
        (np.zeros((4, 65, 64, 3), np.uint8), "slices of 65x64 px; this model takes at most 64x64 px"),
        (np.full((4, 64, 64, 3), np.nan), "NaN"),
        (np.zeros((4, 64, 64, 3), np.uint8), "channel flair: no foreground"),
    ],
)
def test_voxels_that_do_not_fit_are_refused(voxels: np.ndarray, told: str, segmenters: dict) -> None:
    with pytest.raises(ScanError, match=told):
        segmenters["openvino", "fp32"].segment(voxels)


def test_what_is_not_to_be_had_is_refused(tiny_bundle: Path) -> None:
    with pytest.raises(BackendError, match="nothing for onnxruntime at bf16"):
        Segmenter(tiny_bundle, backend="onnxruntime", precision="bf16")
    with pytest.raises(BackendError, match="nothing for tensorflow at fp32"):
        Segmenter(tiny_bundle, backend="tensorflow", precision="fp32")
    with pytest.raises(BackendError, match="no device 'AUTO'"):
        Segmenter(tiny_bundle, backend="openvino", device="AUTO")


def test_a_precision_that_was_not_exported_is_refused(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    without = {name: entry for name, entry in bundle.manifest["files"].items() if "onnxruntime/" not in name}
    bundle = dataclasses.replace(bundle, manifest={**bundle.manifest, "files": without})

    with pytest.raises(BackendError, match="nothing for onnxruntime at int8; it has onnxruntime at fp32"):
        Segmenter(bundle, backend="onnxruntime", precision="int8")


def test_a_damaged_bundle_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    damaged = Path(shutil.copytree(tiny_bundle, tmp_path / "tiny.bundle"))
    (damaged / "model.onnx").write_bytes(b"")

    with pytest.raises(BundleError, match=r"model\.onnx"):
        Segmenter(str(damaged))


@EACH_ENGINE
def test_a_closed_segmenter_runs_no_more(engine: str, tiny_bundle: Path) -> None:
    with Segmenter(tiny_bundle, backend=engine, precision="fp32") as segmenter:
        segmenter.segment(phantom())
    segmenter.close()

    with pytest.raises(BackendError, match="closed"):
        segmenter.segment(phantom())


@EACH_ENGINE
def test_a_cpu_whose_sums_saturate_gets_weights_of_7_bits(engine: str, tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)

    assert suited_precision(bundle, engine, None, "int8", WITHOUT_VNNI) == "int8-7bit"
    assert suited_precision(bundle, engine, CPU_DEVICES[engine], "int8", WITHOUT_VNNI) == "int8-7bit"
    for precision in ("fp32", "fp16", "bf16", "int8-7bit"):
        assert suited_precision(bundle, engine, None, precision, WITHOUT_VNNI) == precision


@EACH_ENGINE
@pytest.mark.parametrize("cpu", [Cpu("", "x86_64", 2, ("avx2", "avx_vnni")), Cpu("", "aarch64", 2, ())])
def test_any_other_cpu_gets_what_was_asked_for(engine: str, cpu: Cpu, tiny_bundle: Path) -> None:
    assert suited_precision(open_bundle(tiny_bundle), engine, None, "int8", cpu) == "int8"


@pytest.mark.parametrize(
    ("engine", "device"),
    [("openvino", "GPU"), ("openvino", "NPU"), ("onnxruntime", "CUDAExecutionProvider"), ("tensorrt", None)],
)
def test_a_device_other_than_the_cpu_does_not_depend_on_it(engine: str, device: str | None, tiny_bundle: Path) -> None:
    assert suited_precision(open_bundle(tiny_bundle), engine, device, "int8", WITHOUT_VNNI) == "int8"


@EACH_ENGINE
def test_a_cpu_whose_sums_saturate_is_refused_int8_of_8_bits(engine: str, tiny_bundle: Path) -> None:
    bundle = without_files(open_bundle(tiny_bundle), f"{engine}/model.int8-7bit")

    with pytest.raises(BackendError, match=f"no INT8 model with 7-bit weights for {engine}; take fp32 or fp16"):
        suited_precision(bundle, engine, None, "int8", WITHOUT_VNNI)
    other = next(name for name in ENGINES if name != engine)
    assert suited_precision(bundle, other, None, "int8", WITHOUT_VNNI) == "int8-7bit"
    with pytest.raises(BackendError, match=f"nothing for {engine} at int8; it has"):
        suited_precision(without_files(bundle, engine), engine, None, "int8", WITHOUT_VNNI)


@EACH_ENGINE
def test_weights_of_7_bits_run_anywhere(engine: str, tiny_bundle: Path) -> None:
    with Segmenter(tiny_bundle, backend=engine, precision="int8-7bit", threads=1) as segmenter:
        result = segmenter.segment(phantom())

    assert (result.precision, result.executed_precision) == ("int8-7bit", "int8")
    assert result.model_sha256 == sha256_file(segmenter.bundle.artefact(engine, "int8-7bit"))
    assert dice(result.mask, expected_mask(segmenter, phantom())) > 0.95


def preferring(bundle: Bundle, **preferred: str) -> Bundle:
    """The bundle as if its export had preferred these."""
    measurements = {**bundle.manifest["measurements"], "preferred": preferred}
    return dataclasses.replace(bundle, manifest={**bundle.manifest, "measurements": measurements})


def test_a_preferred_precision_that_this_device_lacks_gives_way_to_fp16(tiny_bundle: Path) -> None:
    bundle = preferring(open_bundle(tiny_bundle), openvino="bf16", onnxruntime="int8")
    with_bf16 = Cpu("", "x86_64", 2, ("avx512_vnni", "avx512_bf16"))

    assert default_precision(bundle, "openvino", None, with_bf16) == "bf16"
    assert default_precision(bundle, "openvino", "GPU", with_bf16) == "fp16"
    assert default_precision(bundle, "openvino", None, WITHOUT_VNNI) == "fp16"
    assert default_precision(bundle, "onnxruntime", None, WITHOUT_VNNI) == "int8"  # of 7 bits
    narrowless = without_files(bundle, "onnxruntime/model.int8-7bit")
    assert default_precision(narrowless, "onnxruntime", None, WITHOUT_VNNI) == "fp16"
    assert default_precision(without_files(narrowless, "model.fp16"), "onnxruntime", None, WITHOUT_VNNI) == "fp32"


def test_an_engine_that_was_not_exported_for_is_not_run_by_default(tiny_bundle: Path) -> None:
    bundle = preferring(open_bundle(tiny_bundle), onnxruntime="int8")

    with pytest.raises(BackendError, match="was not exported for openvino, only for onnxruntime; take one of these"):
        Segmenter(bundle)
    assert bundle.preferred("tensorrt") == "int8"


def without_files(bundle: Bundle, prefix: str) -> Bundle:
    """The bundle as it were without the model files whose path begins so."""
    kept = {name: entry for name, entry in bundle.manifest["files"].items() if not name.startswith(prefix)}
    return dataclasses.replace(bundle, manifest={**bundle.manifest, "files": kept})


def test_threads_that_share_a_segmenter_get_each_their_own_result(segmenters: dict) -> None:
    segmenter, scan = segmenters["openvino", "int8"], phantom()
    brighter = dataclasses.replace(scan, voxels=scan.voxels[:, :, ::-1] * 2)
    scans = [scan, brighter] * 6
    expected = [segmenter.segment(each).mask for each in scans[:2]]
    assert not np.array_equal(*expected)
    with ThreadPoolExecutor(4) as pool:
        for number, result in enumerate(pool.map(segmenter.segment, scans)):
            np.testing.assert_array_equal(result.mask, expected[number % 2])


SHORT_OF_MEMORY = """
import resource, sys
import numpy as np
from tumortrace_runtime import Segmenter
from tumortrace_runtime.errors import ResourceError
small = np.load(sys.argv[2])
with Segmenter(sys.argv[1], backend="onnxruntime", precision="fp32", threads=1) as segmenter:
    expected = segmenter.segment(small).mask
    large = np.zeros((70_000 // 2, 64, 64, 3), np.uint8)  # of which no page is ever written
    large[: len(small)] = small
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 50_000_000, resource.RLIM_INFINITY))
    try:
        segmenter.segment(large)
    except ResourceError as problem:
        print(problem)
    assert (segmenter.segment(small).mask == expected).all()
"""


def test_a_scan_for_which_memory_is_short_is_one_typed_error(tiny_bundle: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "small.npy", phantom().voxels)

    done = subprocess.run(
        [sys.executable, "-c", SHORT_OF_MEMORY, tiny_bundle, tmp_path / "small.npy"], capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout == "too little memory for this scan; end other programs, or segment a smaller one.\n"


def test_an_array_may_be_a_spacing(segmenters: dict) -> None:
    spacings = (2, 5, 0.1), np.array([2, 5, 0.1])
    one, other = (segmenters["onnxruntime", "fp32"].segment_voxels(phantom().voxels, given) for given in spacings)
    assert one.lesions == other.lesions


@EACH_ENGINE
@pytest.mark.parametrize("threads", [0, -1, 1025, 1.5, "2"])
def test_threads_that_cannot_be_are_refused(threads: object, engine: str, tiny_bundle: Path) -> None:
    with pytest.raises(BackendError, match=r"^threads: .* given; 1 to 1024 wanted\.$"):
        Segmenter(tiny_bundle, backend=engine, precision="fp32", threads=threads)  # type: ignore[arg-type]


def test_a_process_that_was_forked_says_that_it_cannot_run_a_model_of_its_parent(tiny_bundle: Path) -> None:
    statements = f"""
import os, sys
from tumortrace.phantom import generate_case
from tumortrace_runtime import Segmenter
from tumortrace_runtime.errors import BackendError
voxels = generate_case(3, 1, size_px=64).voxels
for engine in ("openvino", "onnxruntime"):
    with Segmenter({str(tiny_bundle)!r}, backend=engine, precision="fp32") as segmenter:
        segmenter.segment(voxels)
        child = os.fork()
        if child == 0:
            try:
                segmenter.segment(voxels)
            except BackendError as problem:
                print(problem, flush=True)
            os._exit(0)
        os.waitpid(child, 0)
"""
    done = subprocess.run([sys.executable, "-c", statements], capture_output=True, text=True, check=True, timeout=60)
    told = "the model was loaded before this process was forked"
    said = [line.partition(",")[0] for line in done.stdout.splitlines()]
    assert said == [f"openvino: {told}", f"onnxruntime: {told}"]
