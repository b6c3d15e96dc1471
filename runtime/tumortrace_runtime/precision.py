"""Which of a bundle's models suits the device that it is to run on."""

from __future__ import annotations

from tumortrace_runtime.bundle import NARROW_WEIGHTS, Bundle
from tumortrace_runtime.errors import BackendError
from tumortrace_runtime.machine import Cpu

CPU_DEVICES = {"openvino": "CPU", "onnxruntime": "CPUExecutionProvider"}
"""What engines that run on a CPU call it."""

BF16_FEATURES = {"avx512_bf16", "amx_bf16"}
"""Instruction sets with which OpenVINO runs bf16 on a CPU."""


def default_precision(bundle: Bundle, backend: str, device: str | None, cpu: Cpu) -> str:
    """The precision where none is asked for: what the bundle prefers, or FP16 where this device cannot run that.

    Args:
        bundle: what has the models, and was measured on some machine.
        backend: as `Segmenter` takes it.
        device: as `Segmenter` takes it.
        cpu: this machine's processor.

    Raises:
        BackendError: the bundle was not exported for `backend`.
    """
    preferred = bundle.preferred(backend)
    on_cpu = _on_cpu(backend, device)
    lacks_bf16 = preferred == "bf16" and not (on_cpu and BF16_FEATURES & set(cpu.features))
    narrow = (backend, f"{preferred}{NARROW_WEIGHTS}") in bundle.choices()
    lacks_int8 = preferred == "int8" and on_cpu and cpu.saturates_int8 and not narrow
    if not lacks_bf16 and not lacks_int8:
        return preferred
    return "fp16" if (backend, "fp16") in bundle.choices() else "fp32"


def suited_precision(bundle: Bundle, backend: str, device: str | None, precision: str, cpu: Cpu) -> str:
    """The precision to run where `precision` is asked for: for "int8" on a `cpu` whose sums saturate, "int8-7bit".

    Args:
        bundle: what has the models.
        backend: as `Segmenter` takes it.
        device: as `Segmenter` takes it.
        precision: what is asked for.
        cpu: this machine's processor, which decides nothing where `device` is another.

    Raises:
        BackendError: the bundle has no model with 7-bit weights, and `cpu` needs it.
    """
    if precision != "int8" or not _on_cpu(backend, device) or not cpu.saturates_int8:
        return precision
    bundle.artefact(backend, precision)  # a bundle without INT8 is refused for that alone
    narrow = f"{precision}{NARROW_WEIGHTS}"
    if (backend, narrow) not in bundle.choices():
        raise BackendError(
            f"{bundle.path}: this CPU has no VNNI, its INT8 sums saturate, and the bundle has no INT8 model with 7-bit "
            f"weights for {backend}; take fp32 or fp16."
        )
    return narrow


def _on_cpu(backend: str, device: str | None) -> bool:
    return backend in CPU_DEVICES and device in (None, CPU_DEVICES[backend])
