"""Samples of an earlier model, weighted, against samples of the current one: a 1-d mixture."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import pytest
import torch
from torch import Tensor

from soc_ft.core import (
    Condition,
    Predictor,
    Trajectory,
    effective_sample_size,
    lean_adjoint,
    log_ratio,
    normalised_weights,
    rollout,
    span_log_weights,
    transition_noise,
)

from .closed_forms import MixtureBase, cosine_process, no_condition, step_of

Weighting = Literal["none", "step", "future", "path"]
PULL, DRIFT = 0.5, 1.0
"""Of the reward PULL x^2, and of the control that the current model has all along its path."""


class Replay:
    """The base model sampled; the current model is moved by a constant control."""

    def __init__(self, num_steps: int, samples: int) -> None:
        self.process = cosine_process(num_steps)
        self.samples = samples
        self.base = MixtureBase(
            self.process,
            weights=torch.tensor([0.6, 0.4], dtype=torch.float64),
            means=torch.tensor([[-1.5], [1.5]], dtype=torch.float64),
            variances=torch.tensor([0.2, 0.3], dtype=torch.float64),
        )
        self.control = DRIFT / num_steps**0.5

    def current(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        k = int(step_of(self.process, t[:1]))
        return self.base(x, t, condition) + self.control / self.process.control_gain[k]

    def sampled(self, predict: Predictor, seed: int) -> tuple[Trajectory, Tensor]:
        """Trajectories, and their adjoints (B, K), a_{k+1} at index k."""
        generator = torch.Generator().manual_seed(seed)
        shape = (self.samples, self.process.num_steps + 1, 1)
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        condition = no_condition(self.samples)
        path = rollout(predict, self.process, condition, noise, keep_predictions=True)
        solution = lean_adjoint(
            self.base,
            self.process,
            path.states,
            -2 * PULL * path.states[:, -1],
            condition,
            torch.zeros(self.samples, dtype=torch.int64),
            adjoint_at="next",
        )
        return path, solution.adjoints[:, 1:, 0]

    @cached_property
    def old(self) -> tuple[Trajectory, Tensor]:
        return self.sampled(self.base, seed=1)

    @cached_property
    def new(self) -> tuple[Trajectory, Tensor]:
        return self.sampled(self.current, seed=2)

    @cached_property
    def log_ratios(self) -> Tensor:
        path, process, columns = self.old[0], self.process, []
        assert path.predictions is not None
        for k in range(process.num_steps):
            x, predicted = path.states[:, k], path.predictions[:, k]
            now = self.current(x, process.times_of(k, x), no_condition(self.samples))
            noise = transition_noise(process, k, x, path.states[:, k + 1], predicted)
            columns.append(log_ratio(now, predicted, noise, process.control_gain[k]))
        return torch.stack(columns, dim=1)

    def log_weights(self, weighting: Weighting) -> Tensor:
        if weighting == "none":
            return torch.zeros_like(self.log_ratios)
        if weighting == "step":
            return self.log_ratios
        return span_log_weights(self.log_ratios, weighting)

    def gradient_error(self, weighting: Weighting) -> float:
        """Of the loss' gradient to the control of each step, relative to on-policy samples."""
        weights = normalised_weights(self.log_weights(weighting))
        found = (weights * self._residual(self.old[1])).mean(dim=0)
        expected = self._residual(self.new[1]).mean(dim=0)
        return float((found - expected).norm() / expected.norm())

    def _residual(self, adjoints: Tensor) -> Tensor:
        return 2 * (self.control + self.process.sigma * adjoints)

    def fixed_point_error(self, weighting: Weighting) -> float:
        """Of the control that minimises the loss at each state, relative to on-policy samples."""
        weights = normalised_weights(self.log_weights(weighting))
        edges = torch.linspace(-2, 2, 9, dtype=torch.float64)
        errors, expected = [], []
        for k in range(self.process.num_steps):
            ours = torch.bucketize(self.old[0].states[:, k, 0].contiguous(), edges)
            theirs = torch.bucketize(self.new[0].states[:, k, 0].contiguous(), edges)
            for cell in range(1, len(edges)):
                here, there = ours == cell, theirs == cell
                if min(here.sum(), there.sum()) < 100:
                    continue
                weight = weights[here, k]
                optimum = (weight * self.old[1][here, k]).sum() / weight.sum()
                expected.append(self.process.sigma[k] * self.new[1][there, k].mean())
                errors.append(self.process.sigma[k] * optimum - expected[-1])
        return float(torch.stack(errors).norm() / torch.stack(expected).norm())

    def ess(self, weighting: Weighting) -> Tensor:
        """(K,) effective sample size by step, as a share."""
        return effective_sample_size(self.log_weights(weighting)) / self.samples


@pytest.fixture(scope="module", params=[(10, 30_000), (50, 6_000)], ids=["K=10", "K=50"])
def replay(request: pytest.FixtureRequest) -> Replay:
    return Replay(*request.param)


def test_only_the_ratio_of_the_path_gives_the_gradient(replay: Replay) -> None:
    """Breaks if a factor of a path is lost or counted twice.

    The ratio of a pair's own transition does hardly anything.
    """
    assert replay.gradient_error("path") < 0.15
    assert replay.gradient_error("none") > 1
    assert replay.gradient_error("step") > 0.9 * replay.gradient_error("none")


def test_the_ratio_of_what_follows_gives_the_fixed_point(replay: Replay) -> None:
    """Breaks if the product runs over earlier transitions, or leaves out the pair's own."""
    assert replay.fixed_point_error("future") < 0.15
    assert replay.fixed_point_error("path") < 0.15
    assert replay.fixed_point_error("none") > 0.5
    assert replay.fixed_point_error("step") > 0.5


def test_where_the_effective_sample_size_collapses(replay: Replay) -> None:
    """Breaks if late steps pay for early ones: the path's size is the smallest everywhere."""
    path, future, step = (replay.ess(kind) for kind in ("path", "future", "step"))
    # Sums of equal numbers may be ordered differently from column to column.
    torch.testing.assert_close(path, path[:1].expand_as(path), rtol=1e-12, atol=0.0)
    assert path[0] < 0.5
    assert future[0] == pytest.approx(float(path[0]))
    assert future[-1] == pytest.approx(float(step[-1]))
    assert (future.diff() > -0.02).all()
    assert future[-1] > 2 * path[-1]
    assert (step > 0.85).all()
