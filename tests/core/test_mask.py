from __future__ import annotations

import io
import math

import pytest
import torch

from soc_ft.core import QuantileMask


def batches(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(40, generator=generator) * (i + 1) for i in range(count)]


def test_keeps_everything_before_the_first_update() -> None:
    """Breaks if the first batch is masked by a threshold that knows nothing."""
    mask = QuantileMask()
    assert mask.threshold == math.inf
    assert mask.keep(torch.tensor([0.0, 1e30])).all()


def test_threshold_is_the_bias_corrected_average() -> None:
    """Breaks if the average starts from zero uncorrected: it would mask nearly all."""
    mask = QuantileMask(quantile=0.5, decay=0.9)
    mask.update(torch.tensor([1.0, 4.0, 9.0]))
    assert mask.threshold == pytest.approx(2)
    mask.update(torch.tensor([16.0]))
    assert mask.threshold == pytest.approx((0.9 * 2 + 4) / 1.9)
    for _ in range(300):
        mask.update(torch.tensor([25.0]))
    assert mask.threshold == pytest.approx(5)


def test_masks_by_the_root_of_the_loss() -> None:
    """Breaks if losses are compared with the quantile of their roots."""
    mask = QuantileMask(quantile=1.0, decay=0.0)
    mask.update(torch.tensor([9.0]))
    assert mask.keep(torch.tensor([4.0, 9.0, 9.1, math.nan])).tolist() == [True, True, False, False]


def test_drops_the_share_above_the_quantile() -> None:
    """Breaks if the mask keeps another share of like batches than it was asked to, or all."""
    mask = QuantileMask(quantile=0.9)
    losses = torch.arange(101.0) ** 2
    mask.update(losses)
    assert mask.threshold == pytest.approx(90)
    assert mask.keep(losses).tolist() == [True] * 91 + [False] * 10
    mask.update(losses)
    assert mask.threshold == pytest.approx(90)


def test_does_not_depend_on_micro_batches_or_ranks() -> None:
    """Breaks if a threshold changes within a batch, or depends on the order of its samples."""
    whole, split = QuantileMask(), QuantileMask()
    for losses in batches(5):
        kept = torch.cat([split.keep(micro) for micro in losses.split(7)])
        assert torch.equal(whole.keep(losses), kept)
        whole.update(losses)
        split.update(losses.flip(0))
        assert whole.threshold == split.threshold


def test_overflow_does_not_disable_the_mask() -> None:
    """Breaks if one infinite or undefined loss poisons the average for good."""
    mask, clean = QuantileMask(), QuantileMask()
    mask.update(torch.tensor([1.0, math.inf, 4.0, math.nan]))
    mask.update(torch.tensor([math.nan]))
    clean.update(torch.tensor([1.0, 4.0]))
    assert mask.threshold == clean.threshold


def test_state_survives_a_safe_checkpoint() -> None:
    """Breaks if a resumed run forgets what was averaged or its checkpoint needs unsafe loading."""
    mask = QuantileMask()
    first, second, third = batches(3)
    mask.update(first)
    mask.update(second)
    file = io.BytesIO()
    torch.save(mask.state_dict(), file)
    file.seek(0)
    resumed = QuantileMask()
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert resumed.threshold == mask.threshold
    for each in (mask, resumed):
        each.update(third)
    assert resumed.threshold == mask.threshold


@pytest.mark.parametrize("arguments", [{"quantile": 0}, {"quantile": 1.1}, {"decay": 1}])
def test_bad_arguments_are_refused(arguments: dict[str, float]) -> None:
    """Breaks if a decay of one, which never learns a threshold, is accepted."""
    with pytest.raises(ValueError, match=next(iter(arguments))):
        QuantileMask(**arguments)
