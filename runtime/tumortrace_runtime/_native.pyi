"""TumorTrace's native core."""

from collections.abc import Sequence
from typing import Annotated, overload

import numpy
from numpy.typing import NDArray


@overload
def pack_batch(planes: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None, None), order='C', device='cpu', writable=False)], start: int, stop: int, context: int, block: int, scale: float, zero_point: int, out: Annotated[NDArray[numpy.int8], dict(shape=(None, None, None, None), order='C', device='cpu')]) -> None: ...

@overload
def pack_batch(planes: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None, None), order='C', device='cpu', writable=False)], start: int, stop: int, context: int, block: int, scale: float, zero_point: int, out: Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None, None), order='C', device='cpu')]) -> None:
    """
    Write slices and their neighbours to `out` as a network takes them that begins with integers.

    An integer is clamp(round(plane / scale + dither) + zero_point), ties to even, quotient and sum in float32, the dither as
    preprocess/README.md defines it; NaN gives the lowest.
    The channels of `out` are those of `network_batch` after space to depth: (neighbour, channel, row in the block, column
    in the block), the last one running fastest.

    Args:
        planes: (slices, channels, rows, columns) float32, C-contiguous.
        start: first slice of the batch.
        stop: one past its last slice.
        context: neighbours on each side; beyond the scan's ends the end slice is repeated.
        block: 1, 2 or 4; divides rows and columns.
        scale: positive; rounded to float32.
        zero_point: the integer that 0.0 becomes.
        out: (stop - start, rows / block, columns / block, (2 x context + 1) x channels x block x block), int8 or uint8,
            C-contiguous; written.

    Raises:
        ValueError: the shape of `out` or another value is not as said above.
        TypeError: an array has another dtype, another number of axes, is not C-contiguous, or `out` is read-only; start,
            stop, context or block is negative, or context above 65535.
    """

class Preprocessor:
    """
    Prepares one scan after the other; its buffers grow to the largest and are used again.

    Args:
        grid_px: (rows, columns) of the network's input, 1 to 4096.
        resize: whether slices are scaled onto the grid; else they are padded.
        not_border: whether the foreground is what differs from the border; else what is brighter.
        foreground_fraction: between 0 and 1; see `Preprocessing`.
        clip_percentiles: (low, high), 0 <= low < high <= 100.
        reference: the channel whose copies stand for a missing sequence, or None.
        vectors: "baseline", "avx2" or "avx512"; None for the widest that this CPU has.
        threads: that share the slices when statistics are taken; of 1 to 1024, and sleep in between. Results do not depend
            on it.

    Raises:
        ValueError: a value is not as said above.
    """

    def __init__(self, *, grid_px: tuple[int, int], resize: bool, not_border: bool, foreground_fraction: float, clip_percentiles: tuple[float, float], reference: int | None = None, vectors: str | None = None, threads: int = 1) -> None: ...

    def open(self, voxels: NDArray[numpy.generic], replaced: list[bool]) -> tuple[str, int, int, float]:
        """
        Take the statistics of a scan. Its voxels are kept, not copied, and must not change until the last batch.

        Args:
            voxels: (slices, rows, columns, channels), integers of 8 to 64 bits, float32 or float64, in any memory layout.
            replaced: for each channel, whether it is known to be replaced; empty where nothing is known.

        Returns:
            What is wrong: "" for nothing, "empty", "too-large" (2^32 voxels in a channel), "not-finite", "larger-than-grid",
            "no-foreground" or "one-value"; the channel, where it is one's; how many voxels are not finite; and the one value.

        Raises:
            ValueError: `replaced` has another length, or `reference` is no channel.
            TypeError: `voxels` has another dtype or another number of axes.
        """

    def statistics(self) -> list[tuple[float, float, float, float, float] | None]:
        """
        Background, low, high, mean and scale of each channel; None of a replaced one. Empty while no scan is open.
        """

    def coverage(self) -> tuple[list[bool], tuple[int, int], tuple[int, int]]:
        """
        Where the scan that is open has foreground in a channel that is not replaced.

        Returns:
            For each slice, whether there is any; the rows, first and one past the last; and the columns.

        Raises:
            ValueError: no scan is open.
        """

    @overload
    def write(self, start: int, stop: int, context: int, out: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None, None), order='C', device='cpu')]) -> None: ...

    @overload
    def write(self, start: int, stop: int, context: int, out: Annotated[NDArray[numpy.float16], dict(shape=(None, None, None, None), order='C', device='cpu')]) -> None:
        """
        Write slices and their neighbours to `out`, to the bit what `network_batch` gives.

        Args:
            start: first slice of the batch.
            stop: one past its last slice.
            context: neighbours on each side; beyond the scan's ends the end slice is repeated.
            out: (stop - start, (2 x context + 1) x channels, grid rows, grid columns), float32 or float16, C-contiguous;
                written.

        Raises:
            ValueError: no scan is open, the shape of `out` or another value is not as said above.
            TypeError: `out` has another dtype, another number of axes, is not C-contiguous, or read-only.
        """

    @overload
    def pack(self, start: int, stop: int, context: int, block: int, scale: float, zero_point: int, out: Annotated[NDArray[numpy.int8], dict(shape=(None, None, None, None), order='C', device='cpu')]) -> None: ...

    @overload
    def pack(self, start: int, stop: int, context: int, block: int, scale: float, zero_point: int, out: Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None, None), order='C', device='cpu')]) -> None:
        """
        Write slices and their neighbours to `out` as integers, to the bit what `pack_batch` makes of the planes.

        Args:
            start, stop, context: as `write` takes them.
            block, scale, zero_point: as `pack_batch` takes them.
            out: (stop - start, grid rows / block, grid columns / block, (2 x context + 1) x channels x block x block), int8 or
                uint8, C-contiguous; written.

        Raises:
            ValueError: no scan is open, the shape of `out` or another value is not as said above.
            TypeError: `out` has another dtype, another number of axes, is not C-contiguous, or read-only.
        """

class Diameters:
    """A lesion's longest diameter in a slice, and the longest across it."""

    @property
    def slice(self) -> int: ...

    @property
    def longest_mm(self) -> float: ...

    @property
    def perpendicular_mm(self) -> float: ...

    @property
    def ends(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """(row, column) of the longest's ends."""

    @property
    def perpendicular_ends(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """(row, column) of the other's ends."""

class Lesion:
    """One connected component; indices are (slice, row, column)."""

    @property
    def voxels(self) -> int: ...

    @property
    def centroid(self) -> tuple[float, float, float]:
        """Mean index."""

    @property
    def low(self) -> tuple[int, int, int]:
        """Least index inside."""

    @property
    def high(self) -> tuple[int, int, int]:
        """Greatest index inside, plus one."""

    @property
    def confidence(self) -> float | None:
        """Mean probability of its voxels, or None where none was asked for."""

    @property
    def highest_confidence(self) -> float | None:
        """Greatest probability of its voxels, or None where none was asked for."""

    @property
    def diameters(self) -> Diameters | None:
        """None where none were asked for."""

class LesionRuns:
    """The lesions of one scan as runs of voxels."""

    def contours(self, slice: int) -> list[tuple[int, bool, Annotated[NDArray[numpy.int32], dict(shape=(None, 2), order='C')]]]:
        """
        The borders of the lesions in a slice: for each, whose, whether it goes around a hole, and its corners.

        Returns:
            Of each border the lesion, 1 for the first; whether it is a hole's; and (n, 2) int32, as `mask_contours` gives them.

        Raises:
            ValueError: the scan has no such slice.
            TypeError: the number is negative.
        """

    def __getstate__(self) -> tuple[list[int], bytes, bytes, bytes, bool]: ...

    def __setstate__(self, arg: tuple[Sequence[int], bytes, bytes, bytes, bool], /) -> None: ...

    def lengths(self) -> Annotated[NDArray[numpy.int64], dict(shape=(None,), order='C')]:
        """
        Lengths of background and lesions in turns, background first, columns running fastest; (n,) int64.
        """

def mask_contours(mask: Annotated[NDArray[numpy.uint8], dict(shape=(None, None), order='C', device='cpu', writable=False)]) -> list[Annotated[NDArray[numpy.int32], dict(shape=(None, 2), order='C')]]:
    """
    The borders of a mask as polygons, of lesions clockwise and of holes counter-clockwise.

    Args:
        mask: (rows, columns) uint8, C-contiguous; not 0 is mask. Pixels that share a corner belong together.

    Returns:
        For each border its corners, (n, 2) int32 (row, column), the last joined to the first; pixel (r, c) lies between
        corners (r, c) and (r + 1, c + 1).

    Raises:
        ValueError: an extent is 0 or above 65535.
        TypeError: the array has another dtype, another number of axes, or is not C-contiguous.
    """

class Postprocessor:
    """
    From what a network gives to labelled lesions, as `postprocess.py` and `lesions.py` define it.

    One scan at a time, in buffers that are used again; threads wait for each other.

    Args:
        threshold_logit: what a foreground logit exceeds.
        opening_px: radius of the disk that opens each slice; 0 for none.
        closing_px: radius of the disk that closes each slice; 0 for none.
        fill_holes: whether holes in each slice are filled.
        min_lesion_voxels: components of fewer voxels are removed.
        connectivity: 6, 18 or 26.
        threads: that share the slices of every call; of 1 to 1024, and sleep in between. Results do not depend on it.

    Raises:
        ValueError: the threshold is NaN, `connectivity` is another number, or there are not so many threads.
        TypeError: a number is negative.
    """

    def __init__(self, *, threshold_logit: float, opening_px: int = 0, closing_px: int = 0, fill_holes: bool = False, min_lesion_voxels: int = 0, connectivity: int = 26, threads: int = 1) -> None: ...

    @overload
    def segment_logits(self, logits: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], *, temperature: float | None = None, pixel_mm: Sequence[float] | None = None, labels: bool = False) -> tuple[Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None), order='C')], Annotated[NDArray[numpy.uint32], dict(shape=(None, None, None), order='C')] | None, list[Lesion], LesionRuns]: ...

    @overload
    def segment_logits(self, logits: Annotated[NDArray[numpy.float16], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], *, temperature: float | None = None, pixel_mm: Sequence[float] | None = None, labels: bool = False) -> tuple[Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None), order='C')], Annotated[NDArray[numpy.uint32], dict(shape=(None, None, None), order='C')] | None, list[Lesion], LesionRuns]:
        """
        Segment a scan whose logits of one class are given.

        Args:
            logits: (slices, rows, columns) float32 or float16, C-contiguous.
            temperature: what logits are divided by for confidence; None for none.
            pixel_mm: height and width of a pixel, for diameters; None for none.
            labels: whether the lesion of every voxel is wanted.

        Raises:
            ValueError: an extent is 0 or above 65535, there are more than 2^32 voxels, a value is NaN, or a number is not
                positive.
            TypeError: the array has another dtype, another number of axes, or is not C-contiguous.

        Returns:
            The mask, uint8; the lesion of every voxel, uint32, 1 for the first and 0 for none, or None; the lesions, the largest
            first, of equal ones that whose first voxel comes first; and their runs of voxels.
        """

    @overload
    def segment_quantised(self, logits: Annotated[NDArray[numpy.int8], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], scale: float, zero_point: int, *, temperature: float | None = None, pixel_mm: Sequence[float] | None = None, labels: bool = False) -> tuple[Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None), order='C')], Annotated[NDArray[numpy.uint32], dict(shape=(None, None, None), order='C')] | None, list[Lesion], LesionRuns]: ...

    @overload
    def segment_quantised(self, logits: Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], scale: float, zero_point: int, *, temperature: float | None = None, pixel_mm: Sequence[float] | None = None, labels: bool = False) -> tuple[Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None), order='C')], Annotated[NDArray[numpy.uint32], dict(shape=(None, None, None), order='C')] | None, list[Lesion], LesionRuns]:
        """
        Segment a scan whose logits are integers: (integer - zero_point) x scale in float32.

        `logits` are int8 or uint8; all else is as for `segment_logits`.

        Returns:
            The mask, uint8; the lesion of every voxel, uint32, 1 for the first and 0 for none, or None; the lesions, the largest
            first, of equal ones that whose first voxel comes first; and their runs of voxels.
        """

    def segment_classes(self, logits: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None, None), order='C', device='cpu', writable=False)], *, pixel_mm: Sequence[float] | None = None, labels: bool = False) -> tuple[Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None), order='C')], Annotated[NDArray[numpy.uint32], dict(shape=(None, None, None), order='C')] | None, list[Lesion], LesionRuns]:
        """
        Segment a scan whose logits of several classes are given.

        Foreground is where another class than the first, the background, has the greatest logit; of equal ones the first class
        counts. `logits` are (slices, classes, rows, columns) float32; all else is as for `segment_logits`.

        Returns:
            The mask, uint8; the lesion of every voxel, uint32, 1 for the first and 0 for none, or None; the lesions, the largest
            first, of equal ones that whose first voxel comes first; and their runs of voxels.
        """

    def segment_mask(self, mask: Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], *, pixel_mm: Sequence[float] | None = None, labels: bool = False) -> tuple[Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None), order='C')], Annotated[NDArray[numpy.uint32], dict(shape=(None, None, None), order='C')] | None, list[Lesion], LesionRuns]:
        """
        Clean and measure a mask that is given, (slices, rows, columns) uint8; not 0 is foreground.

        All else is as for `segment_logits`.

        Returns:
            The mask, uint8; the lesion of every voxel, uint32, 1 for the first and 0 for none, or None; the lesions, the largest
            first, of equal ones that whose first voxel comes first; and their runs of voxels.
        """

    def begin(self, slices: int, scan_px: tuple[int, int], scaled_px: tuple[int, int], offset_px: tuple[int, int], grid_px: tuple[int, int], *, temperature: float | None = None, pixel_mm: Sequence[float] | None = None) -> None:
        """
        Begin a scan whose slices are added as the network gives them; of each, its cleaned runs alone are kept.

        After an error there is no scan until the next one is begun.

        Args:
            slices: how many it has.
            scan_px: (rows, columns) of its slices.
            scaled_px: their size on the network's grid.
            offset_px: their top left corner there.
            grid_px: size of the grid.
            temperature: what logits are divided by for confidence; None for none.
            pixel_mm: height and width of a pixel, for diameters; None for none.

        Raises:
            ValueError: an extent of the scan is 0 or above 65535, it has more than 2^32 voxels, its slices do not lie on the
                grid, or a number is not positive.
            TypeError: a number is negative.
        """

    @overload
    def add(self, output: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None, None), order='C', device='cpu', writable=False)]) -> None: ...

    @overload
    def add(self, output: Annotated[NDArray[numpy.float16], dict(shape=(None, None, None, None), order='C', device='cpu', writable=False)]) -> None: ...

    @overload
    def add(self, output: Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None), order='C', device='cpu', writable=False)]) -> None:
        """
        Add the next slices, which are read where they are and not kept.

        Args:
            output: logits (n, classes, grid rows, grid columns) float32 or float16, of one class or with the background's
                first; or a mask (n, grid rows, grid columns) uint8, not 0 for foreground. C-contiguous. Logits are resampled
                where slices have another size on the grid.

        Raises:
            ValueError: no scan is begun, there are more slices than begun, the grid has another size, a value is NaN, a mask
                would have to be resampled, or confidence is asked for of what is no logits of one class.
            TypeError: the array has another dtype, another number of axes, or is not C-contiguous.
        """

    def skip(self, slices: int) -> None:
        """
        Add slices of background.

        Raises:
            ValueError: no scan is begun, or there are more slices than begun.
            TypeError: the number is negative.
        """

    def provisional(self, slice: int) -> Annotated[NDArray[numpy.uint8], dict(shape=(None, None), order='C')]:
        """
        The mask of a slice that was added, (rows, columns) uint8: cleaned, no component of the scan removed.

        Raises:
            ValueError: no such slice was added.
            TypeError: the number is negative.
        """

    def finish(self, *, labels: bool = False) -> tuple[Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None), order='C')], Annotated[NDArray[numpy.uint32], dict(shape=(None, None, None), order='C')] | None, list[Lesion], LesionRuns]:
        """
        Find and measure the lesions of the scan whose slices were added.

        Args:
            labels: whether the lesion of every voxel is wanted.

        Raises:
            ValueError: no scan is begun, or slices are missing.

        Returns:
            The mask, uint8; the lesion of every voxel, uint32, 1 for the first and 0 for none, or None; the lesions, the largest
            first, of equal ones that whose first voxel comes first; and their runs of voxels.
        """

def resample_volume(source: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], map: Sequence[Sequence[float]], out: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None), order='C', device='cpu')], threads: int = 1) -> int:
    """
    Write what a volume holds at the voxel centres of another grid to `out`, by trilinear interpolation.

    Up to half a voxel beyond the outermost centres they stand for what is there; further out, and where a position is NaN,
    `out` becomes 0.

    Args:
        source: (slices, rows, columns) float32, C-contiguous, finite.
        map: 3 rows of 4: positions in the source, (slice, row, column), of (slice, row, column, 1) in `out`.
        out: (slices, rows, columns) float32, C-contiguous; written.
        threads: 1 to 1024.

    Returns:
        How many voxels of `out` lie in one of the source.

    Raises:
        ValueError: the source is empty, or there are not that many threads.
        TypeError: an array has another dtype, another number of axes, or is not C-contiguous, or `out` is read-only.
    """

def decode_lossless_jpeg(codestream: bytes, out: Annotated[NDArray[numpy.uint16], dict(shape=(None, None), order='C', device='cpu')]) -> None:
    """
    Write the samples of a grey image in lossless JPEG (ITU-T T.81, annex H) to `out`.

    Args:
        codestream: of any predictor and 2 to 16 bits.
        out: (rows, columns) uint16, C-contiguous, of the image's size; written, also where an error is raised.

    Raises:
        ValueError: it is not lossless JPEG, in colour, of another size, damaged or incomplete.
        TypeError: `out` has another dtype, another number of axes, is not C-contiguous or read-only.
    """

def cpu_features() -> list[str]:
    """
    Names, as /proc/cpuinfo spells them, of this CPU's instruction sets that matter to a network.

    Among avx2, avx512f, avx512_vnni, avx_vnni, avx512_bf16, amx_int8, amx_bf16 on x86-64, and asimdhp, asimddp, i8mm,
    bf16 on aarch64; empty on another architecture.
    """
