from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image


@pytest.fixture
def lgg_case(tmp_path: Path) -> Callable[..., Path]:
    """Write a case of the public LGG layout with Pillow alone, each slice holding values of its own; its folder."""

    def write(name: str = "TCGA_CS_4942_19970222", slices: int = 12, *, masks: bool = True, root: str = "data") -> Path:
        folder = tmp_path / root / name
        folder.mkdir(parents=True)
        for number in range(1, slices + 1):
            Image.fromarray(lgg_pixels(number)).save(folder / f"{name}_{number}.tif")
            if masks:
                Image.fromarray(lgg_mask(number)).save(folder / f"{name}_{number}_mask.tif")
        return folder

    return write


def lgg_pixels(number: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 255, (12, 10, 3), dtype=np.uint8)


def lgg_mask(number: int) -> npt.NDArray[np.uint8]:
    mask = np.zeros((12, 10), np.uint8)
    mask[2 : 2 + number % 5, 3:6] = 255
    return mask


@pytest.fixture
def run_as_anybody() -> Callable[[str], str]:
    """Run a Python program that may read what its user may, without root's power to read all; what it prints."""
    if shutil.which("setpriv") is None:
        pytest.skip("not run: no setpriv")
    powers = "-dac_override,-dac_read_search"
    without = ["setpriv", f"--bounding-set={powers}", f"--inh-caps={powers}"] if os.geteuid() == 0 else []

    def run(program: str) -> str:
        command = [*without, sys.executable, "-c", program]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    return run
