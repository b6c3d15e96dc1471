"""The cache of TensorRT engines: an engine runs only where it was built, so each device keeps its own."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from tumortrace_runtime.backends.backend import Layer
from tumortrace_runtime.backends.cuda import Device
from tumortrace_runtime.errors import BackendError, InputError, OutputError
from tumortrace_runtime.files import (
    PARTIAL,
    cache_folder,
    canonical_json,
    read_json,
    sha256_bytes,
    write_bytes,
    write_json,
)

FOLDER_VARIABLE = "TUMORTRACE_ENGINES"
"""The environment variable that names another cache than the user's own."""

T = TypeVar("T")

# What a changed field of a key means to a person.
_CHANGES = {
    "onnx_sha256": "the model is another",
    "recipe_sha256": "the recipe is another",
    "tensorrt": "TensorRT was {old}, and is {new}",
    "compute_capability": "the compute capability was {old}, and is {new}",
    "device": "the device was {old}, and is {new}",
    "multiprocessors": "the device had {old} multiprocessors, and has {new}",
}


@dataclass(frozen=True)
class EngineKey:
    """All that an engine depends on.

    Attributes:
        onnx_sha256: of the ONNX file.
        recipe_sha256: of the recipe.
        tensorrt: its full version.
        compute_capability, device, multiprocessors: of the GPU.
    """

    onnx_sha256: str
    recipe_sha256: str
    tensorrt: str
    compute_capability: str
    device: str
    multiprocessors: int

    @property
    def place(self) -> str:
        """The engine's file name: one for each model and kind of GPU, so that an engine out of date is replaced."""
        return f"{_short_hash([self.onnx_sha256, *self._gpu])}.engine"

    @property
    def timings_place(self) -> str:
        """The file name of what builds measured: one for each version and kind of GPU."""
        return f"{_short_hash([self.tensorrt, *self._gpu])}.timings"

    @property
    def _gpu(self) -> list[Any]:
        return [self.device, self.compute_capability, self.multiprocessors]


@dataclass(frozen=True)
class Plan:
    """What a build gives.

    Attributes:
        data: the serialised engine.
        layers: what multiplies and accumulates in its network.
    """

    data: bytes
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class Cached(Generic[T]):
    """An engine from the cache.

    Attributes:
        engine: as it was loaded.
        layers: what multiplies and accumulates in its network.
        path: its file.
        size_bytes: of the file.
        build_s: seconds that building it took, whenever that was.
        reused: whether it was there already.
    """

    engine: T
    layers: tuple[Layer, ...]
    path: Path
    size_bytes: int
    build_s: float
    reused: bool


def default_folder() -> Path:
    """$TUMORTRACE_ENGINES, else tumortrace/tensorrt in the user's cache folder."""
    given = os.environ.get(FOLDER_VARIABLE)
    return Path(given) if given else cache_folder("tensorrt")


def key_for(onnx_sha256: str, recipe_sha256: str, tensorrt: str, device: Device) -> EngineKey:
    """The key of an engine for `device`."""
    return EngineKey(
        onnx_sha256, recipe_sha256, tensorrt, device.compute_capability, device.name, device.multiprocessors
    )


def fetch(
    folder: Path,
    key: EngineKey,
    build: Callable[[], Plan],
    load: Callable[[bytes], T | None],
    report: Callable[[str], None],
    *,
    rebuild: bool = False,
) -> Cached[T]:
    """Load the engine for `key`, after building it where the cache has none that holds.

    Args:
        folder: of the cache; made when it is missing.
        key: what the engine must be for.
        build: makes the engine; takes minutes.
        load: deserialises one; None where it cannot.
        report: gets one line when an engine is built, which says why, and one when another process is waited for.
        rebuild: build even where the cache has one.

    Raises:
        BackendError: an engine that was just built cannot be loaded, or what `build` raises.
        OutputError: the cache cannot be written.
    """
    if not rebuild and isinstance(found := _reuse(folder, key, load), Cached):
        return found
    with _locked(folder / key.place, report):
        reason = "as asked" if rebuild else _reuse(folder, key, load)
        if isinstance(reason, Cached):  # another process built it meanwhile
            return reason
        report(f"{folder / key.place}: building the engine, which takes minutes ({reason}).")
        return _build(folder, key, build, load)


def _build(folder: Path, key: EngineKey, build: Callable[[], Plan], load: Callable[[bytes], T | None]) -> Cached[T]:
    path = folder / key.place
    for leftover in folder.glob(f"{PARTIAL}*{path.name}*"):  # of a build that was killed
        leftover.unlink(missing_ok=True)
    started = time.perf_counter()
    plan = build()
    build_s = round(time.perf_counter() - started, 1)
    engine = load(plan.data)
    if engine is None:
        raise BackendError("tensorrt: the engine that was just built cannot be loaded.")
    write_bytes(path, plan.data)
    record = {
        "key": asdict(key),
        "sha256": sha256_bytes(plan.data),
        "build_s": build_s,
        "layers": [asdict(layer) for layer in plan.layers],
    }
    write_json(_record(path), record)
    return Cached(engine, plan.layers, path, len(plan.data), build_s, reused=False)


def _reuse(folder: Path, key: EngineKey, load: Callable[[bytes], T | None]) -> Cached[T] | str:
    """The engine, or why there is none."""
    path = folder / key.place
    try:
        plan = path.read_bytes()
    except OSError:
        return "there is none yet"
    try:
        record = read_json(_record(path))
        if change := _change(record["key"], asdict(key)):
            return change
        # TensorRT may crash on a damaged engine, so it gets none to see.
        if sha256_bytes(plan) != record["sha256"]:
            return "the one here is damaged"
        engine = load(plan)
        if engine is None:
            return "TensorRT cannot load the one here"
        layers = tuple(Layer(**layer) for layer in record["layers"])
        return Cached(engine, layers, path, len(plan), float(record["build_s"]), reused=True)
    except (InputError, KeyError, TypeError, ValueError):
        return "the record of the one here is damaged"


def _change(old: dict[str, Any], new: dict[str, Any]) -> str:
    """What differs first between two keys, in words, or ""."""
    changed = [field for field in new if old[field] != new[field]]
    return _CHANGES[changed[0]].format(old=old[changed[0]], new=new[changed[0]]) if changed else ""


def _short_hash(values: list[Any]) -> str:
    return sha256_bytes(canonical_json(values))[:24]


def _record(path: Path) -> Path:
    return path.with_suffix(".engine.json")


@contextmanager
def _locked(path: Path, report: Callable[[str], None]) -> Iterator[None]:
    """Keep other processes from building the engine `path`; the lock goes with the process."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_suffix(".engine.lock").open("a")
    except OSError as problem:
        raise OutputError(
            f"{path.parent}: the cache cannot be written ({problem.strerror}); {FOLDER_VARIABLE} names another."
        ) from problem
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"{path}: another process builds the engine; waiting for it.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
