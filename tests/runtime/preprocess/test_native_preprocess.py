"""The native core, bit by bit against the definition in NumPy: any storage, any instructions, and what is refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tumortrace_runtime import _native
from tumortrace_runtime.errors import ScanError, SpecError
from tumortrace_runtime.io import find_cases, read_case
from tumortrace_runtime.io.scan import CaseFiles, Geometry, Scan
from tumortrace_runtime.preprocess import IntegerInput, Preprocessing, network_batch, packed_batch, preprocess
from tumortrace_runtime.preprocess.native import Preprocessor, prepare
from tumortrace_runtime.settings import from_dict

from .plain import GOLDEN, SEQUENCES, head

INTEGERS = IntegerInput("int8", 0.031, 3, 2)
STORAGE = ["u1", "i1", "<u2", ">u2", "<i2", ">i2", "<u4", "<i4", ">i8", "<u8", "<f2", "<f4", ">f4", "<f8"]
SPEC = Preprocessing(SEQUENCES, grid_px=(24, 20))


def available(vectors: str) -> bool:
    try:
        Preprocessor(SPEC, vectors)
    except ValueError:
        return False
    return True


VECTORS = [name for name in ("baseline", "avx2", "avx512") if available(name)]


def scan(seed: int = 0, shape: tuple[int, int, int] = (3, 22, 18), background: int = 30) -> npt.NDArray[np.uint8]:
    """(slices, rows, columns, 3); half of them, by their seed, with a uniform background."""
    voxels = head(np.random.default_rng(seed), shape, background=background, brain=90, skull=120).clip(0, 127)
    if seed % 2:
        voxels[voxels < background + 10] = background
    return voxels.astype(np.uint8)


def outcome(prepared: Callable[[], Any]) -> Any:
    """What a function gives, or what it says when it refuses."""
    try:
        return prepared()
    except ScanError as problem:
        return str(problem)


def assert_same(voxels: npt.NDArray[Any], spec: Preprocessing, vectors: str | None = None) -> None:
    """Planes, batches of every type, what is replaced, and what is refused: all as the definition has it."""
    wanted = outcome(lambda: preprocess(voxels, spec))
    native = Preprocessor(spec, vectors)
    if isinstance(wanted, str):
        assert outcome(lambda: native.open(voxels)) == wanted
        return
    native.open(voxels)
    assert (native.slices, native.placement, native.replaced) == (len(voxels), wanted.placement, wanted.replaced)
    np.testing.assert_array_equal(native.planes(), wanted.planes)
    ends = {(0, len(voxels)), (0, 1), (len(voxels) // 2, len(voxels))}
    for start, stop in ends:
        batch = network_batch(wanted.planes, start, stop, spec.context)
        np.testing.assert_array_equal(native.network_batch(start, stop), batch)
        halves = np.empty(batch.shape, np.float16)
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(native.network_batch(start, stop, halves), batch.astype(np.float16))
        for integers in (INTEGERS, replace(INTEGERS, dtype="uint8", block_px=1)):
            if all(size % integers.block_px == 0 for size in spec.grid_px):
                packed = packed_batch(wanted.planes, start, stop, spec.context, integers)
                np.testing.assert_array_equal(native.packed_batch(start, stop, integers), packed)


@pytest.mark.parametrize("vectors", VECTORS)
def test_golden_arrays(vectors: str) -> None:
    golden = np.load(GOLDEN)
    for number, settings_ in enumerate(json.loads(str(golden["specs"]))):
        native = Preprocessor(from_dict(Preprocessing, settings_), vectors)
        native.open(golden[f"voxels_{number}"])
        np.testing.assert_array_equal(native.planes(), golden[f"planes_{number}"], err_msg=str(settings_))


@settings(max_examples=60)
@given(
    seed=st.integers(0, 999),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 24), st.integers(1, 40)),
    background=st.sampled_from([0, 30, 60]),
    dtype=st.sampled_from(STORAGE),
    spec=st.builds(
        Preprocessing,
        channels=st.just(SEQUENCES),
        context=st.integers(0, 2),
        grid_px=st.sampled_from([(24, 40), (24, 20), (16, 64), (17, 19)]),
        fit=st.sampled_from(["pad", "resize"]),
        foreground=st.sampled_from(["above-border", "not-border"]),
        foreground_fraction=st.sampled_from([0.05, 0.1, 0.5]),
        clip_percentiles=st.sampled_from([(0.0, 100.0), (0.5, 99.5), (5, 90)]),
    ),
    copy=st.sampled_from([None, 0, 2]),
    vectors=st.sampled_from(VECTORS),
)
@example(0, (2, 8, 9), 30, "<f4", SPEC, 0, "baseline")
def test_everything_is_as_numpy_has_it(
    seed: int,
    shape: tuple[int, int, int],
    background: int,
    dtype: str,
    spec: Preprocessing,
    copy: int | None,
    vectors: str,
) -> None:
    voxels = scan(seed, shape, background).astype(dtype)
    if voxels.dtype.kind == "f":
        voxels /= 7
    if copy is not None:
        voxels[..., copy] = voxels[..., 1]
    assert_same(voxels, spec, vectors)


@given(
    values=st.lists(st.floats(width=32) | st.sampled_from([0.0, -0.0, 1.0, 2.5]), min_size=1, max_size=300),
    rule=st.sampled_from(["above-border", "not-border"]),
    vectors=st.sampled_from(VECTORS),
)
@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_any_floats_are_refused_or_prepared_as_numpy_has_it(values: list[float], rule: str, vectors: str) -> None:
    voxels = np.resize(np.array(values, np.float32), (2, 11, 18, 1))
    assert_same(voxels, Preprocessing(("flair",), grid_px=(16, 18), foreground=rule), vectors)  # type: ignore[arg-type]


@given(
    dtype=st.sampled_from(["<u2", "<i2", "<u4", "<i4", "<i8", "<u8"]),
    data=st.data(),
    span=st.sampled_from([1, 200, 65535, 65536, 1 << 31]),
    vectors=st.sampled_from(VECTORS),
)
def test_integers_far_from_zero_are_prepared_as_numpy_has_it(
    dtype: str, data: st.DataObject, span: int, vectors: str
) -> None:
    limits = np.iinfo(dtype)
    span = min(span, limits.max - limits.min)
    low = data.draw(st.integers(limits.min, limits.max - span))
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    voxels = random.integers(low, low + span, (2, 12, 20, 1), dtype=dtype, endpoint=True)
    voxels[0, 0, 0, 0], voxels[0, 5, 5, 0] = low, low + span
    assert_same(voxels, Preprocessing(("flair",), grid_px=(16, 20), foreground="not-border"), vectors)


@pytest.mark.parametrize("dtype", ["u1", "<i2", "<f4", "<f8"])
@pytest.mark.parametrize("vectors", VECTORS)
def test_neither_memory_order_nor_alignment_matters(dtype: str, vectors: str) -> None:
    voxels = scan(1).astype(dtype)
    wide = np.full((6, 22, 36, 4), 99, dtype)
    wide[::2, :, ::2, :3] = voxels
    shifted = np.zeros(voxels.nbytes + 1, np.uint8)[1:].view(np.uint8)
    unaligned = np.frombuffer(shifted.data, dtype).reshape(voxels.shape)
    unaligned[:] = voxels
    read_only = voxels.copy()
    read_only.flags.writeable = False
    views = [
        np.asfortranarray(voxels),
        np.ascontiguousarray(voxels.transpose(3, 0, 1, 2)).transpose(1, 2, 3, 0),
        np.ascontiguousarray(voxels[::-1, ::-1, ::-1, ::-1])[::-1, ::-1, ::-1, ::-1],
        wide[::2, :, ::2, :3],
        unaligned,
        read_only,
    ]
    for view in views:
        np.testing.assert_array_equal(view, voxels)
        assert_same(view, SPEC, vectors)
    assert_same(np.broadcast_to(voxels[:1], voxels.shape), SPEC, vectors)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8"])
def test_values_that_are_not_finite_in_float32_are_counted_and_refused(dtype: str, value: float) -> None:
    voxels = scan().astype(dtype)
    with np.errstate(over="ignore"):
        voxels[1, 2, 3, 0] = voxels[0, 0, 0, 2] = value

    with pytest.raises(ScanError, match="2 voxels are NaN, infinite or beyond float32"):
        prepare(voxels, SPEC)


@pytest.mark.parametrize("blank", [0, 9, 255])
def test_a_constant_channel_is_named(blank: int) -> None:
    voxels = scan()
    voxels[..., 2] = blank

    with pytest.raises(ScanError, match="channel t1ce: no foreground"):
        prepare(voxels, SPEC)


def test_a_scan_is_named_and_what_its_reader_found_replaced_stays_so() -> None:
    files = CaseFiles("case", "patient", "", "lgg", Path("folder/case"), ())
    spec = replace(SPEC, channels=("t1ce", "t1"))

    prepared = prepare(Scan(files, SEQUENCES, scan(), Geometry(), replaced=("t1",)), spec)

    assert prepared.replaced == ("t1",)
    assert not prepared.planes[:, 1].any()
    with pytest.raises(ScanError, match=r"^folder/case: channel t1ce: no foreground"):
        prepare(Scan(files, SEQUENCES, np.zeros_like(scan()), Geometry(), replaced=("t1",)), spec)


@pytest.mark.parametrize("shape", [(3, 22, 18), (3, 22, 18, 2), (0, 22, 18, 3), (3, 48, 18, 3)])
def test_another_shape_is_refused_as_numpy_refuses_it(shape: tuple[int, ...]) -> None:
    voxels = np.zeros(shape, np.uint8)

    refused = outcome(lambda: prepare(voxels, SPEC))

    assert isinstance(refused, str)
    assert refused == outcome(lambda: preprocess(voxels, SPEC))


def test_a_channel_of_too_many_voxels_is_refused_before_it_is_read() -> None:
    huge = np.broadcast_to(np.uint8(0), (65536, 256, 256, 3))

    with pytest.raises(ScanError, match="fewer than 2\\^32 in a channel wanted"):
        prepare(huge, replace(SPEC, grid_px=(256, 256)))


def test_one_preprocessor_prepares_scan_after_scan() -> None:
    native = Preprocessor(SPEC)
    for seed, shape in enumerate([(2, 20, 18), (4, 24, 20), (1, 9, 9)]):
        for dtype in ("u1", "<f4"):
            voxels = scan(seed, shape).astype(dtype)
            wanted = preprocess(voxels, SPEC).planes
            native.open(voxels)
            np.testing.assert_array_equal(native.planes(), wanted)
            for integers in (INTEGERS, replace(INTEGERS, scale=0.1)):
                packed = packed_batch(wanted, 0, len(voxels), 1, integers)
                np.testing.assert_array_equal(native.packed_batch(0, len(voxels), integers), packed)


def test_a_refused_scan_leaves_none_open() -> None:
    native = Preprocessor(SPEC)
    native.open(scan())
    with pytest.raises(ScanError):
        native.open(np.zeros_like(scan()))

    with pytest.raises(ValueError, match="no scan is open"):
        native.network_batch(0, 1)
    assert native.statistics() == ()


def test_voxels_live_as_long_as_they_are_read() -> None:
    native = Preprocessor(SPEC)
    native.open(scan(5))
    garbage = [np.full(scan().shape, 77, np.uint8) for _ in range(50)]

    np.testing.assert_array_equal(native.planes(), preprocess(scan(5), SPEC).planes)
    assert len(garbage) == 50


def test_threads_wait_for_each_other() -> None:
    native = Preprocessor(SPEC)
    voxels = scan(shape=(16, 24, 20))
    native.open(voxels)
    wanted = native.planes()
    different: list[int] = []

    def work(number: int) -> None:
        for turn in range(20):
            if number == 0:
                native.open(voxels)
            elif not np.array_equal(native.planes(), wanted) or len(native.statistics()) != 3:
                different.append(turn)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not different


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        pytest.param(lambda n: n.network_batch(0, 4), ValueError, "no slices 0 to 4; .* <= 3 wanted", id="stop"),
        pytest.param(lambda n: n.network_batch(-1, 2), TypeError, None, id="start"),
        pytest.param(
            lambda n: n.network_batch(0, 2, np.empty((2, 9, 24, 19), np.float32)),
            ValueError,
            r"out has shape \(2, 9, 24, 19\); \(2, 9, 24, 20\) wanted",
            id="shape",
        ),
        pytest.param(lambda n: n.network_batch(0, 2, np.empty((2, 9, 24, 20))), TypeError, None, id="float64"),
        pytest.param(
            lambda n: n.network_batch(0, 2, np.empty((2, 9, 24, 40), np.float32)[..., ::2]),
            TypeError,
            None,
            id="strided",
        ),
        pytest.param(
            lambda n: n.packed_batch(0, 2, INTEGERS, np.empty((2, 12, 10, 35), np.int8)),
            ValueError,
            r"\(2, 12, 10, 36\) wanted",
            id="packed shape",
        ),
        pytest.param(
            lambda n: n.packed_batch(0, 2, INTEGERS, np.broadcast_to(np.int8(0), (2, 12, 10, 36))),
            TypeError,
            None,
            id="read-only",
        ),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(
    call: Callable[[Preprocessor], object], error: type[Exception], message: str | None
) -> None:
    native = Preprocessor(SPEC)
    native.open(scan())

    with pytest.raises(error, match=message):
        call(native)


def test_a_grid_that_does_not_divide_is_refused() -> None:
    native = Preprocessor(replace(SPEC, grid_px=(24, 21)))
    native.open(scan())

    with pytest.raises(SpecError, match="multiples of 2 px wanted"):
        native.packed_batch(0, 1, INTEGERS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid_px": (0, 16)}, "grid_px: 1 to 4096"),
        ({"grid_px": (16, 1 << 40)}, "grid_px: 1 to 4096"),
        ({"foreground_fraction": float("nan")}, "foreground_fraction: between 0 and 1"),
        ({"clip_percentiles": (50.0, 50.0)}, "clip_percentiles"),
        ({"clip_percentiles": (float("nan"), 99.0)}, "clip_percentiles"),
        ({"vectors": "sse9"}, "vectors: no sse9"),
    ],
)
def test_settings_that_mean_nothing_are_refused(change: dict[str, Any], message: str) -> None:
    fitting: dict[str, Any] = {
        "grid_px": (16, 16),
        "resize": False,
        "not_border": False,
        "foreground_fraction": 0.1,
        "clip_percentiles": (0.5, 99.5),
    }

    with pytest.raises(ValueError, match=message):
        _native.Preprocessor(**fitting | change)


@pytest.mark.parametrize("patient", ["FG_5962", "HT_A616"])
def test_real_scans(patient: str, real_data: Callable[[str], Path]) -> None:
    (files,) = (case for case in find_cases(real_data("kaggle_3m")) if patient in case.case_id)
    spec = Preprocessing(SEQUENCES)
    whole = read_case(files, with_truth=False)

    native = prepare(whole, spec)

    wanted = preprocess(whole, spec)
    assert native.replaced == wanted.replaced
    np.testing.assert_array_equal(native.planes, wanted.planes)
