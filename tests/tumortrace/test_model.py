from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import tumortrace
from tumortrace.model import FAMILY, ModelConfig, build_model, family_config
from tumortrace_runtime.errors import SpecError

COMPACT = ("unet-xs", "unet-s", "unet-m")


ROW = re.compile(r"^\| `(unet-\w+)` \| ([\d,]+) \| ([\d.]+) \| ([\d, ]+) \|", re.MULTILINE)
TABLE = ROW.findall((Path(tumortrace.__file__).parent / "README.md").read_text())


def test_the_readme_has_the_whole_family() -> None:
    assert [name for name, *_ in TABLE] == list(FAMILY)


@pytest.mark.parametrize(("name", "parameters", "gmac", "widths"), TABLE, ids=FAMILY)
def test_size_and_work_per_slice_are_as_the_readme_says(name: str, parameters: str, gmac: str, widths: str) -> None:
    config = family_config(name, in_channels=9)
    network = build_model(config).to("meta")
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 9, 256, 256, device="meta"))

    assert f"{sum(parameter.numel() for parameter in network.parameters()):,}" == parameters
    assert f"{counter.get_total_flops() / 2e9:.3f}" == gmac  # a multiply and an add are two operations
    assert ", ".join(map(str, config.widths)) == widths


def test_the_small_network_meets_its_budget_and_the_reference_its_paper() -> None:
    sizes = {name: int(parameters.replace(",", "")) for name, parameters, _, _ in TABLE}
    work = {name: float(gmac) for name, _, gmac, _ in TABLE}
    assert sizes["unet-s"] == pytest.approx(1.4e6, rel=0.05)
    assert 1.4 <= work["unet-s"] <= 1.5
    assert sizes["unet-l"] == pytest.approx(7.76e6, rel=0.001)


@pytest.mark.parametrize("name", FAMILY)
def test_logits_have_the_inputs_rows_and_columns(name: str) -> None:
    network = build_model(replace(family_config(name, in_channels=5), classes=2)).eval()
    with torch.inference_mode():
        logits = network(torch.randn(2, 5, 32, 48))

    assert logits.shape == (2, 2, 32, 48)
    assert logits.dtype == torch.float32


@pytest.mark.parametrize("name", COMPACT)
def test_compact_networks_hold_what_every_engine_runs_as_integers(name: str) -> None:
    network = build_model(family_config(name, in_channels=9))
    leaves = {type(module) for module in network.modules() if not list(module.children())}

    assert leaves == {nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Upsample, nn.PixelUnshuffle, nn.PixelShuffle}
    widths = {module.out_channels for module in network.modules() if isinstance(module, nn.Conv2d)}
    assert all(width % 16 == 0 for width in widths - {network.head.out_channels})


def test_the_classic_network_is_the_reference_with_transposed_convolution() -> None:
    network = build_model(family_config("unet-l", in_channels=9))
    assert sum(isinstance(module, nn.ConvTranspose2d) for module in network.modules()) == 4


@pytest.mark.parametrize("name", FAMILY)
def test_every_parameter_is_trained(name: str) -> None:
    network = build_model(family_config(name, in_channels=3))
    network(torch.randn(2, 3, 32, 32)).square().sum().backward()

    untouched = [name for name, parameter in network.named_parameters() if not parameter.grad.abs().sum() > 0]
    assert untouched == []


def test_training_begins_at_a_rare_foreground() -> None:
    torch.manual_seed(0)
    network = build_model(family_config("unet-xs", in_channels=3)).eval()
    with torch.inference_mode():
        probability = network(torch.randn(2, 3, 64, 64)).sigmoid().mean()

    assert 0.003 < probability < 0.03


@pytest.mark.parametrize("name", FAMILY)
def test_the_grid_must_be_a_multiple_of_the_reduction(name: str) -> None:
    config = family_config(name, in_channels=3)
    network = build_model(config).eval().to("meta")

    assert config.reduction == 16
    assert network(torch.zeros(1, 3, 16, 48, device="meta")).shape == (1, 1, 16, 48)
    with pytest.raises(RuntimeError):
        network(torch.zeros(1, 3, 24, 48, device="meta"))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"widths": (32, 40)}, "widths is .*two to eight multiples of 16"),
        ({"widths": (32, 0)}, "widths"),
        ({"widths": (32,)}, "widths"),
        ({"stem": 3}, "stem is 3; 1, 2 or 4 wanted"),
        ({"in_channels": 0}, "in_channels is 0"),
        ({"classes": 17}, "classes is 17"),
        ({"architecture": "transformer"}, "compact or classic"),
    ],
)
def test_a_shape_that_does_not_hold_is_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(SpecError, match=told):
        replace(FAMILY["unet-s"], **change)


def test_an_unknown_member_is_refused_with_those_that_are() -> None:
    with pytest.raises(SpecError, match="'unet-xl'; one of unet-xs, unet-s, unet-m, unet-l wanted"):
        family_config("unet-xl", in_channels=9)


def test_a_network_outside_the_family_can_be_built() -> None:
    network = build_model(ModelConfig("compact", in_channels=1, classes=1, widths=(16, 32), stem=1))
    assert network(torch.zeros(1, 1, 10, 6)).shape == (1, 1, 10, 6)
