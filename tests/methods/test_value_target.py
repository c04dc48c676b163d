"""Adjoint Matching whose early steps regress on a learned value."""

from __future__ import annotations

import copy

import pytest
import torch

from soc_ft import core
from soc_ft.config import check
from soc_ft.errors import ConfigError
from soc_ft.methods import Batch
from soc_ft.training.collector import FINITE
from soc_ft.training.module import RewardFineTuning
from tests.methods.test_adjoint_matching import MODES, Paths, adjoint_matching
from tests.methods.test_contract import collected, configured

NO_DROPOUT = ("method.prompt_dropout=0",)
BOUNDARY = 4
"""Of six steps, where the early segment ends."""
TRUST = 0.5


def second_round(module: RewardFineTuning) -> tuple[Batch, core.ValueFunction]:
    """All pairs of a round that was collected with a half-trusted critic, and this critic."""
    collected(module)
    state = module.method.state_dict()
    state["value"]["moments"] = [TRUST, 1.0]
    module.method.load_state_dict(copy.deepcopy(state))
    value = core.ValueFunction(module.problem.process.num_steps, 1, 1, 0)
    value.load_state_dict(copy.deepcopy(state["value"]))
    module.buffer.fill(1, module.collector.collect(module.buffer, 1))
    rows = module.buffer.rows(1, 0, 0)
    samples = module.collector.batch(module.buffer, 1, 0, rows, torch.device("cpu"))
    return module.pairs_of(samples, samples.tensors[FINITE].nonzero().flatten()), value


@pytest.mark.parametrize("target", ["critic", "hybrid"])
@pytest.mark.parametrize("mode", MODES)
def test_early_steps_follow_the_value_and_late_ones_the_adjoint(mode: str, target: str) -> None:
    """Breaks when the value is asked at x_k, at the step's own time or of another prompt, when
    lambda, the value's scale or its trust is lost, when a hybrid leaves the adjoint out or counts
    it whole, or the adjoint is not solved down to the late steps."""
    module = adjoint_matching(*NO_DROPOUT, f"method.target={target}", *MODES[mode])
    batch, value = second_round(module)
    assert value.critic is not None
    scale = value.state_dict()["scale"][1]
    paths = Paths(module, batch)
    problem, process = module.problem, module.problem.process
    terms = module.method.loss(problem, batch)
    early = 0
    for pair, (row, slot) in enumerate(zip(batch.rows.tolist(), batch.slots.tolist(), strict=True)):
        k = int(batch.tensors["steps"][row, 0, slot])
        followed = paths.adjoints[row, k + 1]
        if k < BOUNDARY:
            early += 1
            steps = torch.tensor([k + 1])
            x = paths.trajectory.states[row, k + 1][None].requires_grad_()
            condition = paths.condition[row : row + 1]
            features = module.model.features(x, process.times_of(k + 1, x), condition)
            of_the_state = scale * value.critic(features, steps).sum()
            gradient = torch.autograd.grad(of_the_state, x)[0][0]
            assert gradient.abs().max() > 0
            followed = (1 - TRUST) * followed if target == "hybrid" else 0.0
            followed = followed - TRUST * problem.reward_scale * gradient
        expected = (paths.control(row, k, False) + process.sigma[k] * followed).square().sum()
        torch.testing.assert_close(terms.loss[pair].detach(), expected, rtol=2e-3, atol=1e-5)
    assert early == len(batch) // 3


@pytest.mark.parametrize("drawn", [3, 6])
@pytest.mark.parametrize("mode", MODES)
def test_what_is_learned_is_the_reward_minus_the_cost_to_come(mode: str, drawn: int) -> None:
    """Breaks when the cost of a step itself or of earlier ones counts, when steps that were not
    drawn are forgotten, or nats are not turned into rewards."""
    module = adjoint_matching(
        *NO_DROPOUT,
        *MODES[mode],
        "lambda=0.01",
        "method.target=critic",
        f"method.regression_steps={drawn}",
    )
    batch = collected(module)
    held = module.method.state_dict()["value"]["held"]
    paths, rewards = Paths(module, batch), batch.tensors["reward"]
    weight = {True: 4.0, False: 1.0} if drawn == 3 else {True: 1.0, False: 1.0}
    for row, (states_at, values) in enumerate(zip(held["steps"], held["values"], strict=True)):
        costs = {
            k: weight[k < BOUNDARY] * float(paths.control(row, k, False).square().sum()) / 2
            for k in batch.tensors["steps"][row, 0].tolist()
        }
        assert len(states_at) == (1 if drawn == 3 else BOUNDARY)
        for state_at, value in zip(states_at.tolist(), values.tolist(), strict=True):
            to_come = sum(cost for k, cost in costs.items() if k >= state_at)
            expected = float(rewards[row]) - to_come / module.problem.reward_scale
            assert to_come > 0
            assert value == pytest.approx(expected, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (("method.early_fraction=1",), "one of them has no step"),
        (("method.early_share=0", "method.regression_steps=2"), "one of them has no step"),
        (("method.adjoint_at=current",), r"use method\.adjoint_at=next"),
    ],
)
def test_what_leaves_no_room_for_both_is_refused(overrides: tuple[str, ...], told: str) -> None:
    """Breaks when a run of hours finds out that one of the two targets is never used."""
    with pytest.raises(ConfigError, match=rf"^method\.target=critic: .*{told}"):
        check(configured("adjoint_matching", "method.target=critic", *overrides))
