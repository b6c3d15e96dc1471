"""The recipe in a bundle: what a device builds its TensorRT engines from, and for which shapes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from tumortrace_runtime.bundle import Bundle
from tumortrace_runtime.errors import BackendError, BundleError, SpecError
from tumortrace_runtime.files import read_json, sha256_file
from tumortrace_runtime.settings import from_dict, require

RECIPE = "recipe.json"
BUNDLE_RECIPE = f"tensorrt/{RECIPE}"
FORMAT = "tumortrace-tensorrt-recipe"
VERSION = 1


@dataclass(frozen=True)
class BatchSizes:
    """How many slices at a time an engine takes.

    Attributes:
        min: 1, because the last batch of a scan may be one slice.
        opt: the size that kernels are chosen for.
        max: the largest.
    """

    min: int
    opt: int
    max: int

    def __post_init__(self) -> None:
        require(self.min == 1, "BatchSizes.min", self.min, "1")
        require(self.min <= self.opt <= self.max, "BatchSizes.opt", self.opt, f"1 to max, which is {self.max},")


@dataclass(frozen=True)
class Source:
    """The ONNX file of one engine.

    Attributes:
        onnx: its name, beside the recipe.
        sha256: of its content.
    """

    onnx: str
    sha256: str

    def __post_init__(self) -> None:
        require(PurePosixPath(self.onnx).name == self.onnx, "Source.onnx", self.onnx, "a name without a folder")


@dataclass(frozen=True)
class Recipe:
    """How engines are built; `recipe.json` has the same fields.

    Attributes:
        format, version: `FORMAT` and `VERSION`.
        input: the name of the network's input.
        shape: (channels, rows, columns) of one slice.
        batch: how many slices at a time.
        workspace_bytes: memory that the builder may give one layer.
        engines: what each precision, fp16 or int8, is built from.
    """

    format: Literal["tumortrace-tensorrt-recipe"]
    version: Literal[1]
    input: str
    shape: tuple[int, int, int]
    batch: BatchSizes
    workspace_bytes: int
    engines: dict[str, Source]

    def __post_init__(self) -> None:
        require(min(self.shape) >= 1, "Recipe.shape", self.shape, "sizes of 1 or more")
        require(self.workspace_bytes >= 1, "Recipe.workspace_bytes", self.workspace_bytes, "1 or more")
        require(
            {*self.engines} <= {"fp16", "int8"} and bool(self.engines), "Recipe.engines", [*self.engines], "fp16, int8"
        )


def read_recipe(path: Path) -> Recipe:
    """Read `recipe.json`.

    Raises:
        BundleError: it is missing, of another version, or a field does not hold.
    """
    values = read_json(path, BundleError)
    if not isinstance(values, dict) or (values.get("format"), values.get("version")) != (FORMAT, VERSION):
        found = (values.get("format"), values.get("version")) if isinstance(values, dict) else "no object"
        raise BundleError(f"{path}: holds {found}; {FORMAT!r} version {VERSION} wanted.")
    try:
        return from_dict(Recipe, values)
    except SpecError as problem:
        raise BundleError(f"{path}: {problem}") from problem


def source_file(folder: Path, recipe: Recipe, precision: str) -> Path:
    """The ONNX file that the engine for `precision` is built from, its hash checked.

    Args:
        folder: where the recipe lies.
        recipe: what was read there.
        precision: "fp16" or "int8".

    Raises:
        BackendError: the recipe has no such engine.
        BundleError: the file is missing or was altered.
    """
    if precision not in recipe.engines:
        raise BackendError(f"{folder / RECIPE}: has no {precision} engine; it has {', '.join(recipe.engines)}.")
    source = recipe.engines[precision]
    path = folder / source.onnx
    if not path.is_file():
        raise BundleError(f"{path}: is missing.")
    if (found := sha256_file(path)) != source.sha256:
        raise BundleError(f"{path}: was altered: its SHA-256 is {found[:12]}…, {source.sha256[:12]}… wanted.")
    return path


def bundle_recipe(bundle: Bundle) -> tuple[Path, Recipe]:
    """The folder of a bundle where its recipe lies, and the recipe.

    Raises:
        BackendError: the bundle has none.
        BundleError: the recipe does not hold.
    """
    if BUNDLE_RECIPE not in bundle.manifest["files"]:
        raise BackendError(f"{bundle.path}: has no {BUNDLE_RECIPE}; export it with --format tensorrt.")
    path = bundle.path / BUNDLE_RECIPE
    return path.parent, read_recipe(path)
