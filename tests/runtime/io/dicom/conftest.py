from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import pytest

from tumortrace.phantom.dicom import SEQUENCES, DicomForm, stored_affine, write_series
from tumortrace.phantom.dicom_headers import SeriesHeader, make_uid
from tumortrace_runtime.errors import InputError
from tumortrace_runtime.io import ChannelMapping, Scan, find_cases, read_case

Array = npt.NDArray[Any]
AXIAL = DicomForm()


class Study:
    """A study that tests write, change and read: series of small volumes, in folders below `root`."""

    shape = (6, 7, 8)
    spacing_mm = (3.0, 0.5, 0.75)

    def __init__(self, root: Path) -> None:
        self.root = root

    def voxels(self, shape: tuple[int, int, int] = shape) -> Array:
        """Voxels that all differ."""
        return np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)

    def write(
        self,
        channel: str = "flair",
        voxels: Array | None = None,
        *,
        number: int = 1,
        form: DicomForm = AXIAL,
        affine: Array | None = None,
    ) -> Path:
        """Write a series, numbered voxels unless others are given; its folder."""
        voxels = self.voxels() if voxels is None else voxels
        affine = stored_affine(voxels.shape, self.spacing_mm, form) if affine is None else affine
        header = SeriesHeader("case", ("study",), number, SEQUENCES[channel], make_uid("frame of reference"))
        folder = self.root / f"{number}-{channel}"
        write_series(folder, voxels, affine, header, form.enhanced)
        return folder

    def edit(self, change: Callable[[Any], object], *numbers: int, folder: Path | None = None) -> None:
        """Change files of a folder, those of these numbers from 0, or all; where `change` gives False, one goes."""
        paths = sorted(path for path in (folder or self.root).rglob("*") if path.is_file())
        for path in [paths[number] for number in numbers] or paths:
            image = pydicom.dcmread(path)
            if change(image) is False:
                path.unlink()
            else:
                image.save_as(path)

    def read(self, channels: Sequence[str] | None = None, conditions: Mapping[str, str] | None = None) -> Scan:
        """The study as a scan."""
        mapping = ChannelMapping(conditions) if conditions else None
        (files,) = find_cases(self.root, "dicom", mapping)
        return read_case(files, mapping, channels=channels, with_truth=False)

    def refusal(self, channels: Sequence[str] | None = None, conditions: Mapping[str, str] | None = None) -> str:
        """Why it is not read."""
        with pytest.raises(InputError) as caught:
            self.read(channels, conditions)
        return str(caught.value)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    (tmp_path / "study").mkdir()
    return Study(tmp_path / "study")
