from __future__ import annotations

import os
from pathlib import Path

import pytest

from tumortrace_runtime.machine import Cpu, cpu_quota, cpu_threads


@pytest.mark.parametrize(
    ("architecture", "features", "saturates"),
    [
        ("x86_64", (), True),
        ("x86_64", ("avx2",), True),
        ("x86_64", ("avx2", "avx512f"), True),  # Skylake-SP
        ("x86_64", ("avx2", "avx512f", "avx512_vnni"), False),
        ("x86_64", ("avx2", "avx_vnni"), False),  # Alder Lake, which has no AVX-512
        ("aarch64", (), False),
        ("aarch64", ("asimddp",), False),
    ],
)
def test_x86_without_vnni_saturates(architecture: str, features: tuple[str, ...], saturates: bool) -> None:
    assert Cpu("a CPU", architecture, 2, features).saturates_int8 == saturates


@pytest.mark.parametrize(
    ("limit", "threads"),
    [("max 100000", None), ("150000 100000", 2), ("100000 100000", 1), ("6400000 100000", None), ("", None)],
)
def test_a_containers_limit_is_known(limit: str, threads: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text(f"{limit}\n")

    assert cpu_quota(tmp_path) == threads
    assert cpu_threads(tmp_path) == (8 if threads is None else threads)
