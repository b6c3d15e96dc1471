"""Slices as a scanner produces them: a provisional mask of each, and the result of all."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tumortrace.phantom import generate_case
from tumortrace_runtime import Segmenter
from tumortrace_runtime.backends import LATENCY
from tumortrace_runtime.errors import InputError, ScanError
from tumortrace_runtime.io.scan import Geometry


@pytest.fixture(scope="module")
def segmenter(tiny_bundle: Path) -> Iterator[Segmenter]:
    with Segmenter(tiny_bundle, backend="onnxruntime", precision="fp32", mode=LATENCY) as made:
        yield made


@pytest.fixture(scope="module")
def voxels() -> np.ndarray:
    """A phantom's slices (slices, 64, 64, 3), more than there is room for at first."""
    voxels = generate_case(3, 1, size_px=64).voxels
    return np.concatenate([voxels, voxels[::-1]])[:40]


def test_the_result_is_that_of_the_whole_scan(segmenter: Segmenter, voxels: np.ndarray) -> None:
    scan = dataclasses.replace(generate_case(3, 1, size_px=64), voxels=voxels, geometry=Geometry((5.0, 1.0, 2.0)))
    stream = segmenter.stream(spacing_mm=(5.0, 1.0, 2.0))
    for image in voxels:
        stream.add(image)

    result, whole = stream.close(), segmenter.segment(scan)

    np.testing.assert_array_equal(result.mask, whole.mask)
    assert result.mask.any()
    assert result.lesions == whole.lesions
    assert result.warnings == []


def test_each_provisional_mask_is_that_of_the_slices_so_far(segmenter: Segmenter, voxels: np.ndarray) -> None:
    stream = segmenter.stream()
    for number, image in enumerate(voxels[:20]):
        provisional = stream.add(image)
        assert provisional.slice == number
        if provisional.mask is None:
            assert provisional.reason
            with pytest.raises(ScanError):
                segmenter.segment(voxels[: number + 1])
        else:
            # The tiny bundle removes no small lesions, so that nothing else is to be told apart.
            np.testing.assert_array_equal(provisional.mask, segmenter.segment(voxels[: number + 1]).mask[-1])
            assert provisional.mask.dtype == np.uint8


def test_nothing_is_said_of_slices_without_contrast(segmenter: Segmenter, voxels: np.ndarray) -> None:
    stream = segmenter.stream()

    provisional = stream.add(np.zeros((64, 64, 3), np.uint8))

    assert (provisional.slice, provisional.mask) == (0, None)
    assert provisional.reason == "channel flair: no foreground: the whole channel looks like background."
    middle = len(voxels) // 4
    assert stream.add(voxels[middle]).mask is not None
    assert stream.close().skipped_slices == 1


def test_a_slice_that_is_refused_was_not_given(segmenter: Segmenter, voxels: np.ndarray) -> None:
    floats = voxels[:20].astype(np.float32)
    broken = np.full_like(floats[0], np.nan)
    stream = segmenter.stream()
    for image in floats[:10]:
        stream.add(image)

    with pytest.raises(ScanError, match="NaN"):
        stream.add(broken)
    with pytest.raises(
        ScanError, match=r"slice 10: float32 of shape \(64, 63, 3\) given; float32 of shape \(64, 64, 3\)"
    ):
        stream.add(floats[0][:, :63])
    with pytest.raises(ScanError, match="uint8"):
        stream.add(voxels[0])
    for image in floats[10:]:
        stream.add(image)

    np.testing.assert_array_equal(stream.close().mask, segmenter.segment(floats).mask)


def test_the_first_slice_may_be_refused(segmenter: Segmenter, voxels: np.ndarray) -> None:
    stream = segmenter.stream()
    with pytest.raises(ScanError, match=r"slice of shape \(64, 64\) given; \(rows, columns, channels\) wanted"):
        stream.add(voxels[0, ..., 0])
    with pytest.raises(ScanError, match="3: t1, flair, t1ce"):
        stream.add(voxels[0, ..., :2])

    assert stream.add(voxels[0]).slice == 0


def test_a_stream_gives_one_result(segmenter: Segmenter, voxels: np.ndarray) -> None:
    stream = segmenter.stream()
    with pytest.raises(ScanError, match="without a slice"):
        stream.close()
    for image in voxels[:20]:
        stream.add(image)
    stream.close()

    with pytest.raises(InputError, match="has been closed"):
        stream.close()
    with pytest.raises(InputError, match=r"closed; begin another with Segmenter\.stream\(\)"):
        stream.add(voxels[0])


def test_what_was_added_may_be_overwritten(segmenter: Segmenter, voxels: np.ndarray) -> None:
    stream, image = segmenter.stream(), np.empty_like(voxels[0])
    for each in voxels[:20]:
        image[...] = each
        stream.add(image)

    np.testing.assert_array_equal(stream.close().mask, segmenter.segment(voxels[:20]).mask)


def test_slices_of_any_byte_order_are_taken(segmenter: Segmenter, voxels: np.ndarray) -> None:
    stream = segmenter.stream()
    for number, image in enumerate(voxels):
        stream.add(image.astype(">u2" if number % 3 else "<u2"))

    np.testing.assert_array_equal(stream.close().mask, segmenter.segment(voxels).mask)


def test_a_result_that_is_refused_leaves_the_stream_open(segmenter: Segmenter, voxels: np.ndarray) -> None:
    stream = segmenter.stream()
    stream.add(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(ScanError, match="no foreground"):
        stream.close()
    for image in voxels:
        stream.add(image)

    whole = np.concatenate([np.zeros((1, 64, 64, 3), np.uint8), voxels])
    np.testing.assert_array_equal(stream.close().mask, segmenter.segment(whole).mask)


@pytest.mark.parametrize(
    "spacing_mm", [(1, 1), (1, 1, 1, 1), (-5, 1, 1), (0, 1, 1), (np.nan, 1, 1), (1, np.inf, 1), 5, "abc"]
)
def test_a_spacing_that_is_none_is_refused_before_any_slice(spacing_mm: object, segmenter: Segmenter) -> None:
    with pytest.raises(InputError, match=r"spacing_mm: .* given; three positive distances wanted"):
        segmenter.stream(spacing_mm=spacing_mm)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="spacing_mm"):
        segmenter.segment_voxels(np.zeros((1, 64, 64, 3), np.uint8), spacing_mm)  # type: ignore[arg-type]
