"""Good files, small and made by code, from which fuzzers and tables of hostile input begin."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
from PIL import Image
from pydicom.fileset import FileSet
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from tumortrace.phantom.dicom import SEQUENCES, DicomForm, stored_affine, write_series
from tumortrace.phantom.dicom_headers import SeriesHeader, make_uid
from tumortrace_runtime.archive import pack
from tumortrace_runtime.bundle import FORMAT, MANIFEST, SEAL, VERSION, seal_of
from tumortrace_runtime.files import canonical_json, sha256_bytes
from tumortrace_runtime.io import gz
from tumortrace_runtime.postprocess import Postprocessing
from tumortrace_runtime.preprocess import Preprocessing
from tumortrace_runtime.settings import to_dict

Files = dict[str, bytes]

SYNTAXES = {"rle": RLELossless, "jpeg-ls": JPEGLSLossless, "jpeg-2000": JPEG2000Lossless}
BUNDLE_FILES: Files = {"model.onnx": b"weights" * 10, "golden/phantom-1.npz": bytes(20)}


def dicom() -> Files:
    """A slice of FLAIR, plain and in every compression that something here writes; an enhanced image; a DICOMDIR."""
    files = {"classic": _dicom((1, 32, 40)), "enhanced": _dicom((3, 7, 8), enhanced=True)}
    image = pydicom.dcmread(io.BytesIO(files["classic"]))
    for name, syntax in SYNTAXES.items():
        if pydicom.pixels.get_encoder(syntax).is_available:
            copy = pydicom.dcmread(io.BytesIO(files["classic"]))
            copy.compress(syntax, generate_instance_uid=False)
            files[name] = _saved(copy)
    image.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return files | {"deflated": _saved(image), "directory": _directory(files["classic"])}


def nifti() -> Files:
    """A volume as NIfTI-1, as NIfTI-2, scaled, and compressed."""
    values = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    affine = np.array([[-1, 0, 0, 90], [0, -1.5, 0, 126], [0, 0, 3, -72], [0, 0, 0, 1.0]])
    image = nibabel.Nifti1Image(values, affine)
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    scaled = nibabel.Nifti1Image(values * 0.5 - 7, affine)
    scaled.set_data_dtype(np.uint8)
    files = {"plain": image.to_bytes(), "nifti-2": nibabel.Nifti2Image(values, affine).to_bytes()}
    return files | {"scaled": scaled.to_bytes(), "gzip": gz.compress(files["plain"])}


def tiff() -> Files:
    """A slice in colour, a mask, and both compressed."""
    pixels = np.random.default_rng(1).integers(0, 255, (12, 10, 3), dtype=np.uint8)
    mask = (pixels[..., 0] > 127) * np.uint8(255)
    kinds = {
        "slice": (pixels, None),
        "mask": (mask, None),
        "lzw": (pixels, "tiff_lzw"),
        "deflate": (mask, "tiff_deflate"),
    }
    files = {}
    for name, (values, compression) in kinds.items():
        stream = io.BytesIO()
        Image.fromarray(values).save(stream, "TIFF", compression=compression)
        files[name] = stream.getvalue()
    return files


def manifest() -> Files:
    """The manifest of a bundle of `BUNDLE_FILES`."""
    preprocessing = Preprocessing(channels=("t1", "flair", "t1ce"), grid_px=(64, 64))
    values: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "name": "small",
        "files": {name: {"sha256": sha256_bytes(data), "size_bytes": len(data)} for name, data in BUNDLE_FILES.items()},
        "input": {"preprocessing": to_dict(preprocessing), "shape": ["batch", 9, 64, 64]},
        "output": {"postprocessing": to_dict(Postprocessing()), "statistics": False},
        "integer_inputs": {},
        "measurements": {"preferred": {"onnxruntime": "fp32"}},
        "model": {"widths": [32, 64]},
    }
    return {"manifest": canonical_json(values)}


def write_bundle(folder: Path, content: bytes) -> Path:
    """Make the folder of a bundle with this manifest, sealed; its path."""
    for name, data in BUNDLE_FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / MANIFEST).write_bytes(content)
    (folder / SEAL).write_bytes(seal_of(sha256_bytes(content)))
    return folder


def archive() -> Files:
    """A packed bundle."""
    with _temporary() as folder:
        pack(write_bundle(folder / "small.bundle", manifest()["manifest"]), folder / "small.tar")
        return {"archive": (folder / "small.tar").read_bytes()}


def checkpoint() -> Files:
    """The two files of an untrained checkpoint, by name."""
    import torch

    from tumortrace.checkpoint import Checkpoint, save_checkpoint
    from tumortrace.model import ModelConfig, build_model

    torch.manual_seed(0)
    model = ModelConfig("compact", in_channels=1, classes=1, widths=(16, 16), stem=1)
    preprocessing = Preprocessing(channels=("flair",), context=0, grid_px=(32, 32))
    made = Checkpoint(model, preprocessing, Postprocessing(), {"epoch": 1}, build_model(model).state_dict())
    with _temporary() as folder:
        save_checkpoint(folder / "checkpoint", made)
        return {path.name: path.read_bytes() for path in (folder / "checkpoint").iterdir()}


def mapping() -> Files:
    """A mapping of channels to files."""
    values = {"channels": {"flair": "*_flair.nii.gz"}, "truth": "*_seg.nii.gz", "labels": {"0": 0, "4": 1}}
    return {"mapping": json.dumps(values).encode()}


def _dicom(shape: tuple[int, int, int], *, enhanced: bool = False) -> bytes:
    voxels = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape) % 4096
    affine = stored_affine(shape, (3.0, 0.5, 0.75), DicomForm(enhanced))
    header = SeriesHeader("case", ("study",), 1, SEQUENCES["flair"], make_uid("frame of reference"))
    with _temporary() as folder:
        write_series(folder / "series", voxels, affine, header, enhanced)
        return (folder / "series" / "0001.dcm").read_bytes()


def _directory(image: bytes) -> bytes:
    with _temporary() as folder:
        (folder / "image").write_bytes(image)
        medium = FileSet()
        medium.add(folder / "image")
        medium.write(folder / "medium")
        return (folder / "medium" / "DICOMDIR").read_bytes()


def _saved(image: Any) -> bytes:
    stream = io.BytesIO()
    image.save_as(stream)
    return stream.getvalue()


@contextlib.contextmanager
def _temporary() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
