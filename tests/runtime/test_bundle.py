"""A bundle is opened whole and unaltered, or refused with the file and the reason."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tumortrace_runtime.algorithm import LESION
from tumortrace_runtime.bundle import CONFIDENCE, MANIFEST, SEAL, open_bundle
from tumortrace_runtime.confidence import Confidence, Distance, OodReference
from tumortrace_runtime.errors import BackendError, BundleError
from tumortrace_runtime.files import sha256_file
from tumortrace_runtime.settings import to_dict

Edit = Callable[[dict[str, Any]], object]


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle that a test may change."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "tiny.bundle"))


@pytest.fixture(scope="module")
def damaged(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One copy for many tests that put back what they change."""
    copy = Path(shutil.copytree(tiny_bundle, tmp_path_factory.mktemp("damaged") / "tiny.bundle"))
    yield copy
    open_bundle(copy)


def edit(bundle: Path, change: Edit) -> Path:
    """Change the manifest and seal it anew, as an exporter with a defect would."""
    manifest = json.loads((bundle / MANIFEST).read_bytes())
    change(manifest)
    return seal(bundle, json.dumps(manifest).encode())


def seal(bundle: Path, manifest: bytes) -> Path:
    (bundle / MANIFEST).write_bytes(manifest)
    (bundle / SEAL).write_text(f"{sha256_file(bundle / MANIFEST)}  {MANIFEST}\n")
    return bundle


def files(bundle: Path) -> list[Path]:
    return sorted(path for path in bundle.rglob("*") if path.is_file())


def with_byte_flipped(path: Path, position: int) -> bytes:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    return bytes(content)


def test_a_whole_bundle_is_opened(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)

    assert (bundle.path, bundle.name) == (tiny_bundle, "tiny")
    assert bundle.sha256 == sha256_file(tiny_bundle / MANIFEST)
    assert bundle.preprocessing.channels == ("t1", "flair", "t1ce")
    assert bundle.preprocessing.grid_px == (64, 64)
    assert bundle.postprocessing.threshold == 0.5
    assert bundle.manifest["files"].keys() == {
        path.relative_to(tiny_bundle).as_posix() for path in files(tiny_bundle)
    } - {MANIFEST, SEAL}


def confide(bundle: Path, content: bytes) -> Path:
    """Put a `confidence.json` into a bundle, listed as an exporter lists it."""
    (bundle / CONFIDENCE).write_bytes(content)
    entry = {"sha256": sha256_file(bundle / CONFIDENCE), "size_bytes": len(content)}
    return edit(bundle, lambda manifest: manifest["files"].update({CONFIDENCE: entry}))


def test_confidence_is_read_where_there_is_some(tiny_bundle: Path, bundle: Path) -> None:
    assert open_bundle(tiny_bundle).confidence is None
    confide(bundle, json.dumps({"temperature": 2.5}).encode())
    assert open_bundle(bundle).confidence == Confidence(2.5)


def test_confidence_that_does_not_hold_is_refused(bundle: Path) -> None:
    confide(bundle, b'{"temperature": -1}')
    with pytest.raises(BundleError, match=r"confidence\.json: confidence\.temperature is -1\.0"):
        open_bundle(bundle)
    distance = Distance((0.0,), (1.0,), (), (), 1.0, 1.0, 0.0)
    confide(bundle, json.dumps(to_dict(Confidence(1.0, OodReference({}, distance, {}, 1.0)))).encode())
    with pytest.raises(BundleError, match=r"confidence\.json: judges scans by 1 statistics, but the models give 0"):
        open_bundle(bundle)


def test_every_model_is_found_by_engine_and_precision(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)

    assert {("onnxruntime", "int8"), ("openvino", "int8"), ("openvino", "bf16")} <= set(bundle.choices())
    for backend, precision in bundle.choices():
        model = bundle.artefact(backend, precision)
        parts = [model, model.with_suffix(".bin")] if model.suffix == ".xml" else [model]
        assert bundle.model_bytes(backend, precision) == sum(part.stat().st_size for part in parts)
        assert bundle.file_sha256(model) == sha256_file(model)


@pytest.mark.parametrize(
    ("backend", "precision"), [("onnxruntime", "bf16"), ("openvino", "int4"), ("tensorrt", "fp32")]
)
def test_a_model_that_is_not_in_the_bundle_is_refused_with_those_that_are(
    backend: str, precision: str, tiny_bundle: Path
) -> None:
    told = rf"nothing for {backend} at {precision}; it has .*onnxruntime at int8.*openvino at int8"
    with pytest.raises(BackendError, match=told):
        open_bundle(tiny_bundle).artefact(backend, precision)


def test_one_flipped_byte_in_any_file_is_found_and_the_file_named(damaged: Path) -> None:
    for path in files(damaged):
        whole = path.read_bytes()
        for position in (0, len(whole) // 2, -1):
            path.write_bytes(with_byte_flipped(path, position))
            with pytest.raises(BundleError) as caught:
                open_bundle(damaged)
            assert str(path.relative_to(damaged)) in str(caught.value), path
        path.write_bytes(whole)


def test_any_flipped_byte_of_the_seal_is_found(damaged: Path) -> None:
    whole = (damaged / SEAL).read_bytes()
    for position in range(len(whole)):
        (damaged / SEAL).write_bytes(with_byte_flipped(damaged / SEAL, position))
        with pytest.raises(BundleError, match=r"manifest\.sha256 says otherwise"):
            open_bundle(damaged)
    (damaged / SEAL).write_bytes(whole)


@pytest.mark.parametrize("change", [lambda content: content[:-1], lambda content: content + b"\n", lambda _: b""])
def test_a_file_cut_or_grown_is_found(change: Callable[[bytes], bytes], damaged: Path) -> None:
    for path in files(damaged):
        whole = path.read_bytes()
        path.write_bytes(change(whole))
        with pytest.raises(BundleError) as caught:
            open_bundle(damaged)
        assert str(path.relative_to(damaged)) in str(caught.value), path
        path.write_bytes(whole)


def test_a_missing_file_is_named(damaged: Path) -> None:
    for path in files(damaged):
        whole = path.read_bytes()
        path.unlink()
        with pytest.raises(BundleError, match=r"is missing|is no bundle") as caught:
            open_bundle(damaged)
        assert str(path.relative_to(damaged)) in str(caught.value), path
        path.write_bytes(whole)


@pytest.mark.parametrize("name", ["notes.txt", "openvino/model.int4.bin", ".hidden", "golden/more/phantom.npz"])
def test_a_file_that_is_not_listed_is_refused(name: str, bundle: Path) -> None:
    (bundle / name).parent.mkdir(exist_ok=True)
    (bundle / name).write_bytes(b"")

    with pytest.raises(BundleError, match=rf"{name}: is not listed in the manifest"):
        open_bundle(bundle)


@pytest.mark.parametrize("place", ["absolute", "relative"])
def test_a_listed_path_outside_is_refused(place: str, bundle: Path) -> None:
    outside = bundle.parent / "outside.onnx"
    outside.write_bytes(b"model")
    name = str(outside) if place == "absolute" else "openvino/../../outside.onnx"
    entry = {"sha256": sha256_file(outside), "size_bytes": 5}
    edit(bundle, lambda manifest: manifest["files"].update({name: entry}))

    with pytest.raises(BundleError, match=r"outside\.onnx', which lies outside the bundle"):
        open_bundle(bundle)


def test_a_link_to_nowhere_is_named(bundle: Path) -> None:
    (bundle / "model.onnx").unlink()
    (bundle / "model.onnx").symlink_to(bundle / "gone.onnx")

    with pytest.raises(BundleError, match=r"model\.onnx: cannot be read"):
        open_bundle(bundle)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"version": 2}, r"\('tumortrace-bundle', 2\)"),
        ({"version": "1"}, r"\('tumortrace-bundle', '1'\)"),
        ({"format": "tumortrace-checkpoint"}, r"\('tumortrace-checkpoint', 1\)"),
    ],
)
def test_another_format_or_version_is_refused(change: dict[str, Any], found: str, bundle: Path) -> None:
    edit(bundle, lambda manifest: manifest.update(change))

    with pytest.raises(BundleError, match=rf"holds {found}; 'tumortrace-bundle' version 1 wanted"):
        open_bundle(bundle)


@pytest.mark.parametrize("manifest", [b"[]", b"null", b"{", b"\xff"])
def test_a_manifest_that_is_no_object_is_refused(manifest: bytes, bundle: Path) -> None:
    with pytest.raises(BundleError, match=r"manifest\.json: (holds no object|is not JSON)"):
        open_bundle(seal(bundle, manifest))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda manifest: manifest.pop("format"), "None"),
        (lambda manifest: manifest.pop("version"), "None"),
        (lambda manifest: manifest.pop("name"), "'name'"),
        (lambda manifest: manifest.pop("files"), "'files'"),
        (lambda manifest: manifest.pop("input"), "'input'"),
        (lambda manifest: manifest["input"].pop("preprocessing"), "'preprocessing'"),
        (lambda manifest: manifest["input"]["preprocessing"].pop("channels"), "channels is missing"),
        (lambda manifest: manifest["input"].pop("shape"), "'shape'"),
        (lambda manifest: manifest["input"]["shape"].append(1), "the network takes"),
        (lambda manifest: manifest["input"]["preprocessing"].update(context=2), "its preprocessing gives"),
        (lambda manifest: manifest.pop("output"), "'output'"),
        (lambda manifest: manifest["output"].pop("postprocessing"), "'postprocessing'"),
        (lambda manifest: manifest["files"]["model.onnx"].pop("sha256"), "'sha256'"),
        (lambda manifest: manifest.update(files=[]), "is not listed"),
        (lambda manifest: manifest.update(files="model.onnx"), "is not listed"),
        (lambda manifest: manifest["files"].update({"model.onnx": None}), "wrong kind"),
        (lambda manifest: manifest["files"]["model.onnx"].update(sha256=7), "wrong kind"),
        (lambda manifest: manifest.update(input=None), "wrong kind"),
        (lambda manifest: manifest["input"].update(preprocessing=[]), "an object wanted"),
        (lambda manifest: manifest["input"]["preprocessing"].update(fit="crop"), "fit is 'crop'"),
        (lambda manifest: manifest["input"]["preprocessing"].update(zoom=1), "unknown setting zoom"),
        (lambda manifest: manifest["output"]["postprocessing"].update(threshold=2), "threshold is 2"),
        (lambda manifest: manifest["output"].update(segments=[]), "0 segments, but has 2 classes"),
        (lambda manifest: manifest["output"].update(segments=None), "wrong kind"),
        (lambda manifest: manifest["output"]["segments"][0].pop("type"), "type is missing"),
        (lambda manifest: manifest["output"]["segments"][0].update(label="a\\b"), "without a backslash wanted"),
        (lambda manifest: manifest["output"]["segments"][0].update(label=" "), "1 to 64 printable"),
        (lambda manifest: manifest["output"]["segments"][0]["type"].update(value="1" * 17), "1 to 16 printable"),
    ],
)
def test_a_missing_field_or_one_of_another_kind_is_told(change: Edit, told: str, bundle: Path) -> None:
    with pytest.raises(BundleError, match=told):
        open_bundle(edit(bundle, change))


def test_a_bundle_says_what_it_segments_or_else_lesions(bundle: Path) -> None:
    tumour = {
        "label": "Tumour",
        "category": {"value": "49755003", "scheme": "SCT", "meaning": "Morphologically Abnormal Structure"},
        "type": {"value": "108369006", "scheme": "SCT", "meaning": "Neoplasm"},
    }
    assert open_bundle(edit(bundle, lambda manifest: manifest["output"].pop("segments"))).segments == (LESION,)
    (segment,) = open_bundle(edit(bundle, lambda manifest: manifest["output"].update(segments=[tumour]))).segments
    assert to_dict(segment) == tumour


def test_a_place_without_a_bundle_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path, tmp_path / "none", tmp_path / "file"):
        with pytest.raises(BundleError, match=r"is no bundle; a folder with manifest\.json wanted"):
            open_bundle(path)


def test_a_bundle_may_be_moved_and_read_only(bundle: Path) -> None:
    moved = bundle.rename(bundle.with_name("Großer Name mit Leerzeichen"))
    for path in (moved, *moved.rglob("*")):
        path.chmod(0o555)
    try:
        assert open_bundle(moved).name == "tiny"
    finally:
        for folder, _, _ in os.walk(moved):
            Path(folder).chmod(0o755)
