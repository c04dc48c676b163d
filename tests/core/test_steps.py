from __future__ import annotations

import pytest
import torch

from soc_ft.core import (
    Strata,
    at_steps,
    draw_steps,
    inclusion_weights,
    kept_steps,
    normal,
    uniform,
)

REFERENCE = Strata()


def keys(samples: int, num_steps: int) -> torch.Tensor:
    return uniform((samples, num_steps), 0, "steps", [(0,)])[0]


def test_half_early_half_late_without_replacement() -> None:
    """Breaks if the reference recipe (2 of the first 60 %, 2 of the last 40 %) is not met."""
    steps = draw_steps(keys(500, 50), 4, REFERENCE)
    assert steps.shape == (500, 4)
    assert steps.dtype == torch.int64
    assert ((steps < 30).sum(dim=1) == 2).all()
    assert (steps.diff(dim=1) > 0).all()
    assert steps.min() == 0
    assert steps.max() == 49


def test_steps_of_a_segment_are_kept_equally_often() -> None:
    """Breaks if the regression is weighted towards some steps: 4.5 standard errors."""
    samples = 20_000
    kept = (
        torch.bincount(draw_steps(keys(samples, 10), 5, REFERENCE).flatten(), minlength=10)
        / samples
    )
    expected = torch.tensor([2 / 6] * 6 + [3 / 4] * 4)
    assert ((kept - expected).abs() < 4.5 * (expected * (1 - expected) / samples).sqrt()).all()


def test_is_a_function_of_the_keys_of_each_sample() -> None:
    """Breaks if the batch, or hidden randomness, changes what is drawn."""
    drawn = draw_steps(keys(30, 12), 5, REFERENCE)
    assert torch.equal(
        drawn, torch.cat([draw_steps(row[None], 5, REFERENCE) for row in keys(30, 12)])
    )
    assert torch.equal(drawn.view(5, 6, 5), draw_steps(keys(30, 12).view(5, 6, 12), 5, REFERENCE))


def test_smallest_keys_win() -> None:
    """Breaks if the rule changes: resumed runs would regress on other steps."""
    row = torch.tensor([0.5, 0.1, 0.9, 0.2, 0.3, 0.4])
    assert draw_steps(row, 3, Strata(0.5, 0.5)).tolist() == [1, 3, 4]


@pytest.mark.parametrize(
    ("count", "fraction", "share", "early"),
    [
        (10, 0.6, 0.5, 6),  # all steps, though the late segment holds only 4
        (9, 0.6, 0.5, 5),  # the late surplus of one goes to the early segment
        (8, 0.2, 0.5, 2),  # the early surplus goes to the late segment
        (1, 0.6, 0.5, 0),  # half of one is rounded down
        (3, 0.6, 1.0, 3),
        (3, 0.0, 0.5, 0),
        (3, 1.0, 0.5, 3),
    ],
)
def test_segments_that_are_too_small(count: int, fraction: float, share: float, early: int) -> None:
    """Breaks if fewer steps come back than asked for, or one twice."""
    boundary = round(10 * fraction)
    steps = draw_steps(keys(50, 10), count, Strata(fraction, share))
    assert steps.shape == (50, count)
    assert (steps.diff(dim=1) > 0).all()
    assert ((steps < boundary).sum(dim=1) == early).all()


def test_share_is_exact_in_decimals() -> None:
    """Breaks if 0.29 * 100 counts as 28 because of binary rounding."""
    steps = draw_steps(keys(1, 200), 100, Strata(0.5, 0.29))
    assert (steps < 100).sum() == 29


@pytest.mark.parametrize(("count", "fraction"), [(5, 0.6), (9, 0.6), (10, 0.6), (8, 0.2)])
def test_inclusion_weights_make_sums_over_drawn_steps_unbiased(count: int, fraction: float) -> None:
    """Breaks if the weights are not the inverse of how often a step is drawn."""
    quantity = torch.arange(1.0, 11.0, dtype=torch.float64) ** 2
    steps = draw_steps(keys(20_000, 10), count, Strata(fraction))
    weights = inclusion_weights(10, count, Strata(fraction))
    estimates = (quantity * weights)[steps].sum(dim=1)
    standard_error = estimates.std() / len(estimates) ** 0.5
    assert abs(estimates.mean() - quantity.sum()) <= 4 * standard_error + 1e-9


def test_steps_that_are_never_drawn_have_infinite_weight() -> None:
    """Breaks if the sum over all steps seems to be estimated though a segment is never seen."""
    weights = inclusion_weights(10, 1, REFERENCE)
    assert weights[:6].isinf().all()
    assert weights[6:].tolist() == [4.0] * 4


def by_loops(values: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    """What :func:`at_steps` has to find, one entry at a time."""
    found = torch.stack(
        [values[i, k] for i, row in enumerate(steps.view(len(steps), -1).tolist()) for k in row]
    )
    return found.view(*steps.shape, *values.shape[2:])


@pytest.mark.parametrize("latent", [(), (2,), (2, 3, 3)])
@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 2, 3)])
def test_each_sample_is_read_at_its_own_steps(
    shape: tuple[int, ...], latent: tuple[int, ...]
) -> None:
    """Breaks if a sample is read at the steps of another one, or passes are mixed up."""
    values = normal((6, *latent), 0, "values", [(i,) for i in range(4)])
    steps = (6 * uniform(shape[1:], 0, "steps", [(i,) for i in range(4)])).long()
    found = at_steps(values, steps)
    assert found.shape == (*shape, *latent)
    assert torch.equal(found, by_loops(values, steps))


@pytest.mark.parametrize("num_steps", [5, 7])
@pytest.mark.parametrize("passes", [None, 1, 2, 3])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_stored_steps_hold_all_drawn_ones(count: int, passes: int | None, num_steps: int) -> None:
    """Breaks if a drawn step is not stored, sought elsewhere, or more is stored than needed."""
    samples = [(i,) for i in range(6)]
    shape = (num_steps,) if passes is None else (passes, num_steps)
    steps = draw_steps(uniform(shape, 0, "steps", samples), count, REFERENCE)
    values = normal((num_steps, 2, 3), 0, "values", samples)
    kept, places = kept_steps(steps, num_steps)
    assert kept.shape == (6, min(count * (passes or 1), num_steps))
    assert kept.dtype == places.dtype == torch.int64
    assert places.shape == steps.shape
    assert torch.equal(at_steps(kept, places), steps)
    stored = at_steps(values, kept)
    assert torch.equal(at_steps(stored, places), by_loops(values, steps))


def test_all_steps_are_stored_once_when_draws_are_as_many() -> None:
    """Breaks if steps that several passes draw are stored several times over."""
    steps = torch.tensor([[[3, 1, 1], [0, 3, 3]]])
    kept, places = kept_steps(steps, 4)
    assert kept.tolist() == [[0, 1, 2, 3]]
    assert torch.equal(places, steps)
    kept, places = kept_steps(steps, 6)
    assert kept.tolist() == [[0, 1, 2, 3, 4, 5]]
    assert torch.equal(places, steps)
    kept, places = kept_steps(steps, 7)
    assert kept.tolist() == [[3, 1, 1, 0, 3, 3]]
    assert places.tolist() == [[[0, 1, 2], [3, 4, 5]]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "count"),
        ({"count": 11}, "count"),
        ({"count": 3, "early_fraction": 1.5}, "early_fraction"),
        ({"count": 3, "early_share": -0.1}, "early_share"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict, message: str) -> None:
    """Breaks if more steps than there are come back short."""
    with pytest.raises(ValueError, match=message):
        draw_steps(keys(2, 10), arguments.pop("count"), Strata(**arguments))
