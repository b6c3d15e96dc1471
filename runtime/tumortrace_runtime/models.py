"""Shipped models: bundles that are found by name, as `models/NAME/NAME.bundle`.

Their weights have a licence of their own, so no wheel carries them: they lie in the folder that TUMORTRACE_MODELS
names, or in the checkout that was installed.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tumortrace_runtime.errors import BundleError

FOLDER_VARIABLE = "TUMORTRACE_MODELS"
"""The environment variable that names a folder of models, searched before the checkout's."""

LICENCE = "LICENSE"


@dataclass(frozen=True)
class ShippedModel:
    """A model that is found by name.

    Attributes:
        name: of it, of its folder and, with .bundle, of its bundle.
        folder: with the bundle, the licence and what else belongs to the model.
    """

    name: str
    folder: Path

    @property
    def bundle(self) -> Path:
        """The bundle's folder, which may not hold."""
        return self.folder / f"{self.name}.bundle"

    @property
    def licence(self) -> str:
        """The first line of the licence that the weights are under; empty where it is missing."""
        file = self.folder / LICENCE
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
        return next((line.strip() for line in lines if line.strip()), "")


def find_bundle(name_or_path: Path | str) -> Path:
    """The bundle of a shipped model's name; anything that is a path, or looks like one, is given back as it is.

    Raises:
        BundleError: a plain word is neither a path that exists nor the name of a shipped model.
    """
    path = Path(name_or_path)
    if path.exists() or len(path.parts) != 1:
        return path
    models = {model.name: model for model in shipped_models()}
    if path.name in models:
        return models[path.name].bundle
    searched = " and ".join(map(str, model_folders())) or "no folder, for this installation comes from no checkout"
    raise BundleError(
        f"{path}: no such path, and no such model: {', '.join(models) or 'none'} found in {searched}. Give the folder "
        f"of a bundle, or set {FOLDER_VARIABLE} to a folder with {path}/{path}.bundle."
    )


def shipped_models() -> list[ShippedModel]:
    """All models that can be named, by name; of two with one name, the one that is found first."""
    found: dict[str, ShippedModel] = {}
    for folder in model_folders():
        for bundle in folder.glob("*/*.bundle"):
            if bundle.stem == bundle.parent.name:
                found.setdefault(bundle.stem, ShippedModel(bundle.stem, bundle.parent))
    return sorted(found.values(), key=lambda model: model.name)


def model_folders() -> list[Path]:
    """Where models are looked for, in this order; a folder need not be there."""
    from importlib.metadata import PackageNotFoundError, distribution  # slow to import, and not always needed

    named = os.environ.get(FOLDER_VARIABLE)
    try:
        checkout = installed_from(distribution("tumortrace").read_text("direct_url.json"))
    except PackageNotFoundError:
        checkout = None
    return [*([Path(named)] if named else []), *([checkout / "models"] if checkout else [])]


def installed_from(direct_url: str | None) -> Path | None:
    """The local folder that a distribution was installed from, editable or not; None where it was another thing.

    Args:
        direct_url: the distribution's `direct_url.json` (PEP 610), if it has one.
    """
    record = json.loads(direct_url or "{}")
    url = urlsplit(record.get("url", ""))
    return Path(unquote(url.path)) if "dir_info" in record and url.scheme == "file" else None
