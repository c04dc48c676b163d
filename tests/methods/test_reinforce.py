"""REINFORCE against its formula, the gradient that it estimates, and where it converges to."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import Tensor

from soc_ft import core
from soc_ft.methods import Batch, Request, Round
from soc_ft.methods.reinforce import Reinforce
from tests.core.closed_forms import no_condition
from tests.methods.plane import Plane

MANY = 20_000


def moved(num_steps: int = 12) -> Plane:
    plane = Plane(num_steps=num_steps)
    plane.move()
    return plane


def test_it_is_its_formula() -> None:
    """Breaks if a reward is compared with itself or with another group, the sign is turned, or a
    transition gets the density of another or of the wrong policy."""
    method, sampled, now = Reinforce(group_size=3), moved(), moved()
    now.move(0.1)
    batch = sampled.round(method, 0, 6)
    path, process = sampled.states(0, 6), sampled.problem.process
    found = method.loss(now.problem, batch).loss
    r = path[:, -1] @ now.mixture.tilt / 4
    others = [(1, 2), (0, 2), (0, 1), (4, 5), (3, 5), (3, 4)]
    for pair in range(len(batch)):
        row, k = int(batch.rows[pair]), int(batch.slot("steps")[pair])
        x, after = path[row, k][None], path[row, k + 1]
        one, other = others[row]
        log_p = []
        for plane in (now, sampled):
            f = plane.policies.trained(x, process.times_of(k, x), no_condition(1))
            z = (after - process.mean(k, x, f)[0]) / process.sigma[k]
            log_p.append(-z.square().sum() / 2)
        advantage = r[row] - (r[one] + r[other]) / 2
        expected = -advantage * (log_p[0] - log_p[1]) / 2  # two dimensions
        torch.testing.assert_close(found[pair], expected.float(), rtol=2e-3, atol=1e-4)
    assert found.abs().max() > 0.01


def gradient_of_expected_reward(plane: Plane) -> Tensor:
    """By autograd through whole trajectories, which the reward's linearity leaves little noise."""
    K = plane.problem.process.num_steps
    noise = core.normal((K + 1, 2), 0, "others", [(0, i) for i in range(MANY)])
    end, _ = core.differentiable_rollout(
        plane.policies.trained,
        plane.problem.process,
        no_condition(MANY),
        noise[:, 0],
        noise[:, 1:],
    )
    reward = (end @ plane.mixture.tilt).mean() / 4
    (gradient,) = torch.autograd.grad(reward, plane.policies.weights)
    return gradient


def estimate(
    plane: Plane, method: Reinforce, batch: Batch, weights: Tensor | None = None
) -> Tensor:
    """The gradient of the expected reward by the losses of all pairs."""
    loss = method.loss(plane.problem, batch).loss
    mean = (loss if weights is None else loss * weights).mean()
    (gradient,) = torch.autograd.grad(mean, plane.policies.weights)
    return -gradient * plane.problem.process.num_steps * 2  # dimensions


def length_along(found: Tensor, expected: Tensor) -> float:
    """1 if the part of ``found`` along ``expected`` is as long."""
    return float((found * expected).sum() / expected.square().sum())


@pytest.mark.parametrize(("group_size", "transitions"), [(1, None), (2, None), (4, 3)])
def test_its_gradient_is_that_of_the_expected_reward(
    group_size: int, transitions: int | None
) -> None:
    """Breaks if a sample's own reward is in its baseline (half the length in groups of two), if
    advantages are divided by a deviation, or steps are not drawn alike."""
    plane, method = moved(4), Reinforce(group_size=group_size, transitions=transitions)
    found = estimate(plane, method, plane.round(method, 0, MANY))
    expected = gradient_of_expected_reward(plane)
    assert length_along(found, expected) == pytest.approx(1, abs=0.03)
    assert torch.cosine_similarity(found.flatten(), expected.flatten(), dim=0) > 0.995
    for k in (0, 1):  # the later steps' gradients are small
        assert length_along(found[k], expected[k]) == pytest.approx(1, abs=0.06), k


def test_weighted_samples_of_an_earlier_policy_give_the_gradient_of_the_current_one() -> None:
    """Breaks if the ratio is upside down or of other transitions than those asked for; without
    weights the gradient is another, which is why that is refused."""
    plane, method = Plane(num_steps=4), Reinforce()
    batch = plane.round(method, 0, MANY)
    plane.move(0.2)
    expected = gradient_of_expected_reward(plane)
    rows = torch.arange(MANY).repeat_interleave(4)
    ratios = method.log_ratio(
        plane.problem, replace(batch, rows=rows), torch.arange(4).repeat(MANY)
    )
    weights = core.normalised_weights(core.span_log_weights(ratios.view(MANY, 4), "path"))
    found = estimate(plane, method, batch, weights.flatten())
    assert float((found - expected).norm() / expected.norm()) < 0.15
    assert float((estimate(plane, method, batch) - expected).norm() / expected.norm()) > 0.8


def test_it_goes_to_the_best_mode_and_leaves_the_others() -> None:
    """Breaks if the sign is turned, or anything holds it back from the largest reward."""
    plane = Plane()
    before = plane.mixture.mode_weights(plane.samples())
    plane.train(Reinforce(), 40, 500, 0.03)
    after = plane.mixture.mode_weights(plane.samples())
    best = int((plane.mixture.base.means @ plane.mixture.tilt).argmax())
    assert before[best] < 0.35
    assert after[best] > 0.9


def test_what_is_not_finite_is_compared_with_nothing() -> None:
    """Breaks if one broken reward spoils its group, or a sample left alone counts in full."""
    plane, method = Plane(), Reinforce(group_size=3)
    rewards = torch.tensor([1.0, 4.0, torch.nan, 5.0, torch.nan, torch.inf])
    whole = Round(0, rewards, rewards.isfinite(), {}, ["a"] * 3 + ["b"] * 3, 3)
    found = method.prepare(plane.problem, whole)["advantage"]
    assert found.tolist() == [-3, 3, 0, 0, 0, 0]
    alike = method.prepare(plane.problem, replace(whole, group_size=1))["advantage"]
    assert alike.tolist() == pytest.approx([-3.5, 1, 0, 2.5, 0, 0])


def test_groups_of_one_are_compared_with_the_round() -> None:
    """Breaks if a sample without a group is compared with itself: it would teach nothing."""
    whole = Round(0, torch.tensor([0.0, 3.0, 6.0]), torch.ones(3).bool(), {}, ["a", "b", "c"], 1)
    found = Reinforce().prepare(Plane().problem, whole)["advantage"]
    assert found.tolist() == [-4.5, 0, 4.5]


@pytest.mark.parametrize("asked", ["own", "all"])
def test_transitions_of_a_sample_may_be_some_of_all(asked: Literal["own", "all"]) -> None:
    """Breaks if a drawn transition gets the state, output or noise of another, or what weights
    need is not kept."""
    plane, method = moved(), Reinforce(transitions=3)
    K = plane.problem.process.num_steps
    addresses = [(0, i) for i in range(8)]
    request = Request(["a"] * 8, no_condition(8), (2,), 0, addresses, 2, transitions=asked)
    found, path = method.collect(plane.problem, request).tensors, plane.states(0, 8)
    steps, places = found["steps"], found["places"]
    assert steps.shape == (8, 2, 3)
    assert not torch.equal(steps[:, 0], steps[:, 1])
    kept = found["states"].shape[1]
    assert kept == (K if asked == "all" else 6)
    noise = core.normal((K + 1, 2), 0, "trajectory", addresses)[:, 1:]
    for row in range(8):
        k, place = steps[row].flatten(), places[row].flatten()
        assert torch.equal(found["states"][row, place], path[row, k])
        assert torch.equal(found["noise"][row, place], noise[row, k])
        x = path[row, k]
        f = plane.policies.trained(x, plane.problem.process.times_of(k, x), no_condition(6))
        torch.testing.assert_close(found["predictions"][row, place], f, rtol=1e-4, atol=1e-5)
