"""What every reader gives and every writer takes: a scan as arrays, and where its files are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.algorithm import Algorithm
from tumortrace_runtime.errors import ScanError

CHANNELS = ("t1", "flair", "t1ce", "t2")
"""The sequences that have a fixed name, in the order in which readers give them."""

WHOLE_TUMOUR: Mapping[int, int] = {0: 0, 1: 1, 2: 1, 3: 1, 4: 1}
"""BraTS label values (necrosis 1, oedema 2, non-enhancing 3, enhancing 4) as one class: any tumour."""

MAX_VOXELS = 1 << 28
"""A volume of more voxels is refused before it is decoded."""

_SMALLEST_MM, _LARGEST_MM = 0.01, 100.0


@dataclass(frozen=True)
class CaseFiles:
    """The files of one case, found but not yet opened.

    Attributes:
        case_id: name of the case, unique in its data set.
        patient_id: whom it shows; cases of one patient never stand on two sides of a split.
        site: the institution's code, or "" where the layout does not tell.
        layout: the name of the layout in `tumortrace_runtime.io`.
        folder: the case's folder.
        images: image files, in slice order or by channel, as the layout reads them.
        truth: mask files; empty where the case has none.
    """

    case_id: str
    patient_id: str
    site: str
    layout: str
    folder: Path
    images: tuple[Path, ...]
    truth: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Geometry:
    """Where a scan's voxels are; readers of formats with more to keep extend it.

    Attributes:
        spacing_mm: distance between (slices, rows, columns), or None where the format does not tell.
    """

    spacing_mm: tuple[float, float, float] | None = None

    @property
    def affine_lps(self) -> npt.NDArray[np.float64] | None:
        """(4, 4) float64, indices (slice, row, column) to millimetres left, posterior, superior; None where unknown."""
        return None


@dataclass(frozen=True)
class ChannelOrigin:
    """Where a channel came from, told by layouts whose files do not name their sequence.

    Attributes:
        channel: its name.
        series: what it was read from, without words that may name a patient.
        reasons: why that was chosen.
        resampled: how it came onto the scan's grid; None where its voxels are as they were stored.
        covered: share of the scan's grid that it covers, 0 to 1; beyond it the channel is 0.
        doubt: what speaks against its being whole; "" where nothing does.
        header_says: what else its header speaks for, where the caller named it for this channel; "" where nothing else.
    """

    channel: str
    series: str
    reasons: tuple[str, ...]
    resampled: str | None = None
    covered: float = 1.0
    doubt: str = ""
    header_says: str = ""


@dataclass(frozen=True)
class Scan:
    """One scan in memory.

    Attributes:
        files: where it was read from.
        channels: names of the sequences, in the order of the last axis of `voxels`: t1, flair, t1ce, t2.
        voxels: (slices, rows, columns, channels), in the dtype that was stored. Slices run from inferior to
            superior, rows from anterior to posterior, columns from the patient's right to left, wherever the format
            tells how the patient lies.
        geometry: spacing, and what a writer needs to put a mask back in place.
        replaced: channels that hold a copy of another sequence in place of a missing one.
        truth: (slices, rows, columns) uint8 classes on the grid of `voxels`, or None.
        origins: for each channel where it came from, where the layout had to find that out; else empty.
    """

    files: CaseFiles
    channels: tuple[str, ...]
    voxels: npt.NDArray[np.generic]
    geometry: Geometry
    replaced: tuple[str, ...] = ()
    truth: npt.NDArray[np.uint8] | None = None
    origins: tuple[ChannelOrigin, ...] = ()

    @property
    def case_id(self) -> str:
        """Name of the case, unique in its data set."""
        return self.files.case_id

    def select(self, names: tuple[str, ...]) -> npt.NDArray[np.generic]:
        """The named channels as (slices, rows, columns, len(names)).

        Raises:
            ScanError: a channel is not in the scan.
        """
        check_channels(self.files, self.channels, names)
        if names == self.channels:
            return self.voxels
        return self.voxels[..., [self.channels.index(name) for name in names]]


@dataclass(frozen=True)
class ChannelMapping:
    """Where in a case which sequence is, and which label values mean which class.

    Attributes:
        channels: channel name to file pattern (`*`, `?`) inside the case folder, {"flair": "*_flair.nii.gz"}; in the
            dicom layout to a condition on the series' header, {"flair": "SeriesDescription~FLAIR"}.
        truth: file pattern of the label map, or "" for none.
        labels: stored label value to class, 0 to 255; a value that is not here is refused.
    """

    channels: Mapping[str, str]
    truth: str = ""
    labels: Mapping[int, int] = field(default_factory=lambda: dict(WHOLE_TUMOUR))


def check_channels(files: CaseFiles, there: Sequence[str], wanted: Sequence[str]) -> None:
    """Refuse a case that lacks a wanted channel.

    Raises:
        ScanError: it does.
    """
    if missing := [name for name in wanted if name not in there]:
        raise ScanError(f"{files.folder}: has channels {', '.join(there)}; {', '.join(missing)} wanted too.")


def check_sides(sides_mm: Sequence[float], name: str) -> None:
    """Refuse voxels of absurd sides.

    Args:
        sides_mm: in millimetres, along each axis.
        name: what to call the volume in the error.

    Raises:
        ScanError: one is below 0.01 mm, above 100 mm, or no number.
    """
    if not all(_SMALLEST_MM <= side <= _LARGEST_MM for side in sides_mm):
        sides = " x ".join(f"{side:.4g}" for side in sides_mm)
        raise ScanError(f"{name}: has voxels of {sides} mm; {_SMALLEST_MM:g} to {_LARGEST_MM:g} mm a side are wanted.")


def check_mask(scan: Scan, mask: npt.NDArray[np.uint8]) -> None:
    """Refuse a mask that is not uint8 on the scan's grid.

    Raises:
        ScanError: another dtype or shape.
    """
    wanted = scan.voxels.shape[:3]
    if mask.shape != wanted or mask.dtype != np.uint8:
        raise ScanError(f"{scan.case_id}: a mask of {mask.shape} {mask.dtype} was given; {wanted} uint8 is wanted.")


class Layout(Protocol):
    """What the module of a layout offers. `tumortrace_runtime.io` holds the table of them."""

    WANTED: str
    """The files that make a folder a case, as an error names them."""

    def find(self, root: Path, mapping: ChannelMapping | None) -> list[CaseFiles]:
        """The cases in `root` (a case folder or a folder of them), sorted by name; empty where there are none."""
        ...

    def read(
        self, files: CaseFiles, mapping: ChannelMapping | None, *, channels: Sequence[str] | None, with_truth: bool
    ) -> Scan:
        """Read and validate one case; of channels, at least the wanted ones.

        Raises:
            ScanError: a file is missing, unreadable, of another size, holds NaN, or its label values are unmapped.
        """
        ...

    def write_case(self, scan: Scan, root: Path) -> Path:
        """Write a whole case (voxels, and truth where there is one) as a folder `root`/`scan.case_id`; its path.

        Raises:
            OutputError: the folder exists, or could not be written; nothing is left behind.
        """
        ...

    def prepare_writing(self) -> None:
        """Load what `write_mask` and `write_overlay` take.

        Raises:
            InputError: a library is not installed.
        """
        ...

    def write_mask(
        self, scan: Scan, mask: npt.NDArray[np.uint8], folder: Path, algorithm: Algorithm | None
    ) -> list[Path]:
        """Write `mask`, (slices, rows, columns) classes on the scan's grid, in the scan's own geometry and format.

        Raises:
            OutputError: nothing could be written; nothing is left behind.
        """
        ...

    def write_overlay(
        self, scan: Scan, picture: npt.NDArray[np.uint8], folder: Path, algorithm: Algorithm | None
    ) -> list[Path]:
        """Write a picture, (rows, columns, 3) RGB, as `overlay.png`, and in the scan's own format where it has one.

        Raises:
            OutputError: nothing could be written; nothing is left behind.
        """
        ...
