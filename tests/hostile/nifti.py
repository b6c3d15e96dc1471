"""Hostile NIfTI files."""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from tumortrace_runtime.io import find_cases, read_case

from ..fuzz import seeds
from .kinds import Harm, Kind, Subject, cut, folder, loop, pipe, replaced_by, rewritten

CHANNELS = ("t1", "flair", "t1ce")

_DAMAGED = "cannot be decoded as NIfTI"
_ELSEWHERE = "its affine does not say where the voxels are"
_SIDES = "0.01 to 100 mm a side are wanted"
_MISSING = "flair wanted too"
_MEMBER = gzip.compress(bytes(1 << 24), mtime=0)


def make(name: str, root: Path) -> Path:
    suffix = ".nii.gz" if name == "gzip" else ".nii"
    for channel in CHANNELS:
        (root / f"case_{channel}{suffix}").write_bytes(_good()[name])
    return root / f"case_flair{suffix}"


def read(root: Path) -> None:
    (files,) = find_cases(root, "nifti")
    read_case(files, channels=CHANNELS, with_truth=False)


def header(**fields: Any) -> Harm:
    """Sets fields of a NIfTI-1 header; those of arrays as dictionaries from place to value."""

    def change(content: bytes) -> bytes:
        raw = np.frombuffer(content[:348], nibabel.nifti1.header_dtype).copy()
        for name, value in fields.items():
            if isinstance(value, dict):
                for place, single in value.items():
                    raw[name][0, place] = single
            else:
                raw[name] = value
        return raw.tobytes() + content[348:]

    return rewritten(change)


def voxels(value: float) -> Harm:
    """Makes all voxels one float."""
    types = {"datatype": 16, "bitpix": 32}

    def change(path: Path) -> None:
        header(**types)(path)
        path.write_bytes(path.read_bytes()[:352] + np.full(60, value, np.float32).tobytes())

    return change


@cache
def _good() -> seeds.Files:
    return seeds.nifti()


def _starting_late(path: Path) -> None:
    rewritten(gzip.decompress)(path)
    header(vox_offset=4e9)(path)
    rewritten(lambda content: gzip.compress(content) + _MEMBER * 256)(path)


KINDS = {
    "nothing in it": Kind("plain", cut(0), _DAMAGED),
    "cut in the header": Kind("plain", cut(100), _DAMAGED),
    "cut behind the header": Kind("plain", cut(350), _DAMAGED),
    "cut in the voxels": Kind("plain", cut(-10), _DAMAGED),
    "NIfTI-2 cut in the header": Kind("nifti-2", cut(400), _DAMAGED),
    "gzip cut in the middle": Kind("gzip", cut(0.5), _DAMAGED),
    "gzip without its checksum": Kind("gzip", cut(-8), _DAMAGED),
    "gzip of something else": Kind("gzip", replaced_by(gzip.compress(b"not an image" * 60)), _DAMAGED),
    "text": Kind("plain", replaced_by(b"not an image\n" * 50), _DAMAGED),
    "a folder in its place": Kind("plain", folder, _MISSING, "folder"),
    "a link to itself": Kind("plain", loop, _MISSING, "folder"),
    "a pipe": Kind("plain", pipe, _MISSING, "folder"),
    "gzip that goes on for 4 GB": Kind("gzip", rewritten(lambda data: data + _MEMBER * 256), "behind its voxels"),
    "gzip with 4 GB before the voxels": Kind("gzip", _starting_late, "its voxels begin at byte 4000000000"),
    "voxels at the end of time": Kind("plain", header(vox_offset=1e30), "its voxels begin at byte 1000000"),
    "voxels in the header": Kind("plain", header(vox_offset=16), "its voxels begin at byte 16"),
    "27,000 billion voxels": Kind("plain", header(dim={1: 30000, 2: 30000, 3: 30000}), "voxels are read"),
    "more voxels than bytes": Kind("plain", header(dim={1: 500, 2: 500, 3: 500}), _DAMAGED),
    "a negative size": Kind("plain", header(dim={2: -4}), "one 3-D volume is wanted"),
    "a size of nothing": Kind("plain", header(dim={3: 0}), "one 3-D volume is wanted"),
    "no dimensions": Kind("plain", header(dim={0: 0}), "one 3-D volume is wanted"),
    "100 dimensions": Kind("plain", header(dim={0: 100}), "its voxels begin at byte 0"),
    "seven dimensions": Kind("plain", header(dim={0: 7, 4: 2, 5: 2, 6: 2, 7: 2}), "one 3-D volume is wanted"),
    "a type that is none": Kind("plain", header(datatype=77), _DAMAGED),
    "complex voxels": Kind("plain", header(datatype=32), "complex64 voxels"),
    "coloured voxels": Kind("plain", header(datatype=128), "voxels; integers or floats"),
    "voxels of 128 bits": Kind("plain", header(datatype=1536), "integers or floats of up to 64 bits"),
    "voxels that are no numbers": Kind("plain", voxels(np.nan), "60 voxels that are NaN or infinite"),
    "infinite voxels": Kind("plain", voxels(-np.inf), "60 voxels that are NaN or infinite"),
    "an infinite slope": Kind("plain", header(scl_slope=np.inf), _DAMAGED),
    "an intercept that is no number": Kind("plain", header(scl_slope=2, scl_inter=np.nan), _DAMAGED),
    "a slope beyond all floats": Kind("plain", header(scl_slope=3e38), "NaN or infinite"),
    "a singular affine": Kind("plain", header(srow_x=0), _ELSEWHERE),
    "an affine that is no number": Kind("plain", header(srow_y={1: np.nan}), _ELSEWHERE),
    "an affine a light second away": Kind("plain", header(srow_z={3: 3e11}), _ELSEWHERE),
    "axes aslant": Kind("plain", header(qform_code=0, srow_x={1: 0.4}), "its axes are not at right angles"),
    "voxels of a nanometre": Kind(
        "plain", header(qform_code=0, srow_x={0: 1e-6}, srow_y={1: 1e-6}, srow_z={2: 1e-6}), _SIDES
    ),
    "voxels of a kilometre": Kind(
        "plain", header(qform_code=0, srow_x={0: 2e5}, srow_y={1: 2e5}, srow_z={2: 2e5}), _SIDES
    ),
    "qform and sform that contradict": Kind("plain", header(qoffset_x=50), "put it in two places"),
    "qform mirrored against sform": Kind("plain", header(srow_x={0: 1, 3: 90}), "put it in two places"),
    "an sform_code that is none": Kind("plain", header(sform_code=77), "its sform_code is 77"),
    "a quaternion that is none": Kind("plain", header(sform_code=0, quatern_b=2), _DAMAGED),
    "negative sides": Kind("plain", header(sform_code=0, pixdim={2: -1.5}), "positive ones are wanted"),
    "a unit that is none": Kind("plain", header(xyzt_units=5), "unit code 5"),
    "half of a pair of files": Kind("plain", header(magic=b"ni1"), "not a single NIfTI file"),
    "another magic": Kind("plain", header(magic=b"\xff\xfe"), "not a single NIfTI file"),
    "a header that says it has 1 GB": Kind("plain", header(sizeof_hdr=1 << 30), _DAMAGED),
}

SUBJECT = Subject(make, read, KINDS)
