"""The bundle: a folder that carries all that a device needs. Opened only when every hash and every field holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tumortrace_runtime.algorithm import LESION, Segment
from tumortrace_runtime.confidence import Confidence
from tumortrace_runtime.errors import BackendError, BundleError, SpecError
from tumortrace_runtime.files import is_text, parse_json, read_json, sha256_bytes, sha256_file
from tumortrace_runtime.postprocess import Postprocessing
from tumortrace_runtime.preprocess import IntegerInput, Preprocessing
from tumortrace_runtime.settings import from_dict
from tumortrace_runtime.signature import SIGNATURE, require_signature

FORMAT = "tumortrace-bundle"
VERSION = 1
MANIFEST = "manifest.json"
SEAL = "manifest.sha256"
CONFIDENCE = "confidence.json"

ARTEFACTS = {
    ("onnxruntime", "fp32"): "model.onnx",
    ("onnxruntime", "fp16"): "model.fp16.onnx",
    ("onnxruntime", "int8"): "onnxruntime/model.int8.onnx",
    ("onnxruntime", "int8-7bit"): "onnxruntime/model.int8-7bit.onnx",
    ("openvino", "fp32"): "model.onnx",
    ("openvino", "fp16"): "openvino/model.fp16.xml",
    ("openvino", "bf16"): "openvino/model.fp16.xml",
    ("openvino", "int8"): "openvino/model.int8.xml",
    ("openvino", "int8-7bit"): "openvino/model.int8-7bit.xml",
    ("tensorrt", "fp16"): "tensorrt/model.fp16.onnx",
    ("tensorrt", "int8"): "tensorrt/model.int8-fp16.onnx",
}
"""Which file of a bundle an engine runs for a precision; "int8-7bit" is INT8 with weights of 7 bits."""

NARROW_WEIGHTS = "-7bit"


def model_files(file: str) -> list[str]:
    """All files of the model `file`: OpenVINO keeps its weights beside the .xml."""
    return [file, f"{file.removesuffix('.xml')}.bin"] if file.endswith(".xml") else [file]


@dataclass(frozen=True)
class Bundle:
    """A bundle that was verified.

    Attributes:
        path: its folder.
        manifest: all that stands in `manifest.json`.
        sha256: of the manifest, and so of everything in the bundle.
        preprocessing: the input contract.
        postprocessing: what turns logits into a mask.
        confidence: how far its results can be trusted, where it says so.
        segments: what the classes 1, 2, … of its masks are.
    """

    path: Path
    manifest: Mapping[str, Any]
    sha256: str
    preprocessing: Preprocessing
    postprocessing: Postprocessing
    confidence: Confidence | None = None
    segments: tuple[Segment, ...] = (LESION,)

    @property
    def name(self) -> str:
        """What the bundle calls itself."""
        return str(self.manifest["name"])

    def artefact(self, backend: str, precision: str) -> Path:
        """The model file that `backend` runs at `precision`.

        Raises:
            BackendError: the bundle has none.
        """
        file = ARTEFACTS.get((backend, precision))
        if file is None or file not in self.manifest["files"]:
            raise BackendError(f"{self.path}: has nothing for {backend} at {precision}; it has {self._choices()}.")
        return self.path / file

    def integer_input(self, backend: str, precision: str) -> IntegerInput | None:
        """How the model that `backend` runs at `precision` takes its input as integers; None where it takes float32.

        Raises:
            BackendError: the bundle has no such model.
        """
        model = self.artefact(backend, precision).relative_to(self.path).as_posix()
        values = self.manifest["integer_inputs"].get(model)
        return None if values is None else from_dict(IntegerInput, values)

    def preferred(self, backend: str) -> str:
        """The precision to run on `backend` where none is asked for: the fastest at export among the accurate ones.

        Of TensorRT, which no export runs, INT8 if there is any, and else FP16.

        Raises:
            BackendError: the bundle was not exported for `backend`.
        """
        measured = self.manifest["measurements"]["preferred"]
        if backend in measured:
            return str(measured[backend])
        unmeasured = [precision for name, precision in self.choices() if name == backend == "tensorrt"]
        if not unmeasured:
            raise BackendError(
                f"{self.path}: was not exported for {backend}, only for {', '.join(measured)}; take one of these, or "
                "ask for a precision."
            )
        return "int8" if "int8" in unmeasured else unmeasured[0]

    def model_bytes(self, backend: str, precision: str) -> int:
        """The size on disk of the model that `backend` runs at `precision`.

        Raises:
            BackendError: the bundle has none.
        """
        model = self.artefact(backend, precision).relative_to(self.path).as_posix()
        return sum((self.path / file).stat().st_size for file in model_files(model))

    def choices(self) -> list[tuple[str, str]]:
        """Every (backend, precision) that the bundle has a model for."""
        return [choice for choice, file in ARTEFACTS.items() if file in self.manifest["files"]]

    def file_sha256(self, file: Path) -> str:
        """The recorded hash of one of the bundle's files."""
        return str(self.manifest["files"][file.relative_to(self.path).as_posix()]["sha256"])

    def _choices(self) -> str:
        return ", ".join(f"{backend} at {precision}" for backend, precision in self.choices())


def open_bundle(path: Path, *, public_key: Path | None = None) -> Bundle:
    """Verify a bundle and read its contracts.

    Args:
        path: its folder.
        public_key: PEM file of the Ed25519 key that must have signed it; None asks for no signature.

    Raises:
        BundleError: it is no bundle, is of another version, a file is missing, altered or not listed, a contract does
            not hold, or a signature was asked for and does not.
        InputError: the key cannot be used.
    """
    if not (path / MANIFEST).is_file():
        archive = f"; an archive becomes one by: tumortrace unpack {path} -o FOLDER" if path.is_file() else "."
        raise BundleError(f"{path}: is no bundle; a folder with {MANIFEST} wanted{archive}")
    try:
        content = (path / MANIFEST).read_bytes()
        sha256 = _check_seal(path, content)
        if public_key is not None:
            require_signature(path, content, public_key)
        manifest = _parse_manifest(path, content)
        _check_files(path, manifest["files"])
        preprocessing = from_dict(Preprocessing, manifest["input"]["preprocessing"])
        postprocessing = from_dict(Postprocessing, manifest["output"]["postprocessing"])
        _check_shape(path, manifest["input"]["shape"], preprocessing)
        for values in manifest["integer_inputs"].values():
            from_dict(IntegerInput, values)
        confidence = _read_confidence(path, manifest)
        segments = _parse_segments(path, manifest["output"])
        dict(manifest["measurements"]["preferred"])
        str(manifest["name"])
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as problem:
        told = f"a field is missing or of the wrong kind ({problem}); export anew."
        raise BundleError(f"{path / MANIFEST}: {told}") from problem
    except SpecError as problem:
        raise BundleError(f"{path / MANIFEST}: {problem}") from problem
    except OSError as problem:
        raise BundleError(f"{problem.filename}: cannot be read ({problem.strerror}).") from problem
    return Bundle(path, manifest, sha256, preprocessing, postprocessing, confidence, segments)


def seal_of(sha256: str) -> bytes:
    """What stands in the seal of a manifest with this hash: a line as `sha256sum` writes it."""
    return f"{sha256}  {MANIFEST}\n".encode()


def _check_shape(path: Path, shape: list[Any], preprocessing: Preprocessing) -> None:
    wanted = ["batch", preprocessing.in_channels, *preprocessing.grid_px]
    if shape != wanted:
        raise BundleError(f"{path / MANIFEST}: the network takes {shape}, but its preprocessing gives {wanted}.")


def _parse_segments(path: Path, output: Mapping[str, Any]) -> tuple[Segment, ...]:
    """What the classes are; `LESION` in bundles from before they said so."""
    if "segments" not in output:
        return (LESION,)
    segments = tuple(from_dict(Segment, values) for values in output["segments"])
    if len(segments) != len(output["classes"]) - 1:
        told = f"describes {len(segments)} segments, but has {len(output['classes'])} classes with the background"
        raise BundleError(f"{path / MANIFEST}: {told}; export anew.")
    return segments


def _read_confidence(path: Path, manifest: Mapping[str, Any]) -> Confidence | None:
    if CONFIDENCE not in manifest["files"]:
        return None
    try:
        confidence = from_dict(Confidence, read_json(path / CONFIDENCE, BundleError))
    except SpecError as problem:
        raise BundleError(f"{path / CONFIDENCE}: {problem}") from problem
    given = 2 * manifest["model"]["widths"][-1] if manifest["output"]["statistics"] else 0
    if confidence.ood is not None and confidence.ood.statistics != given:
        told = f"judges scans by {confidence.ood.statistics} statistics, but the models give {given}; export anew."
        raise BundleError(f"{path / CONFIDENCE}: {told}")
    return confidence


def _check_seal(path: Path, content: bytes) -> str:
    """The hash of the manifest's `content`, as it stands in the seal beside it."""
    found = sha256_bytes(content)
    if not (path / SEAL).is_file():
        raise BundleError(f"{path / SEAL}: is missing; without it the manifest cannot be trusted.")
    if (path / SEAL).read_bytes() != seal_of(found):
        raise BundleError(
            f"{path / MANIFEST}: its SHA-256 is {found[:12]}…, {SEAL} says otherwise: one of the two was altered."
        )
    return found


def _parse_manifest(path: Path, content: bytes) -> dict[str, Any]:
    manifest = parse_json(content, path / MANIFEST, BundleError)
    if not isinstance(manifest, dict) or (manifest.get("format"), manifest.get("version")) != (FORMAT, VERSION):
        found = (manifest.get("format"), manifest.get("version")) if isinstance(manifest, dict) else "no object"
        raise BundleError(f"{path / MANIFEST}: holds {found}; {FORMAT!r} version {VERSION} wanted.")
    return manifest


def _check_files(path: Path, listed: Mapping[str, Mapping[str, Any]]) -> None:
    present = {file.relative_to(path).as_posix() for file in path.rglob("*") if not file.is_dir()}
    if unlisted := sorted(present - set(listed) - {MANIFEST, SEAL, SIGNATURE}):
        raise BundleError(f"{path / unlisted[0]}: is not listed in the manifest; remove it, or export anew.")
    for name, entry in listed.items():
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise BundleError(f"{path / MANIFEST}: lists {name!r}, which lies outside the bundle.")
        if not is_text(name):
            raise BundleError(f"{path / MANIFEST}: lists {name!r}; a file name without control characters wanted.")
        if name not in present:
            raise BundleError(f"{path / name}: is missing.")
        if (path / name).exists() and not (path / name).is_file():  # a pipe or a device, which may have no end
            raise BundleError(f"{path / name}: is no file; put the file in its place.")
        if (found := sha256_file(path / name)) != entry["sha256"]:
            wanted = entry["sha256"]
            raise BundleError(f"{path / name}: was altered: its SHA-256 is {found[:12]}…, {wanted[:12]}… wanted.")
