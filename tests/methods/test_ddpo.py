"""DDPO against its formula, and where it converges to."""

from __future__ import annotations

import pytest
import torch

from soc_ft.methods import Round
from soc_ft.methods.ddpo import DDPO
from tests.methods.plane import Plane


def test_before_an_update_the_loss_is_minus_the_advantage() -> None:
    """Breaks if the stored density is not that of the policy that sampled: no ratio is 1."""
    plane = Plane()
    plane.move()
    batch = plane.round(DDPO(statistics="batch"), 0, 32)
    terms = DDPO(statistics="batch").loss(plane.problem, batch)
    rewards = batch.tensors["reward"]
    advantage = (rewards - rewards.mean()) / rewards.std(correction=0)
    torch.testing.assert_close(terms.loss.view(32, -1)[:, 0], -advantage, rtol=1e-3, atol=1e-3)
    assert terms.stats["ratio_change"].max() < 1e-5
    assert terms.stats["clipped_share"].max() == 0


def test_the_gradient_is_the_score_times_the_advantage() -> None:
    """Breaks if densities are of another step, or are summed over dimensions."""
    plane, method = Plane(), DDPO(statistics="batch")
    plane.move()
    batch = plane.round(method, 0, 16)
    (found,) = torch.autograd.grad(
        method.loss(plane.problem, batch).loss.sum(), plane.policies.weights
    )
    process, total = plane.problem.process, torch.zeros(())
    path = plane.states(0, 16)
    rewards = plane.problem.reward_of(path[:, -1], [""] * 16)
    advantage = (rewards - rewards.mean()) / rewards.std(correction=0)
    for k in range(process.num_steps):
        x = path[:, k]
        f = plane.policies.trained(x, process.times_of(k, x), batch.conditions)
        z = (path[:, k + 1] - process.mean(k, x, f)) / process.sigma[k]
        total = total + (advantage * (-z.square() / 2).sum(dim=1) / 2).sum()  # two dimensions
    (expected,) = torch.autograd.grad(-total, plane.policies.weights)
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("sign", [1, -1])
def test_ratios_beyond_the_clip_have_no_gradient_if_they_help_already(sign: int) -> None:
    """Breaks if the pessimistic side of the surrogate is the other, or the clip is one-sided."""
    plane, method = Plane(), DDPO(statistics="batch", clip=0.01)
    batch = plane.round(method, 0, 64)
    plane.move(sign * 0.3)
    terms = method.loss(plane.problem, batch)
    advantage = batch.at("advantage", batch.slot("steps"))
    ratio = -terms.loss.detach() / advantage
    helped = (ratio - 1) * advantage.sign()
    assert helped.max() < 0.0101
    assert helped.min() < -0.02, "what hurts is never clipped"
    assert 0 < float(terms.stats["clipped_share"].mean()) < 1


def test_advantages_are_clamped_and_leave_out_what_is_not_finite() -> None:
    """Breaks if one sample with a broken reward spoils the statistics of all."""
    plane, method = Plane(), DDPO(statistics="batch", advantage_clip=0.5)
    rewards = torch.tensor([0.0, 0.0, 0.0, 4.0, torch.nan])
    whole = Round(0, rewards, torch.tensor([1, 1, 1, 1, 0]).bool(), {}, ["a"] * 5, 1)
    found = method.prepare(plane.problem, whole)["advantage"]
    assert found.shape == (5, plane.problem.process.num_steps)
    assert found[3].tolist() == [0.5] * found.shape[1]
    torch.testing.assert_close(found[0, 0], torch.tensor(-0.5))
    assert (found[4] == 0).all()


def test_later_costs_count_against_a_transition() -> None:
    """Breaks if a step pays for what was decided before it, or not for what comes after."""
    plane, method = Plane(reward_scale=2.0), DDPO(kl=True, statistics="batch")
    K = plane.problem.process.num_steps
    costs = torch.zeros(2, K)
    costs[0, 5] = 3.0
    rewards = torch.tensor([1.0, -1.0])
    whole = Round(0, rewards, torch.ones(2).bool(), {"step_cost": costs}, ["a", "a"], 1)
    found = method.prepare(plane.problem, whole)
    scale = 2.0  # lambda times the deviation of the rewards
    assert found["advantage"][0, :5].tolist() == pytest.approx([1 - 1.5 / scale] * 5, rel=1e-4)
    assert found["advantage"][0, 5:].tolist() == pytest.approx([1.0] * (K - 5), rel=1e-4)
    assert found["cost_weight"].tolist() == pytest.approx([1 / scale] * 2, rel=1e-4)


def test_with_kl_it_samples_the_tilted_law_and_without_it_leaves_it() -> None:
    """Breaks if a cost is missing, counted twice or of the wrong sign: the mass of the modes would
    be another. Without the cost all mass goes to the best mode."""
    plane = Plane()
    assert plane.distance_to_tilt() > 0.4
    plane.train(DDPO(kl=True, statistics="batch", clip=1e3, advantage_clip=1e3), 80, 800, 0.03)
    assert plane.distance_to_tilt() < 0.09
    greedy = Plane()
    greedy.train(DDPO(statistics="batch", clip=1e3), 40, 500, 0.03)
    assert greedy.distance_to_tilt() > 0.2


def test_transitions_of_a_sample_may_be_some_of_all() -> None:
    """Breaks if a drawn transition gets the state or density of another."""
    plane = Plane()
    plane.move()
    whole = plane.round(DDPO(statistics="batch"), 0, 8)
    some = plane.round(DDPO(statistics="batch", transitions=3), 0, 8)
    places = some.slot("places")
    k = some.slot("steps")
    assert len(k) == 24
    rows = some.rows
    for name in ("states", "next_states", "old_log_density"):
        assert torch.equal(some.at(name, places), whole.tensors[name][rows, k])
    assert not torch.equal(k.view(8, 3)[0], k.view(8, 3)[1])
