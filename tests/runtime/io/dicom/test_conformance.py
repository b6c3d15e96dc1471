"""What others say of our files: dicom3tools' checker, DCMTK's decoder, and Orthanc, which is to give them back."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from tumortrace_runtime.io.dicom.writing import write_mask, write_overlay

from .stored import ALGORITHM, Series, oblique, write_classic, write_enhanced

WRITERS = {"classic": write_classic, "enhanced": write_enhanced}


def program(name: str, package: str) -> str:
    """The path of a program, or a skip that says which package has it."""
    if (path := shutil.which(name)) is None:
        pytest.skip(f"{name} is not installed: apt-get install {package}")
    return path


@pytest.fixture(params=WRITERS)
def series(request: pytest.FixtureRequest, tmp_path: Path) -> Series:
    return WRITERS[request.param](tmp_path / "in", oblique(12, -7, 30))


@pytest.fixture
def written(series: Series, tmp_path: Path) -> list[Path]:
    """A segmentation with a lesion, one without, and a secondary capture."""
    picture = np.random.default_rng(3).integers(0, 255, (300, 500, 3), np.uint8)
    full = write_mask(series.scan, series.lesion(), tmp_path / "full", ALGORITHM)[0]
    empty = write_mask(series.scan, np.zeros_like(series.lesion()), tmp_path / "empty", ALGORITHM)[0]
    return [full, empty, write_overlay(series.scan, picture, tmp_path / "overlay", ALGORITHM)[1]]


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


def test_orthanc_keeps_source_and_results_together_and_gives_them_back(
    orthanc: str, series: Series, written: list[Path]
) -> None:
    studies = set()
    for path in (*series.files, *written):
        content = path.read_bytes()
        told = json.loads(call(f"{orthanc}/instances", content))
        assert told["Status"] in ("Success", "AlreadyStored"), path.name
        assert call(f"{orthanc}/instances/{told['ID']}/file") == content
        studies.add(told["ParentStudy"])
    assert len(studies) == 1
