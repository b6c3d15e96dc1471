"""What this machine is: processor, memory, accelerators. Linux says so in /proc, /sys and /dev."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from tumortrace_runtime import _native

_INTEL = "0x8086"
_DOT_PRODUCTS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})


@dataclass(frozen=True)
class Cpu:
    """The processor.

    Attributes:
        model: its name, or "" where Linux does not tell.
        architecture: as `uname -m` has it: x86_64, aarch64.
        threads: how many this process may use.
        features: instruction sets that matter to a network, as /proc/cpuinfo spells them.
    """

    model: str
    architecture: str
    threads: int
    features: tuple[str, ...]

    @property
    def saturates_int8(self) -> bool:
        """Whether INT8 products are added in pairs in 16 bits, which overflow with weights of more than 7 bits.

        So x86 CPUs without VNNI do, by VPMADDUBSW; Arm CPUs without a dot product add in 32 bits.
        """
        return self.architecture == "x86_64" and not self.int8_dot_product

    @property
    def int8_dot_product(self) -> bool:
        """Whether INT8 sums are formed in 32 bits by one instruction, which makes INT8 fast and exact."""
        return not _DOT_PRODUCTS.isdisjoint(self.features)


@dataclass(frozen=True)
class Machine:
    """One machine as far as it decides which engines can run.

    Attributes:
        cpu: the processor.
        memory_bytes: all memory, or None where Linux does not tell.
        intel_gpu: whether the kernel drives an Intel GPU.
        intel_npu: whether the kernel drives an Intel NPU.
        nvidia_driver: the version of NVIDIA's kernel driver, or "" for none.
        cuda: the newest CUDA version that NVIDIA's driver serves, such as "12.6", or "" where no GPU answers.
        jetson: the Jetson's model, or "" on any other machine.
    """

    cpu: Cpu
    memory_bytes: int | None
    intel_gpu: bool
    intel_npu: bool
    nvidia_driver: str
    cuda: str
    jetson: str


def inspect_machine(root: Path = Path("/")) -> Machine:
    """This machine; `root` is where its /proc, /sys, /dev and /etc are found."""
    return Machine(
        cpu=inspect_cpu(root),
        memory_bytes=_memory_bytes(root),
        intel_gpu=_has_intel(root, "sys/class/drm/renderD*/device/vendor"),
        intel_npu=_has_intel(root, "sys/class/accel/accel*/device/vendor"),
        nvidia_driver=_nvidia_driver(root),
        cuda=_cuda_version(),
        jetson=_jetson(root),
    )


def inspect_cpu(root: Path = Path("/")) -> Cpu:
    """This machine's processor; `root` is where its /proc is found. No driver is asked, as `inspect_machine` does."""
    return Cpu(_cpu_model(root), platform.machine(), cpu_threads(root), tuple(_native.cpu_features()))


def cpu_threads(root: Path = Path("/")) -> int:
    """How many processors this process may keep busy; `root` is where its /sys is found."""
    return cpu_quota(root) or len(os.sched_getaffinity(0))


def cpu_quota(root: Path = Path("/")) -> int | None:
    """How many processors' time a container may take, rounded up; None where that is no less than all that it sees.

    Source: Linux, Documentation/admin-guide/cgroup-v2.rst (cpu.max).
    """
    found = re.fullmatch(r"(\d+) (\d+)", _text(root / "sys/fs/cgroup/cpu.max"))
    quota = -(-int(found[1]) // int(found[2])) if found else sys.maxsize
    return quota if quota < len(os.sched_getaffinity(0)) else None


def _text(path: Path) -> str:
    """The file's content without the zero bytes that a device tree ends its strings with; "" when it is not there."""
    try:
        return path.read_text(errors="replace").replace("\0", "").strip()
    except OSError:
        return ""


def _cpu_model(root: Path) -> str:
    found = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", _text(root / "proc/cpuinfo"), re.MULTILINE)
    return found[1].strip() if found else _text(root / "proc/device-tree/model")


def _memory_bytes(root: Path) -> int | None:
    found = re.search(r"^MemTotal:\s*(\d+) kB", _text(root / "proc/meminfo"), re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _has_intel(root: Path, pattern: str) -> bool:
    return any(_text(vendor) == _INTEL for vendor in root.glob(pattern))


def _nvidia_driver(root: Path) -> str:
    found = re.search(r"Module.*?\s(\d+\.\d+(?:\.\d+)?)\s", _text(root / "proc/driver/nvidia/version") + " ")
    return found[1] if found else ""


def _jetson(root: Path) -> str:
    if not (root / "etc/nv_tegra_release").exists():
        return ""
    return _text(root / "proc/device-tree/model") or "Jetson"


def _cuda_version() -> str:
    """Ask NVIDIA's driver library, which is there before any CUDA toolkit is."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return ""
    version, devices = ctypes.c_int(), ctypes.c_int()
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(devices)) != 0 or devices.value == 0:
        return ""
    if driver.cuDriverGetVersion(ctypes.byref(version)) != 0:
        return ""
    return f"{version.value // 1000}.{version.value % 1000 // 10}"
