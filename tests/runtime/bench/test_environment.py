"""What is told of a machine, on trees of files as Linux and NVIDIA's drivers make them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tumortrace_runtime.bench.environment import describe_environment


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_a_jetson_tells_power_mode_clocks_and_temperatures(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    root = write(
        tmp_path,
        {
            "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "1510400\n",
            "var/lib/nvpmodel/status": "pmode:0002\n",
            "sys/class/devfreq/17000000.gpu/max_freq": "624750000\n",
            "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
            "sys/class/thermal/thermal_zone0/temp": "48312\n",
            "sys/class/thermal/thermal_zone1/type": "cv0-thermal\n",
            "sys/class/thermal/thermal_zone1/temp": "unavailable\n",
        },
    )
    found = describe_environment(root)
    told = {name: found.get(name) for name in ("governor", "clock_mhz", "nvpmodel", "gpu_clock_mhz", "temperatures_c")}
    assert told == {
        "governor": "schedutil",
        "clock_mhz": 1510.4,
        "nvpmodel": "pmode:0002",
        "gpu_clock_mhz": {"17000000.gpu": 624.75},
        "temperatures_c": {"cpu-thermal": 48.312},
    }
    assert "nvidia" not in found


def test_gpus_tell_their_clocks(tmp_path, monkeypatch):
    write(
        tmp_path,
        {"nvidia-smi": "#!/bin/sh\necho 'NVIDIA L4, 2040, 2040, 41, 72.00'\necho 'NVIDIA L4, 210, 2040, 33, 72.00'\n"},
    )
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    first, second = describe_environment()["nvidia"]
    assert first == {
        "name": "NVIDIA L4",
        "clocks.current.sm": "2040",
        "clocks.max.sm": "2040",
        "temperature.gpu": "41",
        "power.limit": "72.00",
    }
    assert second["clocks.current.sm"] == "210"


@pytest.mark.parametrize("said", ["exit 9", "echo 'NVIDIA-SMI has failed'; exit 6"])
def test_a_driver_that_fails_tells_nothing(said, tmp_path, monkeypatch):
    write(tmp_path, {"nvidia-smi": f"#!/bin/sh\n{said}\n"})
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "nvidia" not in describe_environment()


def test_versions_and_processor_are_told():
    found = describe_environment()
    assert found["cpu"]["threads"] >= 1
    assert found["packages"]["numpy"][0].isdigit()
