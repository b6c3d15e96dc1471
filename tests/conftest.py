from __future__ import annotations

import dataclasses
import fcntl
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# An example that is slow on a busy machine is not a defect.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")

_CHECKOUT = Path(__file__).resolve().parents[1]

# A shell starts what runs in the background deaf to Ctrl-C, and so would be the programs that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Set before PyTorch is loaded: its threads wait for each other by spinning, which on a machine that is busy with other
# tests takes a hundred times as long as one thread alone.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Programs keep what they can make anew in this session's own folder, not in the developer's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


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


@pytest.fixture
def files_of_at_most() -> Callable[[int], AbstractContextManager[None]]:
    """A context in which writing more than so many bytes to a file fails, as it does on a full disk."""

    @contextmanager
    def limited(size_bytes: int) -> Iterator[None]:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, limits[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    return limited


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a program ended: its exit code and what it said."""

    code: int
    out: str
    err: str


@pytest.fixture
def tumortrace(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run `tumortrace` with arguments through its entry point, in this process."""
    from tumortrace.cli import main

    def call(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["tumortrace", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return Ended(int(ended.value.code or 0), said.out, said.err)

    return call


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle as `tumortrace-export --int8` writes it, for phantoms of 64 px; a test that changes it copies it first.

    Its network is written by hand, so that its masks are known: the logit of a pixel is 8 x (normalised FLAIR - 1.2).
    """
    return _made_once(tmp_path_factory, "tiny.bundle", lambda out: _export_tiny(tmp_path_factory.mktemp("tiny"), out))


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with six phantoms of 64 px and a few slices, their `index.json`, and a `split.json` of two folds."""
    return _made_once(tmp_path_factory, "tiny-data", _write_tiny_data)


@pytest.fixture(scope="session")
def tiny_run(tiny_data: Path) -> Callable[..., Any]:
    """Makes a `tumortrace.train.Run` on the fixed split of `tiny_data`, as `tumortrace train` does, from settings."""
    return lambda **settings: _tiny_run(tiny_data, settings)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> Path:
    """A checkpoint trained on the fixed split of `tiny_data` until it finds lesions."""
    return _made_once(tmp_path_factory, "tiny-run", lambda out: _train_tiny(tiny_data, out)) / "best"


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], None]], Path]:
    """Gives the folder of a name, which a function writes once for all workers of a session."""
    return lambda name, make: _made_once(tmp_path_factory, name, make)


def _made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """The folder `name`, which `make` writes once for all workers of a session."""
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    done = root / f"{name}.done"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            make(root / name)
            done.touch()
    return root / name


def _write_tiny_data(out: Path) -> None:
    from tumortrace.index import prepare, save_index
    from tumortrace.phantom import generate_case
    from tumortrace.split import make_split, save_split
    from tumortrace_runtime.io import write_case

    for number in range(1, 7):
        scan = generate_case(1, number, size_px=64)
        middle = int(scan.truth.sum(axis=(1, 2)).argmax())
        kept = slice(max(0, middle - 4), middle + 4)
        write_case("lgg", dataclasses.replace(scan, voxels=scan.voxels[kept], truth=scan.truth[kept]), out / "phantoms")
    index = prepare(out / "phantoms")
    save_index(index, out / "index.json")
    save_split(make_split(index, folds=2, fractions=(0.5, 0.25, 0.25)), out / "split.json")


def _tiny_run(data: Path, settings: dict[str, Any]) -> Any:
    from tumortrace.config import build_config
    from tumortrace.index import load_index
    from tumortrace.run import open_run
    from tumortrace.split import load_split

    config = build_config({"model": "unet-xs", "preprocessing": {"grid_px": [64, 64]}, **settings})
    index = load_index(data / "index.json")
    return open_run(config, index, load_split(data / "split.json", index))


def _train_tiny(data: Path, out: Path) -> None:
    from tumortrace.train import train

    steps = {"epochs": 1, "steps_per_epoch": 40, "batch_size": 8, "warmup_steps": 5, "learning_rate": 4e-3}
    train(_tiny_run(data, steps), out)


def _export_tiny(data: Path, out: Path) -> None:
    from tumortrace.checkpoint import Checkpoint
    from tumortrace.index import prepare
    from tumortrace.model import build_model, family_config
    from tumortrace.phantom import generate_case
    from tumortrace.split import Parts, Split
    from tumortrace_export.export import export
    from tumortrace_export.gate import Gate
    from tumortrace_export.settings import Settings
    from tumortrace_runtime.io import write_case
    from tumortrace_runtime.postprocess import Postprocessing
    from tumortrace_runtime.preprocess import Preprocessing

    for number in (1, 2):
        scan = generate_case(1, number, size_px=64)
        middle = int(scan.truth.sum(axis=(1, 2)).argmax())
        kept = slice(middle - 2, middle + 2)
        write_case("lgg", dataclasses.replace(scan, voxels=scan.voxels[kept], truth=scan.truth[kept]), data)
    index = prepare(data)
    train, val = (case.case_id for case in index.cases)
    split = Split(index.sha256, 0, (0.5, 0.25, 0.25), Parts((train,), (val,), ()), ())
    preprocessing = Preprocessing(channels=("t1", "flair", "t1ce"), grid_px=(64, 64))
    config = family_config("unet-xs", preprocessing.in_channels)
    weights = _find_bright(build_model(config), channel=4)  # FLAIR of the middle one of three slices
    training = {"data": {"split_sha256": split.sha256, "training_cases": [train]}}
    checkpoint = Checkpoint(config, preprocessing, Postprocessing(), training, weights)
    export(checkpoint, index, split, out, Settings(gate=Gate(1.0, 1.0)))


def _find_bright(network: Any, channel: int) -> dict[str, Any]:
    """The weights of a compact U-Net that hands one input channel on to its head, pixel by pixel."""
    import torch

    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.zeros_(module.weight)
    path = [network.encoder[0][0][0], network.encoder[0][1][0], network.decoder[-1].merge[0], network.head]
    for convolution, first, gain in zip(path, (channel * 16, 0, 0, 0), (1, 1, 1, 8), strict=True):
        for pixel in range(16):  # of the stem's 4 x 4
            convolution.weight.data[pixel, first + pixel, 1, 1] = gain
    torch.nn.init.constant_(network.head.bias, -8 * 1.2)
    return dict(network.state_dict())


@pytest.fixture(scope="session")
def write_tensorrt_recipe() -> Callable[..., None]:
    """Write `recipe.json` beside the ONNX files in a `tensorrt` folder: its image's shape, and file by precision."""
    from tumortrace_runtime.files import sha256_file, write_json

    def write(folder: Path, shape: tuple[int, int, int], files: dict[str, str]) -> None:
        engines = {name: {"onnx": file, "sha256": sha256_file(folder / file)} for name, file in files.items()}
        recipe = {
            "format": "tumortrace-tensorrt-recipe",
            "version": 1,
            "input": "input",
            "shape": shape,
            "batch": {"min": 1, "opt": 4, "max": 4},
            "workspace_bytes": 1 << 28,
            "engines": engines,
        }
        write_json(folder / "recipe.json", recipe)

    return write
