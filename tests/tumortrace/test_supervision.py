from __future__ import annotations

import pytest
import torch

from tumortrace.losses import bce_loss
from tumortrace.model import FAMILY
from tumortrace.supervision import Supervised, supervised_loss


@pytest.mark.parametrize("name", FAMILY)
def test_every_decoder_level_but_the_finest_gives_logits(name: str) -> None:
    config = FAMILY[name]
    network = Supervised(config, deep=True).train()
    logits = network(torch.randn(1, 9, 64, 96))

    assert [tuple(one.shape[:2]) for one in logits] == [(1, 1)] * (len(config.widths) - 1)
    rows = [one.shape[2] for one in logits]
    assert rows[0] == 64
    assert rows[1:] == [64 // config.stem >> level for level in range(len(config.widths) - 2, 0, -1)]


def test_the_first_logits_are_the_networks_own() -> None:
    network = Supervised(FAMILY["unet-xs"], deep=True)
    plain = Supervised(FAMILY["unet-xs"], deep=False)
    plain.network.load_state_dict(network.network.state_dict())
    batch = torch.randn(2, 9, 64, 64)
    torch.testing.assert_close(network.train()(batch)[0], plain.train()(batch)[0])
    (evaluated,) = network.eval()(batch)
    torch.testing.assert_close(evaluated, plain.network.eval()(batch))


def test_coarser_logits_count_with_their_weight() -> None:
    truth = torch.zeros(1, 1, 8, 8)
    truth[..., :4] = 1
    fine, coarse = torch.zeros(1, 1, 8, 8), torch.full((1, 1, 2, 2), 3.0)
    expected = bce_loss(fine, truth) + 0.25 * bce_loss(torch.full_like(truth, 3.0), truth)

    assert supervised_loss([fine, coarse], truth, bce_loss, 0.25) == pytest.approx(expected.item())
    assert supervised_loss([fine, coarse, coarse], truth, bce_loss, 0.25) == pytest.approx(expected.item())
    assert supervised_loss([fine], truth, bce_loss, 0.25) == bce_loss(fine, truth)
