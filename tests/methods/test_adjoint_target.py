"""Annealed, cut and lengthened adjoints, against their formulas and on the plane."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from soc_ft import core
from soc_ft.errors import ConfigError
from soc_ft.methods.adjoint_matching import AdjointMatching
from tests.methods.plane import Plane


def test_an_annealed_lambda_rises_and_scales_the_adjoint() -> None:
    """Breaks if the adjoint keeps the last lambda, lambda rises in every round, or a resumed run
    starts from zero."""
    plane = Plane()
    options = {"regression_steps": 12, "prompt_dropout": 0.0, "mask_quantile": None}
    method = AdjointMatching(**options, adjoint_batch=500, anneal=0.05, anneal_hold=2)
    free = AdjointMatching(**options, adjoint_batch=500)
    seen = []
    for number in range(3):
        batch = plane.round(method, number, 200)
        seen.append(method.target.strength)
    rewards = plane.found.rewards if plane.found else torch.zeros(0)
    assert 0 < seen[0] == seen[1] < seen[2] < plane.problem.reward_scale
    assert seen[2] == core.next_strength(rewards, seen[1], plane.problem.reward_scale, 0.05)
    share = seen[2] / plane.problem.reward_scale
    # Before the first step of training the control is zero: the losses are ||sigma_k a||^2.
    scaled = method.loss(plane.problem, batch).loss
    whole = free.loss(plane.problem, plane.round(free, 2, 200)).loss
    torch.testing.assert_close(scaled, share**2 * whole)
    assert method.finish_step(scaled.detach(), {}) == {"lambda": seen[2]}
    cut, cut_scaled = (
        AdjointMatching(**options, adjoint_batch=500, adjoint_clip=1.0, anneal=anneal)
        for anneal in (None, 0.05)
    )
    one, other = (each.loss(plane.problem, plane.round(each, 0, 200)) for each in (cut, cut_scaled))
    share = cut_scaled.target.strength / plane.problem.reward_scale
    torch.testing.assert_close(other.loss, share**2 * one.loss)
    resumed = AdjointMatching(**options, adjoint_batch=500, anneal=0.05)
    resumed.load_state_dict(method.state_dict())
    assert resumed.target.strength == seen[2]


def test_annealing_ends_at_the_same_tilt() -> None:
    """Breaks if lambda stops short of what was asked for."""
    plane = Plane()
    method = AdjointMatching(
        regression_steps=12,
        prompt_dropout=0.0,
        mask_quantile=None,
        adjoint_batch=1000,
        anneal=0.3,
        anneal_hold=3,
    )
    plane.train(method, rounds=45, batch=300, lr=0.04)
    assert method.target.strength == plane.problem.reward_scale
    assert plane.distance_to_tilt() < 0.1


CUT = {
    "regression_steps": 12,
    "prompt_dropout": 0.0,
    "mask_quantile": None,
    "adjoint_batch": 1000,
    "adjoint_clip": 0.5,
}
"""All adjoints are cut to the length of half of the median."""


def test_cut_adjoints_are_lengthened_to_the_tilt() -> None:
    """Breaks if cutting alone did no harm here, or the correction does not undo it: the share of a
    mode is off by less than half of what it is without."""
    distances = []
    for correction in (False, True):
        plane = Plane()
        method = AdjointMatching(**CUT, clip_correction=correction)
        plane.train(method, rounds=45, batch=300, lr=0.04)
        distances.append(plane.distance_to_tilt())
    assert distances[0] > 0.2
    assert distances[1] < distances[0] / 2


def test_the_correction_is_that_of_each_step() -> None:
    """Breaks if factors are mixed up between steps, lengthen the control too, or are learned along
    something else than the control; later passes, whose control knows the noise, teach nothing."""
    plane = Plane()
    plane.move()
    method = AdjointMatching(**CUT, clip_correction=True)
    batch = plane.round(method, 0, 50)
    terms = method.loss(plane.problem, batch)
    method.finish_step(terms.loss.detach(), terms.notes)
    assert method.target.correction is not None

    process = plane.problem.process
    k, place = batch.slot("steps"), batch.slot("places")
    x, sigma = batch.at("states", place), process.sigma_of(k, batch.at("states", place))
    t = process.times_of(k, x)
    trained, base = (
        policy(x, t, batch.condition) for policy in (plane.policies.trained, plane.policies.base)
    )
    u = core.control(trained, base, process.control_gain_of(k, x)).detach()
    whole = -sigma * batch.at("adjoints", place)
    length = whole.norm(dim=1)
    limit = length.view(50, 12).sort(dim=0).values[24].repeat(50) / 2
    cut = whole * (limit / length).clamp(max=1)[:, None]
    expected = core.ClipCorrection()
    expected.update(k, (whole * u).sum(1), (cut * u).sum(1))
    factors = torch.tensor([expected.factor(int(step)) for step in k])
    assert (factors > 1.1).any()
    assert (factors < 1.1).any()
    again = method.loss(plane.problem, batch)
    torch.testing.assert_close(
        again.loss, (u - factors[:, None] * cut).square().sum(1), rtol=1e-3, atol=1e-5
    )
    twice = {**batch.tensors, **{n: batch.tensors[n].repeat(1, 2, 1) for n in ("steps", "places")}}
    twice["without_prompt"] = batch.tensors["without_prompt"].repeat(1, 2)
    assert not method.loss(plane.problem, replace(batch, tensors=twice, pass_index=1)).notes


def test_a_resumed_correction_goes_on() -> None:
    """Breaks if a resumed run starts with cut adjoints again."""
    plane = Plane()
    plane.move()
    method, resumed = (AdjointMatching(**CUT, clip_correction=True) for _ in range(2))
    terms = method.loss(plane.problem, plane.round(method, 0, 50))
    method.finish_step(terms.loss.detach(), terms.notes)
    resumed.load_state_dict(method.state_dict())
    assert resumed.target.correction is not None
    assert method.target.correction is not None
    assert [resumed.target.correction.factor(k) for k in range(12)] == [
        method.target.correction.factor(k) for k in range(12)
    ]


def test_there_is_nothing_to_correct_without_a_cut() -> None:
    """Breaks if the option is taken and does nothing."""
    method = AdjointMatching(clip_correction=True)
    with pytest.raises(ConfigError, match="adjoint_clip"):
        method.pairs_per_sample(10)
