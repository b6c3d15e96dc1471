"""Recipe and engine cache, without TensorRT: what it builds is bytes here."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tumortrace_runtime.backends.backend import Layer
from tumortrace_runtime.backends.cuda import Device
from tumortrace_runtime.backends.tensorrt_cache import Cached, EngineKey, Plan, default_folder, fetch, key_for
from tumortrace_runtime.backends.tensorrt_recipe import read_recipe, source_file
from tumortrace_runtime.errors import BackendError, BundleError, OutputError
from tumortrace_runtime.files import PARTIAL, sha256_file, write_json

KEY = EngineKey("a" * 64, "b" * 64, "10.3.0.30", "8.7", "Orin", 8)
LAYERS = (Layer("first", "Conv", "unknown", 1000),)
KEYS = st.builds(
    EngineKey,
    st.text("0123456789abcdef", min_size=64, max_size=64),
    st.text("0123456789abcdef", min_size=64, max_size=64),
    st.from_regex(r"1[01]\.\d{1,2}\.\d", fullmatch=True),
    st.sampled_from(["8.7", "8.9", "10.1"]),
    st.text(min_size=1, max_size=12),
    st.integers(1, 200),
)


class Cache:
    """A cache folder, with what was built and reported."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.builds = 0
        self.lines: list[str] = []

    def fetch(self, key: EngineKey = KEY, plan: bytes = b"engine", **options: Any) -> Cached[bytes]:
        return fetch(self.folder, key, lambda: self._build(plan), _load, self.lines.append, **options)

    def _build(self, plan: bytes) -> Plan:
        self.builds += 1
        return Plan(plan, LAYERS)

    @property
    def files(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}


def _load(plan: bytes) -> bytes | None:
    return plan if plan.startswith(b"engine") else None


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "engines")


def test_an_engine_is_built_once_and_then_reused(cache: Cache) -> None:
    built, again = cache.fetch(), cache.fetch()
    assert (built.engine, built.layers, built.size_bytes, built.reused) == (b"engine", LAYERS, 6, False)
    assert again == replace(built, reused=True)
    assert cache.builds == 1
    assert cache.lines == [f"{built.path}: building the engine, which takes minutes (there is none yet)."]


def test_another_build_is_had_by_asking(cache: Cache) -> None:
    cache.fetch()
    assert cache.fetch(plan=b"engine 2", rebuild=True).engine == b"engine 2"
    assert cache.fetch().engine == b"engine 2"
    assert (cache.builds, cache.lines[1].endswith("(as asked).")) == (2, True)


@settings(max_examples=20)
@given(KEYS, KEYS)
def test_any_field_that_differs_gives_another_engine(tmp_path_factory: pytest.TempPathFactory, a: Any, b: Any) -> None:
    cache = Cache(tmp_path_factory.mktemp("engines"))
    cache.fetch(a, b"engine a")
    for field, value in asdict(b).items():
        changed = replace(a, **{field: value})
        before = cache.builds
        wanted = b"engine a" if changed == a else f"engine {field}".encode()
        assert cache.fetch(changed, wanted).engine == wanted
        assert cache.builds == before + (changed != a)
        cache.fetch(a, b"engine a")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"tensorrt": "10.7.0.23"}, "(TensorRT was 10.3.0.30, and is 10.7.0.23)."),
        ({"recipe_sha256": "c" * 64}, "(the recipe is another)."),
    ],
)
def test_an_engine_out_of_date_is_replaced_with_one_line(cache: Cache, change: dict[str, Any], told: str) -> None:
    cache.fetch()
    files = cache.files
    cache.fetch(replace(KEY, **change), b"engine 2")
    assert [line.endswith(told) for line in cache.lines] == [False, True]
    assert cache.files == files


def test_another_gpu_keeps_its_own_engine(cache: Cache) -> None:
    cache.fetch()
    cache.fetch(replace(KEY, device="Thor"), b"engine 2")
    assert (cache.fetch().engine, cache.fetch(replace(KEY, device="Thor")).engine) == (b"engine", b"engine 2")
    assert cache.builds == 2


@pytest.mark.parametrize("damage", [b"", b"engin", b"engine!", b"rubbish"])
def test_a_damaged_engine_is_not_loaded_but_built_anew(cache: Cache, damage: bytes) -> None:
    cache.fetch().path.write_bytes(damage)
    assert cache.fetch().engine == b"engine"
    assert cache.lines[1].endswith("(the one here is damaged).")


@pytest.mark.parametrize("record", ["", "[]", "{}", '{"key": {}}', "\0"])
def test_a_damaged_record_is_no_reason_to_fail(cache: Cache, record: str) -> None:
    path = cache.fetch().path
    path.with_suffix(".engine.json").write_text(record)
    assert cache.fetch().reused is False
    assert cache.lines[1].endswith("(the record of the one here is damaged).")


def test_an_engine_that_does_not_load_any_more_is_built_anew(cache: Cache) -> None:
    cache.fetch()
    refused = iter([None, None])  # as after an update of the driver
    found = fetch(
        cache.folder, KEY, lambda: Plan(b"engine 2", LAYERS), lambda plan: next(refused, plan), cache.lines.append
    )
    assert found.engine == b"engine 2"
    assert cache.lines[1].endswith("(TensorRT cannot load the one here).")


def test_a_build_that_cannot_be_loaded_is_an_error_and_is_not_kept(cache: Cache) -> None:
    with pytest.raises(BackendError, match="just built cannot be loaded"):
        cache.fetch(plan=b"rubbish")
    assert all(name.endswith(".lock") for name in cache.files)


def test_a_build_that_fails_keeps_what_was_there(cache: Cache) -> None:
    cache.fetch()

    def fail() -> Plan:
        raise BackendError("no engine")

    with pytest.raises(BackendError, match="no engine"):
        fetch(cache.folder, KEY, fail, _load, cache.lines.append, rebuild=True)
    assert cache.fetch().reused


def test_a_folder_that_cannot_be_written_is_told_with_the_variable(cache: Cache) -> None:
    cache.folder.write_text("a file")
    with pytest.raises(OutputError, match=r"engines: the cache cannot be written .*TUMORTRACE_ENGINES names another"):
        cache.fetch()


def test_a_full_disk_leaves_no_engine(cache: Cache, files_of_at_most: Any) -> None:
    with files_of_at_most(1000), pytest.raises(OutputError, match="cannot be written"):
        cache.fetch(plan=b"engine" * 1000)
    assert all(name.endswith(".lock") for name in cache.files)
    assert cache.fetch().reused is False


def build_slowly(folder: Path, started: Any) -> None:
    """Build in a process of its own, and note it; a second build would note it twice."""

    def build() -> Plan:
        started.set()
        with (folder / "builds.txt").open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(0.3)
        return Plan(b"engine", LAYERS)

    with (folder / f"lines-{os.getpid()}.txt").open("w") as file:
        fetch(folder / "engines", KEY, build, _load, lambda line: print(line, file=file))


def test_two_processes_at_once_build_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    started = context.Event()
    processes = [context.Process(target=build_slowly, args=(tmp_path, started)) for _ in range(2)]
    processes[0].start()
    assert started.wait(10)
    processes[1].start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0]
    assert (tmp_path / "builds.txt").read_text() == f"{processes[0].pid}\n"
    waited = (tmp_path / f"lines-{processes[1].pid}.txt").read_text()
    assert waited.endswith("another process builds the engine; waiting for it.\n")
    assert waited.count("\n") == 1


def hang_while_writing(folder: Path, started: Any) -> None:
    """Be in the middle of a build, with something half-written beside the engine."""

    def build() -> Plan:
        (folder / f"{PARTIAL}x{KEY.place}").write_bytes(b"engi")
        started.set()
        signal.pause()
        raise AssertionError

    fetch(folder, KEY, build, _load, lambda line: None)


def test_a_build_that_is_killed_leaves_nothing_half_written_and_no_lock(cache: Cache) -> None:
    context = multiprocessing.get_context("fork")
    started = context.Event()
    process = context.Process(target=hang_while_writing, args=(cache.folder, started))
    process.start()
    assert started.wait(10)
    process.kill()
    process.join(10)
    assert not (cache.folder / KEY.place).exists()
    assert cache.fetch().engine == b"engine"
    assert not [name for name in cache.files if name.startswith(PARTIAL)]


def test_readers_need_no_lock(cache: Cache) -> None:
    """An engine is loaded while another process keeps the lock, and from a folder that cannot be written."""
    built = cache.fetch()
    built.path.with_suffix(".engine.lock").unlink()
    found: list[Cached[bytes]] = []
    reader = threading.Thread(target=lambda: found.append(cache.fetch()))
    reader.start()
    reader.join(10)
    assert found[0].reused
    assert not built.path.with_suffix(".engine.lock").exists()


def test_a_key_is_of_what_it_is_given() -> None:
    device = Device(index=3, name="Orin", compute_capability="8.7", multiprocessors=8, integrated=True)
    assert key_for("a" * 64, "b" * 64, "10.3.0.30", device) == KEY


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"TUMORTRACE_ENGINES": "/srv/engines", "XDG_CACHE_HOME": "/cache"}, "/srv/engines"),
        ({"XDG_CACHE_HOME": "/cache"}, "/cache/tumortrace/tensorrt"),
        ({"HOME": "/home/someone"}, "/home/someone/.cache/tumortrace/tensorrt"),
    ],
)
def test_the_folder_is_the_users_cache(variables: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TUMORTRACE_ENGINES", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert default_folder() == Path(folder)


def test_a_recipe_is_read_as_it_is_written(tensorrt_folder: Path) -> None:
    recipe = read_recipe(tensorrt_folder / "recipe.json")
    assert (recipe.input, recipe.shape, recipe.batch.max) == ("input", (4, 32, 32), 4)
    path = source_file(tensorrt_folder, recipe, "int8")
    assert (path.name, sha256_file(path)) == ("model.int8-fp16.onnx", recipe.engines["int8"].sha256)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"format": "other"}, r"holds \('other', 1\); 'tumortrace-tensorrt-recipe' version 1 wanted"),
        ({"version": 2}, r"holds \('tumortrace-tensorrt-recipe', 2\)"),
        ({"shape": [4, 32]}, "Recipe.shape is .*a list of 3 wanted"),
        ({"shape": [4, 0, 32]}, "sizes of 1 or more wanted"),
        ({"batch": {"min": 2, "opt": 4, "max": 4}}, "BatchSizes.min is 2; 1 wanted"),
        ({"batch": {"min": 1, "opt": 8, "max": 4}}, "BatchSizes.opt is 8; 1 to max, which is 4, wanted"),
        ({"workspace_bytes": 0}, "Recipe.workspace_bytes is 0"),
        ({"engines": {}}, "Recipe.engines is"),
        ({"engines": {"int4": {"onnx": "a.onnx", "sha256": ""}}}, "fp16, int8 wanted"),
        ({"engines": {"fp16": {"onnx": "../a.onnx", "sha256": ""}}}, "a name without a folder wanted"),
        ({"surprise": 1}, "unknown setting surprise"),
    ],
)
def test_a_recipe_that_does_not_hold_is_refused(
    change: dict[str, Any], told: str, tensorrt_folder: Path, tmp_path: Path
) -> None:
    values = json.loads((tensorrt_folder / "recipe.json").read_bytes())
    write_json(tmp_path / "recipe.json", values | change)
    with pytest.raises(BundleError, match=rf"recipe\.json: .*{told}"):
        read_recipe(tmp_path / "recipe.json")


@pytest.mark.parametrize("content", ["[]", "1", "{", ""])
def test_a_file_that_is_no_recipe_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text(content)
    with pytest.raises(BundleError, match=r"recipe\.json: (holds|is not JSON)"):
        read_recipe(tmp_path / "recipe.json")


def test_an_onnx_file_that_was_altered_is_not_built_from(tensorrt_folder: Path, tmp_path: Path) -> None:
    recipe = read_recipe(tensorrt_folder / "recipe.json")
    with pytest.raises(BundleError, match=r"model\.fp16\.onnx: is missing"):
        source_file(tmp_path, recipe, "fp16")
    (tmp_path / "model.fp16.onnx").write_bytes(b"altered")
    with pytest.raises(BundleError, match=r"model\.fp16\.onnx: was altered"):
        source_file(tmp_path, recipe, "fp16")
    with pytest.raises(BackendError, match="has no fp32 engine; it has fp16, int8"):
        source_file(tmp_path, recipe, "fp32")
