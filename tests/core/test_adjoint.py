from __future__ import annotations

import pytest
import torch
from torch import Tensor

from soc_ft.core import AdjointAt, AdjointSolution, Schedule, lean_adjoint, normal, rollout

from .closed_forms import cosine_schedule

STEPS, BATCH, LATENT = 7, 5, (2, 3, 3)


class NonlinearBase(torch.nn.Module):
    """A small convolutional eps_hat that depends on the timestep and the condition.

    Counts samples, as forwards and as vector-Jacobian products.
    """

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.kernel = 0.3 * torch.randn(2, 2, 3, 3, dtype=torch.float64, generator=generator)
        self.forwards = 0
        self.vjps = 0

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        self.forwards += len(x)
        hidden = torch.nn.functional.conv2d(x, self.kernel, padding=1)
        eps_hat = (hidden * condition[:, :, None, None] + 0.1 * t[:, None, None, None]).tanh()
        if eps_hat.requires_grad:
            eps_hat.register_hook(self._count_vjp)
        return eps_hat

    def _count_vjp(self, gradient: Tensor) -> None:
        self.vjps += len(gradient)


@pytest.fixture
def base() -> NonlinearBase:
    return NonlinearBase()


@pytest.fixture
def schedule() -> Schedule:
    return cosine_schedule(STEPS)


@pytest.fixture
def condition() -> Tensor:
    return 1 + torch.arange(2.0 * BATCH, dtype=torch.float64).view(BATCH, 2) / 10


@pytest.fixture
def states(schedule: Schedule, condition: Tensor) -> Tensor:
    """Sampled from another model than the base one."""
    noise = normal((STEPS + 1, *LATENT), 0, "x", [(i,) for i in range(BATCH)], torch.float64)
    return rollout(lambda x, t, c: 0.9 * x.sin(), schedule, condition, noise).states


@pytest.fixture
def terminal() -> Tensor:
    return normal(LATENT, 0, "terminal", [(i,) for i in range(BATCH)], torch.float64)


def from_start(batch: int = BATCH) -> Tensor:
    return torch.zeros(batch, dtype=torch.int64)


def replayed_end(
    base: NonlinearBase, schedule: Schedule, states: Tensor, condition: Tensor, k: int, x: Tensor
) -> Tensor:
    """x_K after base steps from x_k = x, with what the states add to each base mean held fixed."""
    for j in range(k, STEPS):
        t = schedule.timesteps[j].expand(len(x))
        residual = states[:, j + 1] - schedule.mean(
            j, states[:, j], base(states[:, j], t, condition)
        )
        x = schedule.mean(j, x, base(x, t, condition)) + residual
    return x


def test_equals_autograd_through_the_chain(base, schedule, states, terminal, condition) -> None:  # type: ignore[no-untyped-def]
    """Breaks if any term of the recursion is wrong: agreement is to float64 precision."""
    adjoints = lean_adjoint(base, schedule, states, terminal, condition, from_start()).adjoints
    for k in range(STEPS + 1):
        x = states[:, k].clone().requires_grad_()
        end = replayed_end(base, schedule, states, condition, k, x)
        (expected,) = torch.autograd.grad(end, x, terminal)
        torch.testing.assert_close(adjoints[:, k], expected, rtol=1e-11, atol=1e-12)


def test_equals_finite_differences(base, schedule, states, terminal, condition) -> None:  # type: ignore[no-untyped-def]
    """Breaks if the solve and autograd share a mistake."""
    adjoints = lean_adjoint(base, schedule, states, terminal, condition, from_start()).adjoints
    direction = normal(LATENT, 0, "direction", [(i,) for i in range(BATCH)], torch.float64)
    step = 1e-5
    for k in (0, 3, STEPS - 1):
        plus, minus = (
            replayed_end(base, schedule, states, condition, k, states[:, k] + sign * direction)
            for sign in (step, -step)
        )
        slope = ((plus - minus) * terminal).flatten(1).sum(dim=1) / (2 * step)
        predicted = (adjoints[:, k] * direction).flatten(1).sum(dim=1)
        torch.testing.assert_close(predicted, slope, rtol=1e-7, atol=1e-8)


def test_base_predictions_are_those_at_the_states(
    base, schedule, states, terminal, condition
) -> None:  # type: ignore[no-untyped-def]
    """Breaks if the control were built on base predictions of other states or timesteps."""
    solution = lean_adjoint(base, schedule, states, terminal, condition, from_start())
    for k in range(STEPS):
        expected = base(states[:, k], schedule.timesteps[k].expand(BATCH), condition)
        torch.testing.assert_close(solution.base_predictions[:, k], expected)


def test_samples_do_not_interact(base, schedule, states, terminal, condition) -> None:  # type: ignore[no-untyped-def]
    """Breaks if anything is reduced over the batch or the wrong condition is used."""
    first_step = torch.tensor([0, 3, 1, 6, 7])
    together = lean_adjoint(base, schedule, states, terminal, condition, first_step)
    order = torch.tensor([2, 4, 0, 1, 3])
    permuted = lean_adjoint(
        base, schedule, states[order], terminal[order], condition[order], first_step[order]
    )
    torch.testing.assert_close(permuted.adjoints, together.adjoints[order])
    replaced = lean_adjoint(
        base,
        schedule,
        torch.cat([states[:1], 10 * states[1:]]),
        torch.cat([terminal[:1], -5 * terminal[1:]]),
        torch.cat([condition[:1], 3 * condition[1:]]),
        torch.tensor([0, 0, 5, 2, 7]),
    )
    torch.testing.assert_close(replaced.adjoints[0], together.adjoints[0])
    torch.testing.assert_close(replaced.base_predictions[0], together.base_predictions[0])


def test_scales_linearly_with_lambda(base, schedule, states, terminal, condition) -> None:  # type: ignore[no-untyped-def]
    """Breaks if something clips or normalises the adjoint."""
    adjoints = lean_adjoint(base, schedule, states, terminal, condition, from_start()).adjoints
    scaled = lean_adjoint(base, schedule, states, 1e3 * terminal, condition, from_start()).adjoints
    torch.testing.assert_close(scaled, 1e3 * adjoints)


def solve_partly(
    adjoint_at: AdjointAt, first_step: Tensor, base, schedule, states, terminal, condition
) -> tuple[AdjointSolution, AdjointSolution]:  # type: ignore[no-untyped-def]
    full = lean_adjoint(base, schedule, states, terminal, condition, from_start())
    base.forwards = base.vjps = 0
    partly = lean_adjoint(
        base, schedule, states, terminal, condition, first_step, adjoint_at=adjoint_at
    )
    return full, partly


@pytest.mark.parametrize("adjoint_at", ["current", "next"])
def test_stopping_early_computes_the_same_entries(  # type: ignore[no-untyped-def]
    adjoint_at: AdjointAt, base, schedule, states, terminal, condition
) -> None:
    """Breaks if leaving samples out of a step mixes rows up, or computes one entry too few."""
    first_step = torch.tensor([0, 3, 6, 3, 7])
    full, partly = solve_partly(adjoint_at, first_step, base, schedule, states, terminal, condition)
    for b, first in enumerate(first_step.tolist()):
        known = first if adjoint_at == "current" else min(first + 1, STEPS)
        torch.testing.assert_close(partly.adjoints[b, known:], full.adjoints[b, known:])
        assert not partly.adjoints[b, :known].any()
        torch.testing.assert_close(
            partly.base_predictions[b, first:], full.base_predictions[b, first:]
        )
        assert not partly.base_predictions[b, :first].any()


@pytest.mark.parametrize(("adjoint_at", "saved"), [("current", 0), ("next", 1)])
def test_evaluations_are_as_few_as_possible(  # type: ignore[no-untyped-def]
    adjoint_at: AdjointAt, saved: int, base, schedule, states, terminal, condition
) -> None:
    """Breaks if a sample is evaluated before its first step, or twice, or with a needless VJP."""
    first_step = torch.tensor([2, 3, 6, 3, 5])
    solve_partly(adjoint_at, first_step, base, schedule, states, terminal, condition)
    assert base.forwards == sum(STEPS - first for first in first_step.tolist())
    assert base.vjps == sum(STEPS - first - saved for first in first_step.tolist())


def test_leaves_no_graph_and_no_gradient_behind(
    base, schedule, states, terminal, condition
) -> None:  # type: ignore[no-untyped-def]
    """Breaks if the solve keeps memory alive or adds to the gradients of trainable weights."""
    base.kernel = torch.nn.Parameter(base.kernel)
    solution = lean_adjoint(
        base, schedule, states, terminal.requires_grad_(), condition, from_start()
    )
    assert not solution.adjoints.requires_grad
    assert not solution.base_predictions.requires_grad
    assert base.kernel.grad is None


def test_low_precision_network_leaves_the_adjoint_in_full_precision(schedule) -> None:  # type: ignore[no-untyped-def]
    """Breaks if the dtype of the network leaks into states and adjoints."""
    solution = lean_adjoint(
        lambda x, t, c: x.to(torch.bfloat16).tanh(),
        schedule,
        torch.ones(2, STEPS + 1, 3),
        torch.ones(2, 3),
        torch.zeros(2, 1),
        from_start(2),
    )
    assert solution.adjoints.dtype == solution.base_predictions.dtype == torch.float32
    assert solution.adjoints.isfinite().all()


@pytest.mark.parametrize(
    ("length", "first_step", "message"),
    [
        (STEPS, [0, 0], "expected 8"),
        (STEPS + 1, [0], "2 samples"),
        (STEPS + 1, [0, 8], r"\[0, 7\]"),
    ],
)
def test_bad_input_is_refused(  # type: ignore[no-untyped-def]
    length: int, first_step: list[int], message: str, base, schedule
) -> None:
    """Breaks if a wrong grid or step is silently indexed."""
    with pytest.raises(ValueError, match=message):
        lean_adjoint(
            base,
            schedule,
            torch.zeros(2, length, *LATENT),
            torch.zeros(2, *LATENT),
            torch.ones(2, 2),
            torch.tensor(first_step),
        )
