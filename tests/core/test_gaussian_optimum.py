"""On Gaussian data, where everything is known, adjoint matching reaches p exp(lambda r)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from soc_ft.core import (
    AdjointAt,
    Condition,
    Predictor,
    Process,
    adjoint_matching_loss,
    control,
    lean_adjoint,
    rollout,
)

from .closed_forms import (
    GaussianBase,
    Output,
    convergence_order,
    cosine_process,
    exact_moment_noise,
    memoryless_flow,
    moments,
    no_condition,
    process_of,
    step_of,
)

MEAN = torch.tensor([1.0, -0.5], dtype=torch.float64)
COVARIANCE = torch.tensor([[0.8, 0.3], [0.3, 0.5]], dtype=torch.float64)
LAMBDA = 3.0
DIRECTION = torch.tensor([0.7, -1.2], dtype=torch.float64)  # linear reward: <DIRECTION, x>
CURVATURE = torch.tensor([[1.0, 0.2], [0.2, 0.5]], dtype=torch.float64)
PEAK = torch.tensor([2.0, 1.0], dtype=torch.float64)  # quadratic reward around PEAK


def all_steps(batch: int) -> Tensor:
    return torch.zeros(batch, dtype=torch.int64)


def regression_targets(adjoints: Tensor, adjoint_at: AdjointAt) -> Tensor:
    return adjoints[:, 1:] if adjoint_at == "next" else adjoints[:, :-1]


def relative(error: Tensor, scale: Tensor) -> float:
    return float(error.norm() / scale.norm())


class LinearRewardOptimum:
    """The control that minimises the regression when the reward is linear: it is deterministic."""

    def __init__(self, num_steps: int, adjoint_at: AdjointAt, output: Output = "epsilon") -> None:
        self.process = process_of(output, num_steps)
        self.base = GaussianBase(self.process, MEAN, COVARIANCE, output)
        self.noise = exact_moment_noise(num_steps, dims=2)
        batch = len(self.noise)
        self.condition = no_condition(batch)
        self.trajectory = rollout(self.base, self.process, self.condition, self.noise)
        terminal = (-LAMBDA * DIRECTION).expand(batch, 2)
        self.solution = lean_adjoint(
            self.base,
            self.process,
            self.trajectory.states,
            terminal,
            self.condition,
            all_steps(batch),
        )
        self.targets = regression_targets(self.solution.adjoints, adjoint_at)
        self.offset = -(self.process.sigma**2 / self.process.c)[:, None] * self.targets[0]

    def __call__(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        return self.base(x, t, condition) + self.offset[step_of(self.process, t)]

    def shift(self) -> Tensor:
        """(2,) how far the control moves the mean of x_K."""
        controlled = rollout(self, self.process, self.condition, self.noise)
        return (controlled.states - self.trajectory.states)[:, -1].mean(dim=0)

    def covariance_given_start(self) -> Tensor:
        """Cov(x_K | x_0) of the base process."""
        from_zero = self.noise.clone()
        from_zero[:, 0] = 0
        return moments(rollout(self.base, self.process, self.condition, from_zero).states[:, -1])[1]

    def covariance(self) -> Tensor:
        """Cov(x_K) of the base process."""
        return moments(self.trajectory.states[:, -1])[1]


OUTPUTS = pytest.mark.parametrize("output", ["epsilon", "v_prediction", "sample", "flow"])


@OUTPUTS
@pytest.mark.parametrize("adjoint_at", ["current", "next"])
def test_loss_vanishes_at_the_optimum_of_a_linear_reward(
    adjoint_at: AdjointAt, output: Output
) -> None:
    """Breaks if control, its gain, or the sign or scale of sigma * a in the loss is wrong."""
    optimum = LinearRewardOptimum(8, adjoint_at, output)
    process = optimum.process
    for k in range(process.num_steps):
        x = optimum.trajectory.states[:, k]
        prediction = optimum(x, process.times_of(k, x), optimum.condition)
        base_prediction = optimum.solution.base_predictions[:, k]
        u = control(prediction, base_prediction, process.control_gain[k])
        target = optimum.targets[:, k]
        assert adjoint_matching_loss(u, target, process.sigma[k]).max() < 1e-20
        if output == "flow" and adjoint_at == "current" and k == 0:
            assert target.abs().max() < 1e-12  # nothing depends on x_0, which is pure noise
        else:
            assert adjoint_matching_loss(0 * u, target, process.sigma[k]).min() > 1e-3


@OUTPUTS
@pytest.mark.parametrize("num_steps", [1, 2, 5, 50])
def test_next_adjoint_is_exact_for_a_linear_reward(num_steps: int, output: Output) -> None:
    """Breaks if "next" is off by one, or if the control does not enter the chain as in the theory.

    The optimum of the KL-regularised problem moves the mean by lambda Cov(x_K | x_0) b.
    """
    optimum = LinearRewardOptimum(num_steps, "next", output)
    expected = LAMBDA * optimum.covariance_given_start() @ DIRECTION
    assert relative(optimum.shift() - expected, expected) < 1e-12


def test_next_adjoint_tilts_the_marginal_once_the_start_is_forgotten() -> None:
    """Breaks if the process is not memoryless: lambda Cov(x_K) b is then never reached."""
    num_steps = [8, 16, 32, 64]
    errors = []
    for steps in num_steps:
        optimum = LinearRewardOptimum(steps, "next")
        expected = LAMBDA * optimum.covariance() @ DIRECTION
        errors.append(relative(optimum.shift() - expected, expected))
    assert errors[-1] < 1e-4
    assert convergence_order(num_steps, errors) == pytest.approx(2, abs=0.3)


def test_current_adjoint_is_exact_only_in_the_limit() -> None:
    """Breaks if "current" regresses on another adjoint than a_k: its error decays as 1/K."""
    num_steps = [16, 32, 64, 128]
    errors = []
    for steps in num_steps:
        optimum = LinearRewardOptimum(steps, "current")
        expected = LAMBDA * optimum.covariance_given_start() @ DIRECTION
        errors.append(relative(optimum.shift() - expected, expected))
    assert errors[0] > 0.1
    assert errors[-1] < 0.03
    assert convergence_order(num_steps, errors) == pytest.approx(1, abs=0.1)


class AffineControl:
    """sqrt(delta) u_k = [x, 1] W_k on top of a base model: the class of the quadratic optimum."""

    def __init__(self, base: Predictor, process: Process) -> None:
        self.base = base
        self.process = process
        self.weights = torch.zeros(process.num_steps, 3, 2, dtype=torch.float64)

    def __call__(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        k = step_of(self.process, t)
        u = (self.features(x)[:, None] @ self.weights[k])[:, 0]
        return self.base(x, t, condition) + u / self.process.control_gain[k][:, None]

    @staticmethod
    def features(x: Tensor) -> Tensor:
        return torch.cat([x, torch.ones_like(x[..., :1])], dim=-1)


class QuadraticRewardFixpoint:
    """Adjoint matching iterated to its fixpoint, with exact regressions on exact moments.

    The reward is -1/2 (x - PEAK)^T CURVATURE (x - PEAK).
    """

    def __init__(self, process: Process, adjoint_at: AdjointAt, output: Output = "epsilon") -> None:
        self.process = process
        self.base = GaussianBase(process, MEAN, COVARIANCE, output)
        self.noise = exact_moment_noise(process.num_steps, dims=2)
        self.condition = no_condition(len(self.noise))
        self.adjoint_at = adjoint_at
        self.model = AffineControl(self.base, self.process)
        change = torch.inf
        while change > 1e-7:
            features, targets = self.regression()
            weights = torch.linalg.lstsq(features, targets).solution
            change = float((weights - self.model.weights).abs().max())
            self.model.weights = weights

    def regression(self) -> tuple[Tensor, Tensor]:
        """(K, n, 3) features and (K, n, 2) targets along trajectories of the present control."""
        states = rollout(self.model, self.process, self.condition, self.noise).states
        terminal = LAMBDA * (states[:, -1] - PEAK) @ CURVATURE
        solution = lean_adjoint(
            self.base, self.process, states, terminal, self.condition, all_steps(len(states))
        )
        targets = -self.process.sigma[:, None] * regression_targets(
            solution.adjoints, self.adjoint_at
        )
        return self.model.features(states[:, :-1]).transpose(0, 1), targets.transpose(0, 1)

    def errors(self) -> tuple[float, float]:
        """Of mean and covariance of x_K, relative to how far the tilt moves them."""
        mean, covariance = self._end_of(self.base)
        precision = covariance.inverse()
        tilted_covariance = (precision + LAMBDA * CURVATURE).inverse()
        tilted_mean = tilted_covariance @ (precision @ mean + LAMBDA * CURVATURE @ PEAK)
        reached_mean, reached_covariance = self._end_of(self.model)
        return (
            relative(reached_mean - tilted_mean, tilted_mean - mean),
            relative(reached_covariance - tilted_covariance, tilted_covariance - covariance),
        )

    def _end_of(self, predict: Predictor) -> tuple[Tensor, Tensor]:
        return moments(rollout(predict, self.process, self.condition, self.noise).states[:, -1])


@pytest.mark.parametrize(
    ("adjoint_at", "mean_order", "mean_bound"), [("next", 2, 5e-4), ("current", 1, 5e-2)]
)
def test_quadratic_reward_reaches_the_tilted_gaussian(
    adjoint_at: AdjointAt, mean_order: float, mean_bound: float
) -> None:
    """Breaks if the fixpoint is not p exp(lambda r): the errors then do not vanish with K."""
    num_steps = [8, 16, 32]
    errors = [
        QuadraticRewardFixpoint(cosine_process(steps), adjoint_at).errors() for steps in num_steps
    ]
    mean_errors, covariance_errors = map(list, zip(*errors, strict=True))
    assert mean_errors[-1] < mean_bound
    assert covariance_errors[-1] < 5e-2
    assert convergence_order(num_steps, mean_errors) == pytest.approx(mean_order, abs=0.5)
    assert convergence_order(num_steps, covariance_errors) == pytest.approx(1, abs=0.3)


def test_quadratic_reward_on_a_flow_reaches_the_mean_on_any_grid() -> None:
    """Breaks if a flow's first step is not fully memoryless: no bias of the start is left here."""
    num_steps = [8, 16, 32]
    fixpoints = [
        QuadraticRewardFixpoint(memoryless_flow(steps), "next", "flow") for steps in num_steps
    ]
    mean_errors, covariance_errors = zip(*(each.errors() for each in fixpoints), strict=True)
    assert max(mean_errors) < 1e-6
    assert covariance_errors[-1] < 5e-2
    assert convergence_order(num_steps, covariance_errors) == pytest.approx(1, abs=0.3)


def test_quadratic_reward_without_memorylessness_misses_the_tilted_gaussian() -> None:
    """Breaks if eta is ignored: at eta = 0.3 the start biases the result for good."""
    mean_error, covariance_error = QuadraticRewardFixpoint(
        cosine_process(32, eta=0.3), "next"
    ).errors()
    assert mean_error > 0.2
    assert covariance_error > 0.05


def test_fixpoint_is_stationary_for_the_loss() -> None:
    """Breaks if adjoint_matching_loss has another minimiser than the regression on -sigma a."""
    fixpoint = QuadraticRewardFixpoint(cosine_process(6), "next")
    features, targets = fixpoint.regression()
    gain, sigma = fixpoint.process.control_gain, fixpoint.process.sigma

    def gradient(weights: Tensor) -> Tensor:
        weights = weights.clone().requires_grad_()
        losses = [
            adjoint_matching_loss(
                control(features[k] @ weights[k] / gain[k], torch.zeros(2), gain[k]),
                -targets[k] / sigma[k],
                sigma[k],
            ).mean()
            for k in range(len(sigma))
        ]
        return torch.autograd.grad(torch.stack(losses).sum(), weights)[0]

    assert gradient(fixpoint.model.weights).abs().max() < 1e-6
    assert gradient(fixpoint.model.weights + 0.1).abs().max() > 1e-2
