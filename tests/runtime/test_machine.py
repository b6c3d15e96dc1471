from __future__ import annotations

import pytest

from tumortrace_runtime.machine import Cpu


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
