"""Our files and others' programs: dicom3tools' checker, DCMTK both ways, and Orthanc, which is to give them back."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from tumortrace.phantom import DicomForm
from tumortrace_runtime.io import Scan, write_mask, write_overlay

from .truth import ALGORITHM, name_patient


def program(name: str, package: str) -> str:
    """The path of a program, or a skip that says which package has it."""
    if (path := shutil.which(name)) is None:
        pytest.skip(f"{name} is not installed: apt-get install {package}")
    return path


@pytest.fixture(params=[False, True], ids=["classic", "enhanced"])
def scan(request: pytest.FixtureRequest, study: Any) -> Scan:
    form = DicomForm(enhanced=request.param, axes="LIP", tilt_degrees=(12, -7, 30))
    study.write("flair", number=1 + 2 * request.param, form=form)
    study.write("t1", number=2 + 2 * request.param, form=form)
    study.edit(name_patient)
    read: Scan = study.read()
    return read


@pytest.fixture
def written(scan: Scan, tmp_path: Path) -> list[Path]:
    """A segmentation with a lesion, one without, and a secondary capture."""
    empty = np.zeros(scan.voxels.shape[:3], np.uint8)
    full = empty.copy()
    full[1:3, 2:6, 3:5] = 1
    picture = np.random.default_rng(3).integers(0, 255, (300, 500, 3), np.uint8)
    return [
        write_mask(scan, full, tmp_path / "full", ALGORITHM)[0],
        write_mask(scan, empty, tmp_path / "empty", ALGORITHM)[0],
        write_overlay(scan, picture, tmp_path / "overlay", ALGORITHM)[1],
    ]


def test_dciodvfy_finds_no_error(written: list[Path]) -> None:
    checker = program("dciodvfy", "dicom3tools")
    for path, kind in zip(written, ("Segmentation", "Segmentation", "SCImage"), strict=True):
        done = subprocess.run([checker, "-new", path], capture_output=True, check=False)
        said = (done.stdout + done.stderr).decode("utf-8", "replace").splitlines()
        assert kind in said  # it knows what it looks at
        assert [line for line in said if not line.startswith("Warning") and line != kind] == []


def test_dcmtk_reads_every_file_and_draws_the_same_picture(written: list[Path], tmp_path: Path) -> None:
    dump, draw = program("dcmdump", "dcmtk"), program("dcm2pnm", "dcmtk")
    for path in written:
        done = subprocess.run([dump, path], capture_output=True, check=True)
        assert b"E: " not in done.stderr
    subprocess.run([draw, "+op", written[-1], tmp_path / "drawn.ppm"], check=True)
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "drawn.ppm")), dcmread(written[-1]).pixel_array)


@pytest.mark.parametrize("predictor", range(1, 8))
def test_lossless_jpeg_that_dcmtk_writes_is_read(predictor: int, study: Any) -> None:
    """The process is that of ITU-T T.81, H.1.2.1, its first predictor or any."""
    form = ["+e1"] if predictor == 1 else ["+el", "+sv", str(predictor)]
    check_compressed(program("dcmcjpeg", "dcmtk"), form, study)


def test_jpeg_ls_that_dcmtk_writes_is_read(study: Any) -> None:
    check_compressed(program("dcmcjpls", "dcmtk"), ["+el"], study)


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an Orthanc of our own, which keeps all that it has in a temporary folder."""
    server = program("Orthanc", "orthanc")
    folder = tmp_path_factory.mktemp("orthanc")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": port,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [],
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log").open("wb") as log:
        running = subprocess.Popen([server, folder / "orthanc.json"], stdout=log, stderr=log, cwd=folder)
        try:
            _wait(running, f"http://127.0.0.1:{port}", folder / "log")
            yield f"http://127.0.0.1:{port}"
        finally:
            running.terminate()
            running.wait(30)


def _wait(running: subprocess.Popen[bytes], address: str, log: Path) -> None:
    for _ in range(300):
        assert running.poll() is None, log.read_text()
        try:
            call(f"{address}/system")
        except OSError:
            time.sleep(0.1)
        else:
            return
    pytest.fail(f"Orthanc does not answer:\n{log.read_text()}")


def call(url: str, data: bytes | None = None) -> bytes:
    """What a server on this machine answers."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(urllib.request.Request(url, data), timeout=30) as answer:
        return bytes(answer.read())


def test_orthanc_keeps_source_and_results_together_gives_them_back_and_knows_a_repeat(
    orthanc: str, scan: Scan, written: list[Path]
) -> None:
    studies = set()
    for path in (*scan.files.images, *written):
        content = path.read_bytes()
        told = json.loads(call(f"{orthanc}/instances", content))
        assert told["Status"] == "Success", path.name
        assert call(f"{orthanc}/instances/{told['ID']}/file") == content
        studies.add(told["ParentStudy"])
    assert len(studies) == 1
    for path in written:
        assert json.loads(call(f"{orthanc}/instances", path.read_bytes()))["Status"] == "AlreadyStored"


def check_compressed(compressor: str, form: Sequence[str], study: Any) -> None:
    """Noise of 12 bits, which no predictor foresees, is read as it was written."""
    voxels = np.random.default_rng(5).integers(0, 4096, study.shape, dtype=np.uint16)
    before = set()
    for path in study.write(voxels=voxels).iterdir():
        before.add(dcmread(path).file_meta.TransferSyntaxUID)
        subprocess.run([compressor, *form, path, path.with_suffix(".new")], check=True)
        path.with_suffix(".new").replace(path)
    assert dcmread(path).file_meta.TransferSyntaxUID not in before
    np.testing.assert_array_equal(study.read().voxels[..., 0], voxels)
