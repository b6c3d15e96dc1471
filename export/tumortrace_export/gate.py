"""The accuracy gate: what an artefact may lose against PyTorch in FP32."""

from __future__ import annotations

from dataclasses import dataclass

from tumortrace_export.assess import Accuracy
from tumortrace_runtime.settings import require_between

FP32_LOGIT_TOLERANCE = 1e-2


@dataclass(frozen=True)
class Gate:
    """What may be lost on validation cases.

    Attributes:
        max_drop: of the mean Dice.
        max_case_drop: of any single case's Dice.
    """

    max_drop: float = 0.001
    max_case_drop: float = 0.02

    def __post_init__(self) -> None:
        require_between(self, 0, 1, "max_drop", "max_case_drop")

    def fault(self, name: str, accuracy: Accuracy) -> str:
        """What an artefact called `name` lost too much of, or "" where the gate holds."""
        if accuracy.drop > self.max_drop:
            return (
                f"{name}: mean validation Dice {accuracy.dice:.4f} is {accuracy.drop:.3g} below PyTorch's; at most "
                f"{self.max_drop} was allowed (--max-drop)."
            )
        if accuracy.case_drop > self.max_case_drop:
            return (
                f"{name}: one validation case lost {accuracy.case_drop:.3g} Dice against PyTorch; at most "
                f"{self.max_case_drop} was allowed (--max-case-drop)."
            )
        error = accuracy.largest_logit_error
        if name.endswith(" fp32") and error is not None and error > FP32_LOGIT_TOLERANCE:
            return (
                f"{name}: a logit differs from PyTorch's by {error:.3g}; at most {FP32_LOGIT_TOLERANCE} wanted in FP32."
            )
        return ""
