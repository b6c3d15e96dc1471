"""Tissues of the phantom: relaxation times, proton density and uptake of contrast agent."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from tumortrace.phantom.fields import Floats


class Tissue(Enum):
    """What a voxel can hold."""

    MUSCLE = "muscle"
    SKIN = "skin"
    FAT = "fat"
    AIR = "air"
    BONE = "bone"
    MARROW = "marrow"
    MUCOSA = "mucosa"
    VITREOUS = "vitreous"
    DURA = "dura"
    CSF = "csf"
    INFLOW = "inflow"
    WHITE = "white"
    GREY = "grey"
    DEEP_GREY = "deep_grey"
    PLEXUS = "plexus"
    GLIOSIS = "gliosis"
    BLOOD = "blood"
    OEDEMA = "oedema"
    TUMOUR = "tumour"
    NECROSIS = "necrosis"
    RIM = "rim"


Layer = tuple[Tissue, Floats]
"""A tissue and how much of each voxel it covers, 0 to 1; a later layer is painted over an earlier one."""


@dataclass(frozen=True)
class Relaxation:
    """Properties that a signal depends on.

    Attributes:
        t1_ms: longitudinal relaxation time.
        t2_ms: transverse relaxation time.
        density: proton density relative to water; for flowing blood, what its flow void leaves of it.
        agent_mm: concentration of gadolinium after contrast, in mmol/L.
        inflow: share of the magnetisation that an inversion pulse missed because it flowed in afterwards.
    """

    t1_ms: float
    t2_ms: float
    density: float
    agent_mm: float = 0.0
    inflow: float = 0.0


# CSF, grey and white matter, fat, muscle: BrainWeb's values for 1.5 T. Fat has a longer T2 because a train of
# refocusing pulses breaks its J-coupling. Lesion tissues lie around BrainWeb's MS lesion (752, 237, 0.76).
RELAXATION: dict[Tissue, Relaxation] = {
    Tissue.MUSCLE: Relaxation(900, 47, 1.0, 0.05),
    Tissue.SKIN: Relaxation(700, 60, 0.8, 0.05),
    Tissue.FAT: Relaxation(350, 105, 1.0),
    Tissue.AIR: Relaxation(500, 10, 0.0),
    Tissue.BONE: Relaxation(500, 25, 0.06),
    Tissue.MARROW: Relaxation(420, 70, 0.6),
    Tissue.MUCOSA: Relaxation(1100, 110, 0.9, 0.35),
    Tissue.VITREOUS: Relaxation(2700, 400, 1.0),
    Tissue.DURA: Relaxation(900, 55, 0.6, 0.45),
    Tissue.CSF: Relaxation(2569, 329, 1.0),
    Tissue.INFLOW: Relaxation(2569, 329, 1.0, 0.0, 0.35),
    Tissue.WHITE: Relaxation(500, 70, 0.77),
    Tissue.GREY: Relaxation(833, 83, 0.86, 0.01),
    Tissue.DEEP_GREY: Relaxation(730, 76, 0.83, 0.01),
    Tissue.PLEXUS: Relaxation(1000, 130, 0.9, 0.5),
    Tissue.GLIOSIS: Relaxation(800, 130, 0.84),
    Tissue.BLOOD: Relaxation(1200, 60, 0.25, 1.6),
    Tissue.OEDEMA: Relaxation(1000, 135, 0.87),
    Tissue.TUMOUR: Relaxation(1150, 180, 0.88, 0.03),
    Tissue.NECROSIS: Relaxation(1900, 240, 0.97, 0.02),
    Tissue.RIM: Relaxation(1050, 125, 0.87, 0.5),
}

_LESION = (Tissue.OEDEMA, Tissue.TUMOUR, Tissue.NECROSIS, Tissue.RIM)


def vary_tissues(rng: np.random.Generator) -> dict[Tissue, Relaxation]:
    """The table with each tissue's times scattered by 4 %, a lesion's by 6 %, and uptake by 30 %: one patient's."""
    return {tissue: _vary(rng, value, 0.06 if tissue in _LESION else 0.04) for tissue, value in RELAXATION.items()}


def _vary(rng: np.random.Generator, value: Relaxation, spread: float) -> Relaxation:
    t1, t2, agent = np.exp(rng.normal(0, (spread, spread, 0.3)))
    return replace(
        value, t1_ms=value.t1_ms * t1, t2_ms=value.t2_ms * t2, agent_mm=value.agent_mm * min(float(agent), 1.8)
    )
