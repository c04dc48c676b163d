from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from soc_ft.core import (
    AdjointAt,
    AdjointSolution,
    Condition,
    Process,
    lean_adjoint,
    normal,
    rollout,
)

from .closed_forms import cosine_process, no_condition, process_of

STEPS, BATCH, LATENT = 7, 5, (2, 3, 3)


class NonlinearBase:
    """A small convolutional network that depends on the time and the condition.

    Counts samples, as forwards and as vector-Jacobian products.
    """

    def __init__(self) -> None:
        self.kernel = 0.3 * normal((2, 2, 3, 3), 0, "kernel", [()], torch.float64)[0]
        self.forwards = 0
        self.vjps = 0

    def __call__(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        self.forwards += len(x)
        hidden = torch.nn.functional.conv2d(x, self.kernel, padding=1)
        time = (0.1 * t[:, None, None, None]).sin()
        f = (hidden * condition.scale[:, :, None, None] + time).tanh()
        if f.requires_grad:
            f.register_hook(self._count_vjp)
        return f

    def _count_vjp(self, gradient: Tensor) -> None:
        self.vjps += len(gradient)


@dataclass(frozen=True)
class Problem:
    """An adjoint to solve, along states that another model has sampled."""

    base: NonlinearBase
    process: Process
    states: Tensor
    terminal: Tensor
    condition: Condition

    def solve(
        self, first_step: Tensor | None = None, adjoint_at: AdjointAt = "current"
    ) -> AdjointSolution:
        return lean_adjoint(
            self.base,
            self.process,
            self.states,
            self.terminal,
            self.condition,
            torch.zeros(len(self.states), dtype=torch.int64) if first_step is None else first_step,
            adjoint_at=adjoint_at,
        )

    def predict(self, x: Tensor, k: int) -> Tensor:
        return self.base(x, self.process.times[k].float().expand(len(x)), self.condition)

    def mean(self, x: Tensor, k: int) -> Tensor:
        return self.process.A[k] * x + self.process.c[k] * self.predict(x, k)

    def end_from(self, k: int, x: Tensor) -> Tensor:
        """x_K after base steps from x_k = x; what the states add to each base mean is fixed."""
        for j in range(k, STEPS):
            here = self.states[:, j]
            added = self.states[:, j + 1] - self.mean(here, j)
            x = self.mean(x, j) + added
        return x


def addressed(stream: str, *shape: int) -> Tensor:
    return normal(shape, 0, stream, [(i,) for i in range(BATCH)], torch.float64)


@pytest.fixture(params=["epsilon", "v_prediction", "sample", "flow"])
def problem(request: pytest.FixtureRequest) -> Problem:
    process = process_of(request.param, STEPS)
    condition = Condition(scale=1 + addressed("condition", 2).abs())
    noise = addressed("noise", STEPS + 1, *LATENT)
    states = rollout(lambda x, t, c: 0.9 * x.sin(), process, condition, noise).states
    return Problem(NonlinearBase(), process, states, addressed("terminal", *LATENT), condition)


def test_equals_autograd_through_the_chain(problem: Problem) -> None:
    """Breaks if any term of the recursion is wrong: agreement is to float64 precision."""
    adjoints = problem.solve().adjoints
    for k in range(STEPS + 1):
        x = problem.states[:, k].clone().requires_grad_()
        (expected,) = torch.autograd.grad(problem.end_from(k, x), x, problem.terminal)
        torch.testing.assert_close(adjoints[:, k], expected, rtol=1e-11, atol=1e-12)


def test_equals_finite_differences(problem: Problem) -> None:
    """Breaks if the solve and autograd share a mistake."""
    adjoints = problem.solve().adjoints
    direction, step = addressed("direction", *LATENT), 1e-5
    for k in (0, 3, STEPS - 1):
        x = problem.states[:, k]
        plus = problem.end_from(k, x + step * direction)
        minus = problem.end_from(k, x - step * direction)
        slope = ((plus - minus) * problem.terminal).flatten(1).sum(dim=1) / (2 * step)
        predicted = (adjoints[:, k] * direction).flatten(1).sum(dim=1)
        torch.testing.assert_close(predicted, slope, rtol=1e-7, atol=1e-8)


def test_base_predictions_are_those_at_the_states(problem: Problem) -> None:
    """Breaks if the control were built on base predictions of other states or times."""
    base_predictions = problem.solve().base_predictions
    for k in range(STEPS):
        expected = problem.predict(problem.states[:, k], k)
        torch.testing.assert_close(base_predictions[:, k], expected)


def test_samples_do_not_interact(problem: Problem) -> None:
    """Breaks if anything is reduced over the batch, or rows and conditions are mixed up."""
    first_step = torch.tensor([0, 3, 1, 6, 7])
    together = problem.solve(first_step)

    order = torch.tensor([2, 4, 0, 1, 3])
    permuted = replace(
        problem,
        states=problem.states[order],
        terminal=problem.terminal[order],
        condition=problem.condition[order],
    ).solve(first_step[order])
    torch.testing.assert_close(permuted.adjoints, together.adjoints[order])
    torch.testing.assert_close(permuted.base_predictions, together.base_predictions[order])

    others = torch.tensor([1.0, 10, -5, 3, 7], dtype=torch.float64)
    replaced = replace(
        problem,
        states=problem.states * others[:, None, None, None, None],
        terminal=problem.terminal * others[:, None, None, None],
        condition=Condition(scale=problem.condition.scale * others[:, None]),
    ).solve(torch.tensor([0, 0, 5, 2, 7]))
    torch.testing.assert_close(replaced.adjoints[0], together.adjoints[0])
    torch.testing.assert_close(replaced.base_predictions[0], together.base_predictions[0])


def test_scales_linearly_with_lambda(problem: Problem) -> None:
    """Breaks if something clips or normalises the adjoint."""
    scaled = replace(problem, terminal=1e3 * problem.terminal).solve()
    torch.testing.assert_close(scaled.adjoints, 1e3 * problem.solve().adjoints)


@pytest.mark.parametrize("adjoint_at", ["current", "next"])
def test_stopping_early_computes_the_same_entries(problem: Problem, adjoint_at: AdjointAt) -> None:
    """Breaks if leaving samples out of a step mixes rows up, or computes one entry too few."""
    first_step = torch.tensor([0, 3, 6, 3, 7])
    full, partly = problem.solve(), problem.solve(first_step, adjoint_at)
    for b, first in enumerate(first_step.tolist()):
        known = first if adjoint_at == "current" else min(first + 1, STEPS)
        torch.testing.assert_close(partly.adjoints[b, known:], full.adjoints[b, known:])
        assert not partly.adjoints[b, :known].any()
        predicted = partly.base_predictions[b]
        torch.testing.assert_close(predicted[first:], full.base_predictions[b, first:])
        assert not predicted[:first].any()


@pytest.mark.parametrize(("adjoint_at", "saved"), [("current", 0), ("next", 1)])
def test_evaluations_are_as_few_as_possible(
    problem: Problem, adjoint_at: AdjointAt, saved: int
) -> None:
    """Breaks if a sample is evaluated before its first step, or twice, or with a needless VJP."""
    first_step = torch.tensor([2, 3, 6, 3, 5])
    problem.solve(first_step, adjoint_at)
    assert problem.base.forwards == (STEPS - first_step).sum()
    assert problem.base.vjps == (STEPS - first_step - saved).sum()


@pytest.mark.parametrize("adjoint_at", ["current", "next"])
def test_calls_can_be_made_up(problem: Problem, adjoint_at: AdjointAt) -> None:
    """Breaks if processes that divide a network call it unequally often, or padding counts."""
    first_step = torch.tensor([2, 3, 6, 3, 5])
    alone = problem.solve(first_step, adjoint_at)
    calls = {}
    for first in (first_step, torch.full((BATCH,), STEPS - 1), first_step - 2):
        base = NonlinearBase()
        made: list[int] = []
        solution = lean_adjoint(
            lambda x, t, c, base=base, made=made: (made.append(len(x)), base(x, t, c))[1],
            problem.process,
            problem.states,
            problem.terminal,
            problem.condition,
            first,
            adjoint_at=adjoint_at,
            call_from=0,
        )
        calls[tuple(first.tolist())] = len(made)
        if first is first_step:
            assert torch.equal(solution.adjoints, alone.adjoints)
            assert torch.equal(solution.base_predictions, alone.base_predictions)
    assert set(calls.values()) == {STEPS}


def test_leaves_no_graph_and_no_gradient_behind(problem: Problem) -> None:
    """Breaks if the solve keeps memory alive or adds to the gradients of trainable weights."""
    problem.base.kernel.requires_grad_()
    solution = replace(problem, terminal=problem.terminal.clone().requires_grad_()).solve()
    assert not solution.adjoints.requires_grad
    assert not solution.base_predictions.requires_grad
    assert problem.base.kernel.grad is None


def test_leaves_its_inputs_unchanged(problem: Problem) -> None:
    """Breaks if the recursion runs in the caller's gradient of the reward."""
    terminal, states = problem.terminal.clone(), problem.states.clone()
    problem.solve()
    assert torch.equal(problem.terminal, terminal)
    assert torch.equal(problem.states, states)


def test_low_precision_network_leaves_the_adjoint_in_full_precision() -> None:
    """Breaks if the dtype of the network leaks into states and adjoints."""
    solution = lean_adjoint(
        lambda x, t, c: x.to(torch.bfloat16).tanh(),
        cosine_process(STEPS),
        torch.ones(2, STEPS + 1, 3),
        torch.ones(2, 3),
        no_condition(2),
        torch.tensor([0, 4]),
        adjoint_at="next",
    )
    assert solution.adjoints.dtype == solution.base_predictions.dtype == torch.float32
    assert solution.adjoints.isfinite().all()


@pytest.mark.parametrize(
    ("length", "first_step", "message"),
    [
        (STEPS, [0, 0], "expected 8"),
        (STEPS + 1, [0], "2 samples"),
        (STEPS + 1, [0, STEPS + 1], r"\[0, 7\]"),
        (STEPS + 1, [-1, 0], r"\[0, 7\]"),
    ],
)
def test_bad_input_is_refused(length: int, first_step: list[int], message: str) -> None:
    """Breaks if a wrong grid or step is silently indexed."""
    with pytest.raises(ValueError, match=message):
        lean_adjoint(
            NonlinearBase(),
            cosine_process(STEPS),
            torch.zeros(2, length, *LATENT),
            torch.zeros(2, *LATENT),
            Condition(scale=torch.ones(2, 2)),
            torch.tensor(first_step),
        )
