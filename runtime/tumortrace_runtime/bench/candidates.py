"""What can take part in a benchmark: a bundle's engines, and other software that runs the same network."""

from __future__ import annotations

import importlib.util
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.backends import devices
from tumortrace_runtime.backends.backend import mac_share
from tumortrace_runtime.bench.results import ENGINE, PEER, NotRun
from tumortrace_runtime.bundle import Bundle
from tumortrace_runtime.errors import BackendError, InputError
from tumortrace_runtime.io.scan import Scan
from tumortrace_runtime.segmenter import Segmenter

_NO_DEVICES = ("AzureExecutionProvider",)
"""What engines list and what runs nothing here: a service in the cloud."""


@dataclass(frozen=True)
class Outcome:
    """What a candidate makes of a scan.

    Attributes:
        mask: (slices, rows, columns), not 0 for tumour.
        lesions: of each its measurements, as JSON values.
        stages_ms: of its stages, those that it tells apart: preprocess, infer, postprocess.
    """

    mask: npt.NDArray[np.generic]
    lesions: list[dict[str, Any]]
    stages_ms: Mapping[str, float]


class Runner(ABC):
    """A candidate, loaded; its attributes are those of `results.Candidate`."""

    kind: str
    name: str
    backend: str
    precision: str
    device: str
    threads: int | None
    version: str
    executed_precision: str
    int8_mac_share: float
    size_bytes: int

    @abstractmethod
    def segment(self, scan: Scan) -> Outcome:
        """Segment a scan that is in memory."""

    @abstractmethod
    def close(self) -> None:
        """Give back what it holds."""


@dataclass(frozen=True)
class Choice:
    """An engine of a bundle at a precision on a device, with CPU threads, or None for the engine's choice."""

    backend: str
    precision: str
    device: str
    threads: int | None

    @property
    def name(self) -> str:
        """As `results.Candidate` has it."""
        threads = "" if self.threads is None else f" {self.threads} thread{'' if self.threads == 1 else 's'}"
        return f"{self.backend} {self.precision} {self.device}{threads}"


def find_choices(
    bundle: Bundle, threads: Sequence[int | None], backends: Sequence[str] = (), precisions: Sequence[str] = ()
) -> tuple[list[Choice], list[NotRun]]:
    """Every engine x precision x device x threads of a bundle that this machine may have, and what it has not.

    Of engines and precisions the wanted ones; empty for all.

    Raises:
        InputError: the bundle has no model of a wanted one.
    """
    pairs = bundle.choices()
    for wanted, there in ((backends, {pair[0] for pair in pairs}), (precisions, {pair[1] for pair in pairs})):
        if unknown := [name for name in wanted if name not in there]:
            raise InputError(f"{bundle.path}: has {', '.join(sorted(there))}; {', '.join(unknown)} given.")
    choices, not_run = [], []
    for backend, precision in pairs:
        if (backends and backend not in backends) or (precisions and precision not in precisions):
            continue
        try:
            found = [device for device in devices(backend) if device not in _NO_DEVICES]
        except BackendError as problem:
            not_run.append(NotRun(f"{backend} {precision}", str(problem)))
            continue
        choices += [Choice(backend, precision, device, number) for device in found for number in threads]
    return choices, not_run


class EngineRunner(Runner):
    """The product itself."""

    kind = ENGINE

    def __init__(self, bundle: Bundle, choice: Choice) -> None:
        """Load a bundle's model into an engine.

        Raises:
            BackendError: it cannot run here.
        """
        self._segmenter = Segmenter(
            bundle, backend=choice.backend, precision=choice.precision, device=choice.device, threads=choice.threads
        )
        backend = self._segmenter.backend
        self.name, self.backend, self.precision = choice.name, choice.backend, choice.precision
        self.device, self.threads, self.version = choice.device, choice.threads, backend.version
        self.executed_precision = backend.executed_precision
        self.int8_mac_share = mac_share(backend.layers, "int8")
        self.size_bytes = bundle.model_bytes(choice.backend, self._segmenter.precision)

    def segment(self, scan: Scan) -> Outcome:
        """See `Runner`."""
        result = self._segmenter.segment(scan)
        stages_ms = {stage: spent for stage, spent in result.timings_ms.items() if stage != "total"}
        return Outcome(result.mask, [lesion.to_dict() for lesion in result.lesions], stages_ms)

    def close(self) -> None:
        """See `Runner`."""
        self._segmenter.close()


@dataclass(frozen=True)
class PeerInput:
    """What other software is given.

    Attributes:
        bundle: of the model under test.
        checkpoint: the folder of its checkpoint; None where none was given.
        threads: CPU threads; None for its own choice.
    """

    bundle: Bundle
    checkpoint: Path | None
    threads: int | None


class Peer(Protocol):
    """Other software that segments the same scans with the same weights, as its users would write it.

    A file of peers has a function `load(given: PeerInput) -> list[Peer]`.

    Attributes:
        name: of software and way, such as "MONAI sliding window".
        version: of the software.
        precision: what it computes in.
        device: where.
        size_bytes: of its model's files.
    """

    name: str
    version: str
    precision: str
    device: str
    size_bytes: int

    def segment(self, scan: Scan) -> tuple[npt.NDArray[np.generic], dict[str, float]]:
        """The mask of a scan in memory, and milliseconds of preprocess, infer and postprocess."""
        ...


class PeerRunner(Runner):
    """Other software."""

    kind = PEER

    def __init__(self, peer: Peer, threads: int | None) -> None:
        """Take over what a peer's file loaded."""
        self._peer = peer
        self.name = self.backend = peer.name
        self.version, self.precision, self.device = peer.version, peer.precision, peer.device
        self.threads, self.executed_precision, self.int8_mac_share = threads, peer.precision, 0.0
        self.size_bytes = peer.size_bytes

    def segment(self, scan: Scan) -> Outcome:
        """See `Runner`."""
        mask, stages_ms = self._peer.segment(scan)
        return Outcome(mask, [], stages_ms)

    def close(self) -> None:
        """See `Runner`."""
        del self._peer


def load_peers(path: Path, given: PeerInput) -> list[PeerRunner]:
    """The peers that a Python file knows.

    Raises:
        InputError: there is no such file, it has no `load`, or a package that it wants is not installed.
    """
    spec = importlib.util.spec_from_file_location(f"peer_{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise InputError(f"{path}: no such Python file of peers.")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent.resolve()))  # where a script's own modules are found
    try:
        spec.loader.exec_module(module)
        if not hasattr(module, "load"):
            raise InputError(f"{path}: has no function `load`.")
        peers: list[Peer] = module.load(given)
    except ImportError as problem:
        raise InputError(f"{path}: {problem}; benchmarks/README.md says what brings peers' packages.") from problem
    finally:
        sys.path.remove(str(path.parent.resolve()))
    return [PeerRunner(peer, given.threads) for peer in peers]


class Stopwatch:
    """Milliseconds of stages that follow one another, for peers."""

    def __init__(self) -> None:
        self.stages_ms: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """End a stage."""
        now = time.perf_counter()
        self.stages_ms[stage] = (now - self._last) * 1e3
        self._last = now
