"""What is fuzzed: for each reader, files to begin with and a function that reads one file's bytes.

A reader may refuse a file with an `InputError` and with nothing else; what it accepts must hold what it promises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tumortrace_runtime.archive import unpack
from tumortrace_runtime.bundle import open_bundle
from tumortrace_runtime.errors import InputError
from tumortrace_runtime.files import canonical_json, sha256_bytes
from tumortrace_runtime.io import ChannelMapping, find_cases, load_mapping, read_case
from tumortrace_runtime.io.images import read_tiff
from tumortrace_runtime.io.volumes import read_volume

if __package__:
    from . import seeds
    from .mutations import mutated, mutated_json
else:
    import seeds
    from mutations import mutated, mutated_json

_GZIP = b"\x1f\x8b"
_ANY_SERIES = ChannelMapping({"flair": "Modality~."})


@dataclass(frozen=True)
class Target:
    """One reader.

    Attributes:
        seeds: good files by name.
        read: reads a file's bytes by way of an empty folder.
        mutate: damages a file's bytes, the same way for the same number.
    """

    seeds: Callable[[], seeds.Files]
    read: Callable[[bytes, Path], None]
    mutate: Callable[[bytes, int], bytes] = mutated

    def try_to_read(self, content: bytes, folder: Path) -> str:
        """Read a file's bytes; why they were refused, or "" where they were not."""
        try:
            self.read(content, folder)
        except InputError as problem:
            return str(problem) or type(problem).__name__
        return ""


def read_dicom(content: bytes, folder: Path) -> None:
    """A study of one file, or what a DICOMDIR leads to."""
    path = _written(folder / "image", content)
    for files in find_cases(path, "dicom"):
        scan = read_case(files, _ANY_SERIES, with_truth=False)
        assert scan.voxels.ndim == 4
        assert np.isfinite(scan.voxels).all()
        assert scan.geometry.spacing_mm is not None
        assert min(scan.geometry.spacing_mm) > 0


def read_nifti(content: bytes, folder: Path) -> None:
    """A volume, compressed where it begins as gzip does."""
    voxels, geometry = read_volume(_written(folder / ("a.nii.gz" if content[:2] == _GZIP else "a.nii"), content))
    assert voxels.ndim == 3
    assert np.isfinite(voxels).all()
    assert geometry.affine is not None
    assert np.isfinite(geometry.affine).all()
    assert geometry.spacing_mm is not None
    assert min(geometry.spacing_mm) > 0


def read_images(content: bytes, folder: Path) -> None:
    """A slice and a mask."""
    path = _written(folder / "a_1.tif", content)
    with suppress(InputError):
        assert read_tiff(path, ("RGB",)).shape[2] == 3
    assert read_tiff(path, ("L", "1")).dtype == np.uint8


def read_manifest(content: bytes, folder: Path) -> None:
    """A manifest whose seal holds."""
    canonical_json(dict(open_bundle(seeds.write_bundle(folder, content)).manifest))


def read_archive(content: bytes, folder: Path) -> None:
    """A packed bundle."""
    unpack(_written(folder / "a.tar", content), folder / "out")


class ReadCheckpoint:
    """A checkpoint whose description, or whose weights, are the bytes; the hash of the weights holds."""

    def __init__(self) -> None:
        self._good: seeds.Files = {}

    def __call__(self, content: bytes, folder: Path) -> None:
        """Read it, and make the network."""
        from tumortrace.checkpoint import CONFIG, WEIGHTS, load_checkpoint

        good = self._good = self._good or seeds.checkpoint()
        if content.lstrip()[:1] == b"{":
            files = {**good, CONFIG: content}
        else:
            sha256, other = (sha256_bytes(weights).encode() for weights in (good[WEIGHTS], content))
            files = {WEIGHTS: content, CONFIG: good[CONFIG].replace(sha256, other)}
        for name, data in files.items():
            _written(folder / name, data)
        load_checkpoint(folder).network()


def read_mapping(content: bytes, folder: Path) -> None:
    """A mapping of channels to files."""
    load_mapping(_written(folder / "mapping.json", content))


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


TARGETS: Mapping[str, Target] = {
    "dicom": Target(seeds.dicom, read_dicom),
    "nifti": Target(seeds.nifti, read_nifti),
    "tiff": Target(seeds.tiff, read_images),
    "manifest": Target(seeds.manifest, read_manifest, mutated_json),
    "archive": Target(seeds.archive, read_archive),
    "checkpoint": Target(seeds.checkpoint, ReadCheckpoint(), mutated_json),
    "mapping": Target(seeds.mapping, read_mapping, mutated_json),
}
