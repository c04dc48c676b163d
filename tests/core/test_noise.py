from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from soc_ft.core import normal, seed_for, uniform

Draw = Callable[..., Tensor]


def test_seed_is_a_fixed_function_of_its_address() -> None:
    """Breaks if the hash changes: resumed runs would then leave their own path."""
    assert seed_for(0, "trajectory", 1, 2) == 2604839401070667476
    assert seed_for(0, "trajectory") == 1855507284037577213


def test_seeds_fit_a_generator_and_do_not_repeat() -> None:
    """Breaks if addresses are concatenated ambiguously, e.g. (1, 23) and (12, 3), or truncated."""
    seeds = {
        seed_for(seed, stream, *address)
        for seed in (0, 1)
        for stream in ("a", "a1")
        for address in [
            (),
            *((i,) for i in range(130)),
            *((i, j) for i in range(30) for j in (1, 23)),
        ]
    }
    assert len(seeds) == 2 * 2 * (1 + 130 + 60)
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize("draw", [normal, uniform])
def test_row_depends_on_its_address_only(draw: Draw) -> None:
    """Breaks if rows share a generator: batch splits or ranks would then change the noise."""
    addresses = [(3, i) for i in range(6)]
    together = draw((2, 5), 7, "x", addresses)
    split = torch.cat([draw((2, 5), 7, "x", addresses[:1]), draw((2, 5), 7, "x", addresses[1:])])
    assert together.shape == (6, 2, 5)
    assert torch.equal(together, split)
    assert torch.equal(together.flip(0), draw((2, 5), 7, "x", addresses[::-1]))


@pytest.mark.parametrize("draw", [normal, uniform])
def test_another_seed_stream_or_address_gives_uncorrelated_draws(draw: Draw) -> None:
    """Breaks if a part of the address is ignored: noise would repeat over rounds or uses."""
    size = 10_000
    rows = [
        draw((size,), seed, stream, [address], dtype=torch.float64)[0]
        for seed, stream, address in [
            (0, "x", (0, 0)),
            (1, "x", (0, 0)),
            (0, "y", (0, 0)),
            (0, "x", (1, 0)),
            (0, "x", (0, 1)),
        ]
    ]
    correlation = torch.corrcoef(torch.stack(rows)) - torch.eye(len(rows))
    assert correlation.abs().max() < 4.5 / size**0.5


def test_draws_follow_their_distribution() -> None:
    """Breaks if the variance of the noise, which the theory fixes, is not one."""
    addresses = [(i,) for i in range(200)]
    z = normal((1000,), 0, "x", addresses)
    assert abs(z.mean()) < 0.01
    assert abs(z.std() - 1) < 0.01
    u = uniform((1000,), 0, "x", addresses)
    assert u.min() >= 0
    assert u.max() < 1
    assert abs(u.mean() - 0.5) < 0.005


def test_dtype_and_empty_batch() -> None:
    """Breaks if the dtype is ignored or a rank without samples fails."""
    assert normal((3,), 0, "x", [(0,)], dtype=torch.float64).dtype == torch.float64
    assert normal((3,), 0, "x", []).shape == (0, 3)
