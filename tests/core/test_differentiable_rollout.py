"""The end of a rollout with gradient, against the same chain written down."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from soc_ft.core import (
    Condition,
    Predictor,
    Process,
    differentiable_rollout,
    normal,
    rollout,
)

from .closed_forms import (
    cosine_process,
    memoryless_flow,
    no_condition,
)

STEPS, BATCH, DIMS = 5, 3, 2


class Network:
    """A nonlinear model with a parameter, which counts how often it is evaluated."""

    def __init__(self) -> None:
        weight = normal((DIMS, DIMS), 0, "weight", [()], torch.float64)[0]
        self.weight = (0.7 * weight).requires_grad_()
        self.evaluations = 0

    def __call__(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        self.evaluations += 1
        return (x @ self.weight * condition.scale + (0.1 * t[:, None]).sin()).tanh()


class End:
    """The last steps of paths that a model has sampled."""

    def __init__(self, process: Process, steps: int) -> None:
        self.process = process
        self.first = process.num_steps - steps
        self.network = Network()
        self.condition = Condition(scale=addressed("scale", 1).abs() + 1)
        noise = addressed("noise", STEPS + 1, DIMS)
        self.states = rollout(self.network, process, self.condition, noise).states
        self.noise = noise[:, 1 + self.first :]
        self.x = self.states[:, self.first].clone()
        self.network.evaluations = 0

    def run(self, x: Tensor | None = None, *, recompute: bool = False) -> Tensor:
        start = self.x if x is None else x
        return differentiable_rollout(
            self.network, self.process, self.condition, start, self.noise, recompute=recompute
        )[0]

    def run_with(self, **options: Any) -> tuple[Tensor, Tensor]:
        """The end and its cost, with options of the rollout."""
        return differentiable_rollout(
            self.network, self.process, self.condition, self.x, self.noise, **options
        )

    def by_hand(self, x: Tensor) -> Tensor:
        """The same chain, written down."""
        process = self.process
        for j, k in enumerate(range(self.first, process.num_steps)):
            times = process.times[k].float().expand(BATCH)
            f = self.network(x, times, self.condition)
            x = process.A[k] * x + process.c[k] * f + process.sigma[k] * self.noise[:, j]
        return x


def addressed(stream: str, *shape: int) -> Tensor:
    return normal(shape, 0, stream, [(i,) for i in range(BATCH)], torch.float64)


@pytest.fixture(params=["epsilon", "v_prediction", "flow"])
def process(request: pytest.FixtureRequest) -> Process:
    if request.param == "flow":
        return memoryless_flow(STEPS)
    return cosine_process(STEPS, prediction=request.param)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("steps", range(STEPS + 1))
def test_end_is_that_of_the_rollout(process: Process, steps: int, recompute: bool) -> None:
    """Breaks if the last n steps are other steps, or run on other noise, than were sampled."""
    end = End(process, steps)
    torch.testing.assert_close(end.run(recompute=recompute), end.states[:, -1])
    assert end.network.evaluations == steps


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("steps", [1, 3, STEPS])
def test_gradients_are_those_of_the_chain(process: Process, steps: int, recompute: bool) -> None:
    """Breaks if a step, or a path by which the parameter acts, is left out of the gradient."""
    end = End(process, steps)
    x, cotangent = end.x.requires_grad_(), addressed("cotangent", DIMS)
    inputs = (x, end.network.weight)
    expected = torch.autograd.grad(end.by_hand(x), inputs, cotangent)
    found = torch.autograd.grad(end.run(x, recompute=recompute), inputs, cotangent)
    for one, other in zip(found, expected, strict=True):
        assert other.abs().max() > 1e-3
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


def test_gradients_are_finite_differences(process: Process) -> None:
    """Breaks if the chain and autograd share a mistake."""
    end, h = End(process, 3), 1e-5
    x, weight = end.x.requires_grad_(), end.network.weight
    cotangent = addressed("cotangent", DIMS)
    of_x, of_weight = torch.autograd.grad(end.run(x), (x, weight), cotangent)

    def value() -> float:
        return float((end.run() * cotangent).sum())

    for variable, gradient in ((end.x, of_x), (weight, of_weight)):
        slope = torch.empty_like(gradient)
        for index in range(variable.numel()):
            with torch.no_grad():
                flat, kept = variable.view(-1), variable.view(-1)[index].item()
                flat[index] = kept + h
                above = value()
                flat[index] = kept - h
                below = value()
                flat[index] = kept
                slope.view(-1)[index] = (above - below) / (2 * h)
        torch.testing.assert_close(gradient, slope, rtol=1e-7, atol=1e-8)


def test_recomputing_changes_nothing_but_the_evaluations(process: Process) -> None:
    """Breaks if a checkpointed step is evaluated at other inputs, or keeps its activations."""
    outcomes = []
    for recompute in (False, True):
        end = End(process, 4)
        x = end.x.requires_grad_()
        reached = end.run(x, recompute=recompute)
        forwards = end.network.evaluations
        gradients = torch.autograd.grad(reached.square().sum(), (x, end.network.weight))
        outcomes.append((reached.detach(), *gradients))
        assert forwards == 4
        assert end.network.evaluations == (8 if recompute else 4)
    for plain, recomputed in zip(*outcomes, strict=True):
        assert torch.equal(plain, recomputed)


@pytest.mark.parametrize("recompute", [False, True])
def test_gradient_stops_where_the_states_are_detached(process: Process, recompute: bool) -> None:
    """Breaks if truncation leaks into what came before, or cuts the parameter's gradient."""
    end = End(process, 2)
    before = end.x.clone().requires_grad_()
    x = (2 * before).detach()
    reached = end.run(x, recompute=recompute)
    assert reached.requires_grad
    reached.sum().backward()
    assert before.grad is None
    assert x.grad is None
    (expected,) = torch.autograd.grad(end.by_hand(x).sum(), end.network.weight)
    torch.testing.assert_close(end.network.weight.grad, expected, rtol=1e-11, atol=1e-12)


def test_no_steps_return_the_states() -> None:
    """Breaks if a truncation to nothing evaluates the network, or loses the gradient of x."""
    end = End(cosine_process(STEPS), 0)
    x = end.x.requires_grad_()
    reached = end.run(x)
    assert torch.equal(reached, end.states[:, -1])
    assert end.network.evaluations == 0
    (gradient,) = torch.autograd.grad(reached.sum(), x)
    assert torch.equal(gradient, torch.ones_like(x))


def test_more_steps_than_there_are_are_refused() -> None:
    """Breaks if the first steps of an overlong noise wrap around to the last of the process."""
    end = End(cosine_process(STEPS), STEPS)
    end.noise = torch.zeros(BATCH, STEPS + 1, DIMS)
    with pytest.raises(ValueError, match="6 steps for 5 transitions"):
        end.run()


@pytest.mark.parametrize("recompute", [False, True])
def test_a_low_precision_network_leaves_the_states_in_full_precision(recompute: bool) -> None:
    """Breaks if the dtype of the network leaks into the chain."""

    def predict(x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        return x.to(torch.bfloat16).tanh()

    x = torch.ones(2, 3, requires_grad=True)
    reached, _ = differentiable_rollout(
        predict, cosine_process(2), no_condition(2), x, torch.ones(2, 2, 3), recompute=recompute
    )
    assert reached.dtype == torch.float32
    (gradient,) = torch.autograd.grad(reached.sum(), x)
    assert gradient.dtype == torch.float32
    assert gradient.isfinite().all()


def test_randomness_inside_the_network_is_repeated_when_recomputing() -> None:
    """Breaks if dropout draws anew in the backward pass: the gradient would be of another chain."""
    masks: list[Tensor] = []

    def predict(x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        masks.append(torch.rand_like(x).round())
        return masks[-1] * x

    run: Predictor = predict
    x = torch.ones(2, 8, requires_grad=True)
    noise = torch.zeros(2, 2, 8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        reached, _ = differentiable_rollout(
            run, cosine_process(2), no_condition(2), x, noise, recompute=True
        )
        reached.sum().backward()
    assert len(masks) == 4
    assert torch.equal(masks[2], masks[1])
    assert torch.equal(masks[3], masks[0])


def gradient_of(end: Tensor, network: Network) -> Tensor:
    (gradient,) = torch.autograd.grad(end.sin().sum(), network.weight, retain_graph=True)
    return gradient


@pytest.mark.parametrize("recompute", [False, True])
def test_outputs_that_carry_no_gradient_pass_it_on_along_the_states(recompute: bool) -> None:
    """Breaks if states are cut with the outputs, a mask is of another step or sample, or the
    values change."""
    end = End(cosine_process(STEPS), STEPS)
    carries = torch.tensor([[1, 0, 0, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]]).bool()
    found, _ = end.run_with(carries=carries, recompute=recompute)
    x = end.x
    for k in range(STEPS):
        f = end.network(x, end.process.times[k].float().expand(BATCH), end.condition)
        f = torch.where(carries[:, k, None], f, f.detach())
        process = end.process
        x = process.A[k] * x + process.c[k] * f + process.sigma[k] * end.noise[:, k]
    torch.testing.assert_close(found, x)
    torch.testing.assert_close(gradient_of(found, end.network), gradient_of(x, end.network))


def test_nothing_is_kept_of_steps_without_gradient() -> None:
    """Breaks if a step where no sample carries gradient is recorded all the same."""
    end = End(cosine_process(STEPS), STEPS)
    last = torch.zeros(BATCH, STEPS, dtype=torch.bool)
    last[:, -1] = True
    found, _ = end.run_with(carries=last)
    states = end.states[:, -2]
    times = end.process.times[-1].float().expand(BATCH)
    alone = end.process.mean(STEPS - 1, states, end.network(states, times, end.condition))
    alone = alone + end.process.sigma[-1] * end.noise[:, -1]
    torch.testing.assert_close(gradient_of(found, end.network), gradient_of(alone, end.network))


def test_gradient_past_the_inputs_is_a_sum_of_products_of_factors() -> None:
    """Breaks if the chain of Jacobians stays in the graph (DRTune): the gradient is
    sum_k (prod_{j>k} A_j) c_k (df_k / dtheta)^T dr, of the steps that carry it alone."""
    end = End(cosine_process(STEPS), STEPS)
    carries = torch.tensor([[1, 0, 1, 0, 1]] * BATCH).bool()
    found, _ = end.run_with(carries=carries, through_inputs=False)
    process, expected = end.process, torch.zeros_like(end.network.weight)
    slope = found.detach().cos()
    for k in (0, 2, 4):
        x = end.states[:, k]
        f = end.network(x, process.times[k].float().expand(BATCH), end.condition)
        factor = process.A[k + 1 :].prod() * process.c[k]
        (part,) = torch.autograd.grad((f * slope).sum() * factor, end.network.weight)
        expected += part
    torch.testing.assert_close(gradient_of(found, end.network), expected)


@pytest.mark.parametrize("recompute", [False, True])
def test_costs_are_those_of_the_steps(recompute: bool) -> None:
    """Breaks if a step's cost is of another state or output, or has no gradient."""
    end = End(cosine_process(STEPS), STEPS - 2)

    def cost(k: int, x: Tensor, f: Tensor) -> Tensor:
        return k * (x * f).sum(dim=1)

    _, total = end.run_with(cost=cost, recompute=recompute)
    x, expected = end.x, torch.zeros(BATCH, dtype=torch.float64)
    for k in range(2, STEPS):
        f = end.network(x, end.process.times[k].float().expand(BATCH), end.condition)
        expected = expected + cost(k, x, f)
        x = end.process.mean(k, x, f) + end.process.sigma[k] * end.noise[:, k - 2]
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(gradient_of(total, end.network), gradient_of(expected, end.network))
