"""What OpenVINO compiled for this CPU, kept in the user's cache folder for the processes that come after.

OpenVINO's own cache (CACHE_DIR) does not hash what it reads back: with a byte of the weights altered it gives other
logits and says nothing. Here a file that is damaged, or of another model, OpenVINO, CPU or setting, counts as none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import openvino

from tumortrace_runtime import _native
from tumortrace_runtime.backends.backend import Layer
from tumortrace_runtime.errors import OutputError
from tumortrace_runtime.files import cache_folder, canonical_json, sha256_bytes, sha256_file, write_bytes


@dataclass(frozen=True)
class Compiled:
    """A model that is ready to run.

    Attributes:
        model: for batches of one size.
        layers: what multiplies and accumulates, and what it runs in.
    """

    model: openvino.CompiledModel
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class Kept:
    """Where a compiled model is kept, if it is, and all that it depends on.

    Attributes:
        path: of the file.
        key: the model's files, OpenVINO, the CPU and the settings, as JSON values.
    """

    path: Path
    key: Mapping[str, Any]


def place_of(model_path: Path, device: str, config: Mapping[str, Any], sizes: Sequence[int]) -> Kept | None:
    """Where what is compiled of a model with these settings is kept; None where nothing can be."""
    files = (model_path, model_path.with_suffix(".bin")) if model_path.suffix == ".xml" else (model_path,)
    try:
        folder = cache_folder("openvino")
        hashes = [sha256_file(file) for file in files]
    except (OSError, RuntimeError):  # a model without weights; a user of whom nobody has said where home is
        return None
    what = {"files": hashes, "device": device, "config": dict(config), "sizes": list(sizes)}
    here = {"openvino": openvino.get_version(), "cpu": _native.cpu_features()}
    return Kept(folder / f"{sha256_bytes(canonical_json(what))[:24]}.compiled", what | here)


def read(core: openvino.Core, kept: Kept) -> Compiled | None:
    """What is kept, or None where it cannot be used."""
    try:
        head, _, data = kept.path.read_bytes().partition(b"\n")
        record = json.loads(head)
        if record["key"] != kept.key or record["sha256"] != sha256_bytes(data):
            return None
        layers = tuple(Layer(**layer) for layer in record["layers"])
        model = core.import_model(data, kept.key["device"], kept.key["config"])
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):  # of OpenVINO, the last
        return None
    return Compiled(model, layers)


def write(kept: Kept, compiled: Compiled) -> None:
    """Keep a compiled model, whole or not at all; what cannot be written is not kept."""
    data = compiled.model.export_model().getvalue()
    record = {
        "key": kept.key,
        "sha256": sha256_bytes(data),
        "layers": [asdict(layer) for layer in compiled.layers],
    }
    with suppress(OutputError):  # it is made anew each time, then
        write_bytes(kept.path, json.dumps(record).encode() + b"\n" + data)
