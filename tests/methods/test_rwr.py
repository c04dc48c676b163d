"""Reward-weighted regression against its formula."""

from __future__ import annotations

import torch

from soc_ft.methods.rwr import RWR
from tests.methods.plane import Plane

COUNT = 12


def test_rwr_weighs_the_error_of_the_output() -> None:
    """Breaks if weights do not have mean one, rise with a worse reward, or the error is that of the
    clean prediction."""
    plane, method = Plane(), RWR(levels=2, temperature=0.7)
    plane.move()
    batch = plane.round(method, 0, COUNT)
    terms = method.loss(plane.problem, batch)
    process = plane.problem.process
    r = batch.tensors["reward"].double()
    weights = ((r - r.mean()) / r.std(correction=0) / 0.7).exp()
    weights = weights / weights.mean()
    k = (batch.uniform("level", ()) * process.num_steps).long()
    noise = batch.normal("noise", (2,))
    clean = plane.states(0, COUNT)[batch.rows, -1]
    x = process.signal[k].float()[:, None] * clean + process.noise[k].float()[:, None] * noise
    f = plane.policies.trained(x, process.times_of(k, x), batch.condition)
    expected = weights.float()[batch.rows] * (f - noise).square().mean(dim=1)
    torch.testing.assert_close(terms.loss, expected, rtol=2e-3, atol=1e-4)


def test_rwr_moves_towards_the_better_pictures() -> None:
    """Breaks if better pictures do not pull harder than worse ones."""
    plane = Plane()
    before = plane.problem.reward_of(plane.samples(4000), [""] * 4000).mean()
    plane.train(RWR(temperature=0.5), rounds=15, batch=300, lr=0.03)
    after = plane.problem.reward_of(plane.samples(4000), [""] * 4000).mean()
    assert after - before > 0.15
