"""Slices that are added batch by batch, on the network's grid, against the definition of the whole scan."""

from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from tumortrace_runtime import _native
from tumortrace_runtime.confidence import probabilities
from tumortrace_runtime.errors import InputError
from tumortrace_runtime.lesions import label_lesions
from tumortrace_runtime.postprocess import Postprocessing
from tumortrace_runtime.postprocessor import Postprocessor
from tumortrace_runtime.preprocess import Placement, Preprocessing, from_grid, place

from .reference import basics, clean_mask, measure_lesions, segment_logits

SPACING_MM = (3.0, 0.5, 0.75)
WHOLE = Placement((9, 70), (9, 70), (0, 0), (9, 70))

SPECS = st.builds(
    Postprocessing,
    threshold=st.floats(0.2, 0.8),
    opening_px=st.sampled_from([0, 1]),
    closing_px=st.sampled_from([0, 2]),
    fill_holes=st.booleans(),
    min_lesion_voxels=st.sampled_from([0, 5]),
    connectivity=st.sampled_from([6, 18, 26]),
)


@st.composite
def placements(draw: st.DrawFn) -> Placement:
    """Slices that are padded onto a grid, or scaled onto it."""
    grid = draw(st.tuples(st.integers(16, 40), st.integers(16, 140)))
    fit = draw(st.sampled_from(["pad", "resize"]))
    largest = grid if fit == "pad" else (90, 200)
    scan = draw(st.tuples(st.integers(1, largest[0]), st.integers(1, largest[1])))
    return place(scan, Preprocessing(("flair",), grid_px=grid, fit=fit))


@st.composite
def outputs(draw: st.DrawFn) -> tuple[np.ndarray, Placement]:
    """Logits as a network gives them, (slices, classes, grid rows, grid columns), some slices all background."""
    placement = draw(placements())
    shape = (draw(st.integers(1, 6)), draw(st.sampled_from([1, 1, 1, 2, 3])), *placement.grid_px)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    smooth = ndimage.gaussian_filter(rng.standard_normal(shape), (0, 0, 1, 1))
    logits = smooth / (smooth.std() + 1e-9) - draw(st.sampled_from([-1.0, 0.0, 1.0]))
    logits[rng.random(shape[0]) < draw(st.sampled_from([0.0, 0.5]))] = -9
    return logits.astype(draw(st.sampled_from([np.float32, np.float16]))), placement


def definition(output: np.ndarray, placement: Placement, spec: Postprocessing) -> np.ndarray:
    """The mask of the whole scan."""
    if output.ndim == 3:
        return clean_mask((output[(slice(None), *placement.window)] > 0).astype(np.uint8), spec)
    own = from_grid(output.astype(np.float32), placement)
    if own.shape[1] == 1:
        return segment_logits(np.ascontiguousarray(own[:, 0]), spec)
    return clean_mask((own.argmax(axis=1) > 0).astype(np.uint8), spec)


def add_in_batches(postprocessor: Postprocessor, output: np.ndarray, data: st.DataObject) -> None:
    """Adds all of an output in batches of any size, each of which is gone afterwards; skips some empty slices."""
    start = 0
    while start < len(output):
        stop = start + data.draw(st.integers(1, len(output) - start))
        if output.ndim == 4 and output.shape[1] == 1 and output[start:stop].max() == -9:
            postprocessor.skip(stop - start)
        else:
            batch = output[start:stop].copy()
            postprocessor.add(batch)
            batch[...] = 1
        start = stop


@given(outputs(), SPECS, st.integers(1, 3), st.data())
def test_batches_give_what_the_definition_says_of_the_whole(made, spec, threads, data):
    output, placement = made
    postprocessor = Postprocessor(spec, threads)
    postprocessor.begin(len(output), placement, SPACING_MM)

    add_in_batches(postprocessor, output, data)
    found = postprocessor.finish()

    wanted = definition(output, placement, spec)
    np.testing.assert_array_equal(found.mask, wanted)
    assert basics(found.lesions) == measure_lesions(wanted, SPACING_MM, spec.connectivity)


@given(outputs(), SPECS, st.floats(0.5, 3), st.data())
def test_confidence_does_not_depend_on_the_batches(made, spec, temperature, data):
    output, placement = made
    output = output[:, :1]
    postprocessor = Postprocessor(spec)

    postprocessor.begin(len(output), placement, temperature=temperature)
    add_in_batches(postprocessor, output, data)
    found = postprocessor.finish()

    own = from_grid(output.astype(np.float32), placement)[:, 0]
    assert found.lesions == Postprocessor(spec).segment_logits(own, temperature=temperature).lesions
    probability, labels = probabilities(own, temperature), label_lesions(found.mask, spec.connectivity)
    for lesion in found.lesions:
        wanted = probability[labels == lesion.label].mean(dtype=np.float64)
        assert lesion.confidence == pytest.approx(wanted, abs=1e-6)


@given(outputs(), SPECS, st.data())
def test_masks_are_added_as_well(made, spec, data):
    logits, placement = made
    placement = dataclasses.replace(placement, scan_px=placement.scaled_px)
    masks = (logits[:, 0] > 0).astype(np.uint8) * np.uint8(data.draw(st.sampled_from([1, 255])))
    postprocessor = Postprocessor(spec)
    postprocessor.begin(len(masks), placement)

    add_in_batches(postprocessor, masks, data)

    np.testing.assert_array_equal(postprocessor.finish().mask, definition(masks, placement, spec))


@given(outputs(), SPECS)
def test_a_provisional_mask_is_that_of_its_slice(made, spec):
    output, placement = made
    postprocessor = Postprocessor(spec)
    postprocessor.begin(len(output), placement)

    shown = []
    for number in range(len(output)):
        postprocessor.add(output[number:number])
        postprocessor.add(output[number : number + 1])
        shown.append(postprocessor.provisional(number))
        np.testing.assert_array_equal(postprocessor.provisional(0), shown[0])

    np.testing.assert_array_equal(shown, definition(output, placement, dataclasses.replace(spec, min_lesion_voxels=0)))
    np.testing.assert_array_equal(postprocessor.finish().mask, definition(output, placement, spec))
    np.testing.assert_array_equal(postprocessor.provisional(0), shown[0])


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinite_logits_are_resampled_as_the_definition_does(value):
    placement = Placement((9, 12), (18, 24), (0, 0), (18, 24))
    logits = np.ones((1, 1, 18, 24), np.float32)
    logits[0, 0, 4, 7] = value
    own = from_grid(logits, placement)[:, 0]
    postprocessor = Postprocessor(Postprocessing())
    postprocessor.begin(1, placement)

    if nan := int(np.isnan(own).sum()):
        with pytest.raises(InputError, match=f"{nan} values are NaN"):
            postprocessor.add(logits)
    else:
        postprocessor.add(logits)
        np.testing.assert_array_equal(postprocessor.finish().mask, own > 0)


@given(outputs(), st.data())
def test_nan_is_counted_where_the_scan_has_it(made, data):
    output, placement = made
    number, place_ = len(output) - 1, [data.draw(st.integers(0, side - 1)) for side in output.shape[1:]]
    output[(number, *place_)] = np.nan
    nan = int(np.isnan(from_grid(output.astype(np.float32), placement)).sum())
    postprocessor = Postprocessor(Postprocessing())
    postprocessor.begin(len(output), placement)
    postprocessor.add(output[:number])

    if not nan:
        postprocessor.add(output[number:])
        postprocessor.finish()
        return
    with pytest.raises(InputError, match=f"output: {nan} values are NaN; the model or its input is damaged"):
        postprocessor.add(output[number:])
    with pytest.raises(InputError, match="no scan is begun"):
        postprocessor.finish()


def test_an_output_in_any_memory_order_gives_the_same_mask():
    output = np.random.default_rng(3).standard_normal((3, 1, 9, 70)).astype(np.float32)
    postprocessor, masks = Postprocessor(Postprocessing()), []
    for each in (output, np.asfortranarray(output), np.flip(np.flip(output).copy())):
        postprocessor.begin(3, WHOLE)
        postprocessor.add(each)
        masks.append(postprocessor.finish().mask)

    np.testing.assert_array_equal(masks[1], masks[0])
    np.testing.assert_array_equal(masks[2], masks[0])


LOGITS = np.zeros((2, 1, 9, 70), np.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(lambda it: it.add(LOGITS[0]), "float32 of shape .* logits .* or a mask", id="axes"),
        pytest.param(lambda it: it.add(LOGITS[:, 0]), "float32 of shape", id="logits without classes"),
        pytest.param(lambda it: it.add(LOGITS.astype(np.float64)), "float64 of shape", id="float64"),
        pytest.param(lambda it: it.add(LOGITS[:, 0].astype(bool)), "bool of shape", id="bool"),
        pytest.param(lambda it: it.add(LOGITS.astype(np.uint8)), "uint8 of shape", id="mask with classes"),
        pytest.param(lambda it: it.add(LOGITS[:, :0]), "logits of no class", id="no class"),
        pytest.param(lambda it: it.add(LOGITS[..., :-1]), "grid of 9x69 px given; 9x70 px wanted", id="narrow"),
        pytest.param(lambda it: it.add(LOGITS.swapaxes(2, 3)), "grid of 70x9 px given", id="turned"),
        pytest.param(lambda it: it.add(LOGITS[:0, :, :0]), "grid of 0x70 px given", id="empty"),
        pytest.param(lambda it: it.add(np.zeros((2, 9, 69), np.uint8)), "grid of 9x69 px given", id="narrow mask"),
        pytest.param(lambda it: it.add(np.zeros((2, 2, 9, 70), np.float32)), "only logits of one class", id="classes"),
        pytest.param(lambda it: it.add(np.zeros((2, 9, 70), np.uint8)), "only logits of one class", id="mask"),
        pytest.param(lambda it: (it.add(LOGITS), it.add(LOGITS)), "2 slices given; at most 1 of 3", id="more"),
        pytest.param(lambda it: it.skip(4), "4 slices given; at most 3 of 3", id="skip more"),
        pytest.param(lambda it: it.skip(-1), "-1 given; 0 or more wanted", id="skip less"),
        pytest.param(lambda it: it.finish(), "0 of 3 slices were added", id="early"),
        pytest.param(lambda it: it.provisional(0), "no slice 0 was added; 0 slices are there", id="provisional"),
        pytest.param(lambda it: it.provisional(-1), "-1 given", id="negative"),
    ],
)
def test_what_does_not_fit_is_refused_and_the_next_scan_is_not_touched(call, message):
    postprocessor = Postprocessor(Postprocessing())
    postprocessor.begin(3, WHOLE, temperature=1.5)

    with pytest.raises(InputError, match=message):
        call(postprocessor)

    postprocessor.begin(2, WHOLE)
    postprocessor.add(LOGITS + 1)
    assert postprocessor.finish().lesions[0].voxels == 2 * 9 * 70


@pytest.mark.parametrize(
    "call", [lambda it: it.add(LOGITS), lambda it: it.skip(0), lambda it: it.finish()], ids=["add", "skip", "finish"]
)
def test_nothing_is_added_to_a_scan_that_was_not_begun_or_is_finished(call):
    postprocessor = Postprocessor(Postprocessing())
    with pytest.raises(InputError, match="no scan is begun"):
        call(postprocessor)
    postprocessor.segment_logits(LOGITS[:, 0])
    with pytest.raises(InputError, match="no scan is begun"):
        call(postprocessor)


@pytest.mark.parametrize(
    ("slices", "placement", "options", "message"),
    [
        (0, WHOLE, {}, "1 to 65535 of each"),
        (-1, WHOLE, {}, "-1 given"),
        (65536, WHOLE, {}, "1 to 65535 of each"),
        (1, dataclasses.replace(WHOLE, scan_px=(0, 4)), {}, "1 to 65535 of each"),
        (1, dataclasses.replace(WHOLE, scaled_px=(0, 4)), {}, "slices of 0x4 px at .* do not lie on a grid of 9x70 px"),
        (1, dataclasses.replace(WHOLE, offset_px=(1, 0)), {}, r"at \(1, 0\) do not lie on a grid"),
        (1, WHOLE, {"spacing_mm": (1.0, 0.0, 1.0)}, "three positive distances"),
        (1, WHOLE, {"temperature": 0.0}, "positive, finite"),
        (1, WHOLE, {"temperature": float("nan")}, "positive, finite"),
    ],
)
def test_a_scan_that_cannot_be_is_not_begun(slices, placement, options, message):
    with pytest.raises(InputError, match=message):
        Postprocessor(Postprocessing()).begin(slices, placement, **options)


def test_a_mask_is_not_resampled():
    postprocessor = Postprocessor(Postprocessing())
    postprocessor.begin(1, Placement((18, 140), (9, 70), (0, 0), (9, 70)))
    with pytest.raises(InputError, match="cannot be brought back to a grid of another size; export with --output"):
        postprocessor.add(np.zeros((1, 9, 70), np.uint8))


@pytest.mark.parametrize(
    "output",
    [LOGITS[..., ::2], np.broadcast_to(np.float32(0), (2, 1, 9, 70)), LOGITS.astype(np.float64), LOGITS[0]],
    ids=["strided", "overlapping", "float64", "three axes"],
)
def test_no_output_is_converted_behind_the_callers_back(output):
    with pytest.raises(TypeError):
        _native.Postprocessor(threshold_logit=0.0).add(output)


def test_labels_of_a_scan_that_was_added():
    core = _native.Postprocessor(threshold_logit=0.0)
    logits = np.full((3, 1, 4, 5), -1, np.float32)
    logits[0, 0, 0, 0] = logits[2, 0, 1, 2:4] = 1
    core.begin(3, (2, 3), (2, 3), (0, 1), (4, 5))
    core.add(logits)

    mask, labels, lesions, _ = core.finish(labels=True)

    np.testing.assert_array_equal(labels, mask)
    assert np.argwhere(labels).tolist() == [[2, 1, 1], [2, 1, 2]]
    assert [lesion.voxels for lesion in lesions] == [2]


@pytest.mark.parametrize("threads", [0, -1, 1025, 10**9])
def test_threads_that_cannot_be_are_refused(threads):
    with pytest.raises(InputError, match=r"threads: -?\d+ given; 1 or more wanted|threads given; 1 to 1024 wanted"):
        Postprocessor(Postprocessing(), threads)


def test_other_threads_run_while_slices_are_added():
    output = np.zeros((64, 1, 512, 512), np.float32)
    postprocessor = Postprocessor(Postprocessing())
    postprocessor.begin(64 * 50, Placement((512, 512), (512, 512), (0, 0), (512, 512)))
    ticks, done = [0], threading.Event()

    def tick() -> None:
        while not done.is_set():
            ticks[0] += 1

    thread = threading.Thread(target=tick)
    thread.start()
    before = ticks[0]
    for _ in range(50):
        postprocessor.add(output)
    after = ticks[0]
    done.set()
    thread.join()
    assert after > before
