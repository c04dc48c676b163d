"""The lengthening of cut targets, on targets whose mean is known."""

from __future__ import annotations

import pytest
import torch

from soc_ft.core import ClipCorrection


def one_step(*pairs: tuple[float, float], decay: float = 0.98) -> ClipCorrection:
    """After the pairs (y . u, c . u) of step 0, an optimizer step each."""
    correction = ClipCorrection(decay)
    for whole, cut in pairs:
        correction.update(torch.tensor([0]), torch.tensor([whole]), torch.tensor([cut]))
    return correction


def test_a_worked_case() -> None:
    """Breaks if a sum is of something else: (y, c) = (3, 1), (2, 1): R = 3, M = 2, V = 4 + 1."""
    correction = ClipCorrection()
    correction.update(torch.tensor([4, 4]), torch.tensor([3.0, 2.0]), torch.tensor([1.0, 1.0]))
    assert correction.factor(4) == pytest.approx(1 + 3 * 2 / (2**2 + 5))
    assert correction.factor(3) == 1.0


def test_older_optimizer_steps_count_less() -> None:
    """Breaks if the variance of a weighted sum is summed with the weight, not its square: after
    decay 0.5, R = 0.5 * 2 + 1, M = 0.5 + 1, V = 0.25 * 4 + 1."""
    assert one_step((3.0, 1.0), (2.0, 1.0), decay=0.5).factor(0) == pytest.approx(1 + 3 / 4.25)


def test_nothing_is_lengthened_before_anything_is_known() -> None:
    """Breaks if a control of zero, as in the first optimizer step, divides by zero."""
    assert ClipCorrection().factor(0) == 1.0
    assert one_step((0.0, 0.0)).factor(0) == 1.0


def test_nothing_is_ever_shortened() -> None:
    """Breaks if an unlucky round turns targets round."""
    assert one_step((-5.0, 1.0)).factor(0) == 1.0


def test_a_single_long_target_moves_little() -> None:
    """Breaks if an outlier, which is why targets are cut, decides the factor: after a hundred pairs
    that lack as much as they have, one that lacks a thousand times as much."""
    usual = one_step(*[(2.0, 1.0)] * 100, decay=0.99)
    before = usual.factor(0)
    assert 1.8 < before < 2.0
    usual.update(torch.tensor([0]), torch.tensor([1001.0]), torch.tensor([1.0]))
    assert 1.0 < usual.factor(0) < before


def test_the_mean_along_the_control_is_restored() -> None:
    """Breaks if the factor is not that of the means: targets in 20 dimensions with noise of
    Student's t, cut at their median length; u is half of the mean, as a control that lags."""
    generator = torch.Generator().manual_seed(0)
    mean = torch.full((20,), 0.3, dtype=torch.float64)
    correction, kept = ClipCorrection(decay=0.999), []
    for _ in range(50):
        chi = torch.randn(400, 3, generator=generator, dtype=torch.float64).square().mean(1)
        noise = torch.randn(400, 20, generator=generator, dtype=torch.float64)
        y = mean + noise / chi.sqrt()[:, None]
        length = y.norm(dim=1)
        c = y * (length.median() / length).clamp(max=1)[:, None]
        correction.update(torch.zeros(400, dtype=torch.long), y @ mean / 2, c @ mean / 2)
        kept.append(float(c.mean(0) @ mean))
    present, wanted = sum(kept) / len(kept), float(mean @ mean)
    assert present < 0.9 * wanted
    assert correction.factor(0) * present == pytest.approx(wanted, rel=0.05)


def test_the_state_goes_through_a_checkpoint() -> None:
    """Breaks if a resumed run starts with short targets again."""
    first, second = one_step((3.0, 1.0)), ClipCorrection()
    second.load_state_dict(first.state_dict())
    for each in (first, second):
        each.update(torch.tensor([0]), torch.tensor([2.0]), torch.tensor([1.0]))
    assert first.factor(0) == second.factor(0) != 1.0


def test_a_decay_of_one_is_refused() -> None:
    """Breaks if sums that never forget are taken for sums that forget."""
    with pytest.raises(ValueError, match="decay"):
        ClipCorrection(1.0)
