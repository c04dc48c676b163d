"""Methods that follow the reward's gradient through sampling, against autograd of the whole."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from soc_ft import core
from soc_ft.methods import Method
from soc_ft.methods.alignprop import AlignProp
from soc_ft.methods.continuous_adjoint import ContinuousAdjoint
from soc_ft.methods.discrete_adjoint import DiscreteAdjoint
from soc_ft.methods.draft import DRaFT
from soc_ft.methods.drtune import DRTune
from soc_ft.methods.refl import ReFL
from tests.core.closed_forms import no_condition
from tests.methods.plane import Plane

COUNT = 24


@pytest.fixture
def plane() -> Plane:
    """A policy off the base model, and a reward that is not linear."""
    plane = Plane()
    plane.move()
    plane.problem.reward = Bump()
    return plane


class Bump:
    """exp(-|x|^2): its gradient depends on where x is."""

    name = "bump"
    differentiable = True

    def __call__(self, images: Tensor, prompts: object) -> Tensor:
        return (-images.square().sum(dim=1)).exp()

    def to(self, device: object) -> Bump:
        return self


def gradient(plane: Plane, loss: Tensor) -> Tensor:
    return torch.autograd.grad(loss.sum(), plane.policies.weights)[0]


def found(plane: Plane, method: Method) -> Tensor:
    return gradient(plane, method.loss(plane.problem, plane.round(method, 0, COUNT)).loss)


def chain(plane: Plane, first: int = 0, *, cost: bool = False) -> tuple[Tensor, Tensor]:
    """x_K with all its graph from a step on, written down, and the control costs of these steps."""
    process = plane.problem.process
    states = plane.states(0, COUNT)
    shape = (process.num_steps + 1, 2)
    noise = core.normal(shape, 0, "trajectory", [(0, i) for i in range(COUNT)])
    x, total, condition = states[:, first], torch.zeros(COUNT), no_condition(COUNT)
    for k in range(first, process.num_steps):
        t = process.times_of(k, x)
        f = plane.policies.trained(x, t, condition)
        if cost:
            change = process.control_gain[k].float() * (f - plane.policies.base(x, t, condition))
            total = total + change.square().sum(dim=1) / 2
        x = process.mean(k, x, f) + process.sigma[k].float() * noise[:, k + 1]
    return x, total


@pytest.mark.parametrize("last", [1, 4, None])
def test_draft_is_the_gradient_of_the_reward_through_the_last_steps(
    plane: Plane, last: int | None
) -> None:
    """Breaks if the chain is cut elsewhere, or the reward's gradient is of another sample."""
    first = 0 if last is None else plane.problem.process.num_steps - last
    end, _ = chain(plane, first)
    expected = gradient(plane, -Bump()(end, None))
    torch.testing.assert_close(found(plane, DRaFT(last=last)), expected, rtol=1e-3, atol=1e-4)


def test_copies_are_clean_predictions_of_the_noised_sample(plane: Plane) -> None:
    """Breaks if DRaFT-LV differentiates through the sample that it noises, or weighs it anew."""
    process, copies = plane.problem.process, 2
    k = process.num_steps - 1
    end, _ = chain(plane, k)
    total = -Bump()(end, None)
    noise = core.normal((copies, 2), 0, "copies", [(0, i) for i in range(COUNT)])
    for copy in noise.unbind(dim=1):
        x = process.signal[k].float() * end.detach() + process.noise[k].float() * copy
        f = plane.policies.trained(x, process.times_of(k, x), no_condition(COUNT))
        total = total - Bump()(process.clean(k, x, f), None)
    expected = gradient(plane, total / (1 + copies))
    actual = found(plane, DRaFT(variance_copies=copies))
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-4)


def test_the_discrete_adjoint_is_the_gradient_of_the_objective(plane: Plane) -> None:
    """Breaks if lambda or the control cost is lost, or the cost's dependence on the states is."""
    end, cost = chain(plane, cost=True)
    expected = gradient(plane, cost - plane.problem.reward_scale * Bump()(end, None))
    torch.testing.assert_close(found(plane, DiscreteAdjoint()), expected, rtol=1e-3, atol=1e-3)
    same = found(plane, DRaFT(last=None, kl=True))
    torch.testing.assert_close(same, expected, rtol=1e-3, atol=1e-3)


def test_the_continuous_adjoint_regresses_on_that_gradient(plane: Plane) -> None:
    """Breaks if a term of the adjoint is missing: with a_{k+1} and all steps the gradient of the
    regression is that of the objective, up to the factor 2 / K of the mean of squares."""
    K = plane.problem.process.num_steps
    options = {"regression_steps": K, "prompt_dropout": 0.0, "mask_quantile": None}
    matched = found(plane, ContinuousAdjoint(**options, adjoint_batch=7)) / 2
    exact = found(plane, DiscreteAdjoint())
    torch.testing.assert_close(matched, exact, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("method", [DiscreteAdjoint, ContinuousAdjoint], ids=lambda m: m.__name__)
def test_both_adjoints_sample_the_tilted_law(method: type[Method]) -> None:
    """Breaks if either is biased: the mass of the modes would be another."""
    plane = Plane()
    options = (
        {}
        if method is DiscreteAdjoint
        else {
            "regression_steps": 12,
            "prompt_dropout": 0.0,
            "mask_quantile": None,
            "adjoint_batch": 1000,
        }
    )
    plane.train(method(**options), rounds=45, batch=300, lr=0.04)
    assert plane.distance_to_tilt() < 0.1


def test_drtune_moves_the_picture_along_the_factors_alone(plane: Plane) -> None:
    """Breaks if gradient passes a network's input, or a step outside the drawn ones has any."""
    process, method = plane.problem.process, DRTune(steps=3)
    K = process.num_steps
    batch = plane.round(method, 0, COUNT)
    carries = method.carried(K, batch)
    assert carries is not None
    steps = carries.nonzero().flatten().tolist()
    assert [b - a for a, b in itertools.pairwise(steps)] == [K // 3] * 2
    states = plane.states(0, COUNT)
    end = states[:, -1].requires_grad_()
    (slope,) = torch.autograd.grad(Bump()(end, None).sum(), end)
    total = torch.zeros(())
    for k in steps:
        x = states[:, k].detach()
        f = plane.policies.trained(x, process.times_of(k, x), no_condition(COUNT))
        total = total - ((process.A[k + 1 :].prod() * process.c[k]).float() * f * slope).sum()
    torch.testing.assert_close(found(plane, method), gradient(plane, total), rtol=1e-3, atol=1e-4)
    assert (found(plane, DRTune(steps=3, choice="last"))[: K - 3] == 0).all()


def test_how_often_steps_carry_gradient() -> None:
    """Breaks if the draws are of another law: (k + 1) / (K + 1) for each step alone, and one first
    step, uniform or normal, for the others."""
    K, draws = 10, 4000
    keys = core.uniform((K,), 0, "test", [(i,) for i in range(draws)])

    def rates(method: AlignProp | DRTune) -> Tensor:
        masks = [method.carries(K, key) for key in keys]
        return torch.stack([m for m in masks if m is not None]).float().mean(dim=0)

    steps = torch.arange(1, K + 1)
    alone = (steps / (K + 1)).index_fill(0, torch.tensor([K - 1]), 1.0)
    torch.testing.assert_close(rates(AlignProp()), alone, rtol=0, atol=0.03)
    uniform = rates(AlignProp(truncation="per_rollout_uniform"))
    torch.testing.assert_close(uniform, steps / K, rtol=0, atol=0.03)
    gaussian = rates(AlignProp(truncation="per_rollout_gaussian", gaussian_mean=0.6))
    assert gaussian[0] == 0
    assert gaussian[-1] == 1
    half = torch.distributions.Normal(6.0, 1.0).cdf(torch.tensor([6.0, 7.0, 8.0]))
    torch.testing.assert_close(gaussian[5:8], half, rtol=0, atol=0.03)
    for choice in ("even", "random"):
        assert rates(DRTune(steps=2, choice=choice)).sum() == pytest.approx(2.0)
        torch.testing.assert_close(
            rates(DRTune(steps=2, choice=choice)), torch.full((K,), 0.2), rtol=0, atol=0.03
        )


def test_alignprop_keeps_the_linear_part_of_steps_that_carry_nothing(plane: Plane) -> None:
    """Breaks if latents are cut with the outputs, or the last ones differ from DRaFT's."""
    torch.testing.assert_close(
        found(plane, AlignProp(truncation="last", last=4)), found(plane, DRaFT(last=4))
    )
    batch = plane.round(AlignProp(), 0, COUNT)
    carries = AlignProp().carried(plane.problem.process.num_steps, batch)
    assert carries is not None
    assert 0 < int(carries.sum()) < len(carries)
    reached = found(plane, AlignProp()).flatten(1).abs().sum(dim=1) > 0
    assert torch.equal(reached, carries)


def test_refl_differentiates_one_clean_prediction(plane: Plane) -> None:
    """Breaks if the step is outside its window, the states before it are differentiated, or a
    reward that is enough has a gradient."""
    process, method = plane.problem.process, ReFL(enough=0.5)
    batch = plane.round(method, 0, COUNT)
    k = batch.tensors["step"]
    assert set(k.tolist()) == {9, 10, 11}
    x = plane.states(0, COUNT)[torch.arange(COUNT), k]
    f = plane.policies.trained(x, process.times_of(k, x), no_condition(COUNT))
    rewards = Bump()(process.clean(k, x, f), None)
    torch.testing.assert_close(batch.tensors["reward"], rewards.detach(), rtol=1e-3, atol=1e-4)
    assert 0 < int((rewards < 0.5).sum()) < COUNT
    expected = gradient(plane, -rewards * (rewards < 0.5))
    torch.testing.assert_close(found(plane, method), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", [AlignProp(), DRTune(steps=2)], ids=lambda m: type(m).__name__)
def test_a_sample_without_finite_numbers_is_evaluated_like_the_others(
    plane: Plane, method: AlignProp | DRTune
) -> None:
    """Breaks if a micro-batch of such samples alone has no gradient at all: the run would end."""
    batch = plane.round(method, 0, COUNT)
    for tensor in batch.tensors.values():
        tensor[3] = 0
    alone = batch.select(batch.rows == 3)
    assert method.loss(plane.problem, alone).loss.requires_grad
