from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

_CHECKOUT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """Find a folder of real scans: "kaggle_3m" (LGG), "brats" or "dicom".

    They lie in TUMORTRACE_DATA, or in shared/data beside the checkout. A test whose folder is in neither skips aloud.
    """
    beside = _CHECKOUT.parent / "shared" / "data"
    root = Path(os.environ.get("TUMORTRACE_DATA", beside))

    def find(name: str) -> Path:
        for folder in (root / name, root / "lgg" / name):
            if folder.is_dir():
                return folder
        if name == "kaggle_3m" and (root / "lgg" / "unpack.py").is_file():
            return _unpack(root / "lgg" / "unpack.py") / name
        pytest.skip(f"real data: no {name} in {root}; TUMORTRACE_DATA=FOLDER says where it is")

    return find


def _unpack(script: Path) -> Path:
    """Unpack the LGG set, which takes a minute the first time, into the folder of built things."""
    target = _CHECKOUT / "build" / "real-data"
    target.mkdir(parents=True, exist_ok=True)
    with (target / "lock").open("w") as lock:  # pytest-xdist runs several of us
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run([sys.executable, script, target], check=True, stdout=subprocess.DEVNULL)
    return target
