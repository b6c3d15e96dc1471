"""Fuzz a reader, guided by what it reaches: `python tests/fuzz TARGET [options of libFuzzer] [folder or file]`."""

from __future__ import annotations

import importlib
import inspect
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import atheris

_LIMITS = ("-timeout=30", "-rss_limit_mb=3072", "-max_len=65536")

_LIBRARIES = (
    "json",
    "nibabel.nifti1",
    "nibabel.nifti2",
    "PIL.TiffImagePlugin",
    "pydicom.fileset",
    "pydicom.pixels",
    "safetensors",
)
_READERS = (
    "tumortrace.checkpoint",
    "tumortrace_runtime.io.dicom",
    "tumortrace_runtime.io.lgg",
    "tumortrace_runtime.io.nifti",
)

with atheris.instrument_imports(include=[name.partition(".")[0] for name in _LIBRARIES]):
    for name in (*_LIBRARIES, *_READERS):
        importlib.import_module(name)
    from targets import TARGETS


def main() -> None:
    """Fuzz the target that is named, in build/corpus/TARGET where no folder is; what ends it stays in that folder."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python tests/fuzz {{{','.join(TARGETS)}}} [options of libFuzzer] [folder or file]")
    name, *given = sys.argv[1:]
    options = [option for option in given if option.startswith("-")]
    corpus = Path(next((option for option in given if not option.startswith("-")), f"build/corpus/{name}"))
    target = TARGETS[name]
    if not corpus.is_file():
        corpus.mkdir(parents=True, exist_ok=True)
        for seed, content in target.seeds().items():
            (corpus / seed).write_bytes(content)
    for function in _functions("tumortrace"):
        atheris.instrument_func(function)
    warnings.simplefilter("ignore")
    place = Path(tempfile.gettempdir(), f"tumortrace-fuzz-{name}")  # one, since libFuzzer ends without a last word

    def read(content: bytes) -> None:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        target.try_to_read(content, place)

    def mutate(content: bytes, most_bytes: int, seed: int) -> bytes:
        changed = target.mutate(content, seed) if seed % 2 else content
        return atheris.Mutate(changed[:most_bytes], most_bytes)

    atheris.Setup(
        [sys.argv[0], *_LIMITS, f"-artifact_prefix={corpus}-", *options, str(corpus)], read, custom_mutator=mutate
    )
    atheris.Fuzz()


def _functions(prefix: str) -> Iterator[Any]:
    """The functions and methods of loaded modules; an editable install's loader lets no import hook change them."""
    for module in [module for name, module in sys.modules.items() if name.startswith(prefix)]:
        for value in vars(module).values():
            members = vars(value).values() if inspect.isclass(value) else [value]
            for member in map(inspect.unwrap, filter(inspect.isroutine, members)):
                if inspect.isfunction(member) and member.__module__ == module.__name__:
                    yield member


if __name__ == "__main__":
    main()
