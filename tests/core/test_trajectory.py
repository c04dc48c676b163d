from __future__ import annotations

import pytest
import torch
from torch import Tensor

from soc_ft.core import (
    Condition,
    PredictionType,
    Predictor,
    Process,
    Trajectory,
    control,
    control_cost,
    differentiable_rollout,
    normal,
    path_control_cost,
    rollout,
)

from .closed_forms import (
    GaussianBase,
    cosine_alpha_bar,
    cosine_process,
    exact_moment_noise,
    memoryless_flow,
    no_condition,
)

MEAN = torch.tensor([1.0, -0.5], dtype=torch.float64)
COVARIANCE = torch.tensor([[0.8, 0.3], [0.3, 0.5]], dtype=torch.float64)


def memory(num_steps: int, eta: float) -> float:
    """Norm of Cov(x_0, x_K) of the exact Gaussian chain."""
    process = cosine_process(num_steps, eta)
    noise = exact_moment_noise(num_steps, dims=2)
    base = GaussianBase(process, MEAN, COVARIANCE)
    end = rollout(base, process, no_condition(len(noise)), noise).states[:, -1]
    return float((noise[:, 0].T @ (end - end.mean(dim=0)) / len(noise)).norm())


def test_eta_one_forgets_its_start_and_less_does_not() -> None:
    """Breaks if eta = 1 is not memoryless: the premise of adjoint matching."""
    assert memory(100, eta=1.0) < 0.01
    assert memory(100, eta=1.0) < memory(50, eta=1.0) / 1.9
    assert memory(100, eta=0.3) > 0.3
    assert memory(100, eta=0.0) > 0.9


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_marginals_are_those_of_the_noising_process(eta: float, prediction: PredictionType) -> None:
    """Breaks if mean and noise of a transition do not fit: here they are exact at every step."""
    process, levels = cosine_process(10, eta, prediction), cosine_alpha_bar(10)
    base = GaussianBase(process, MEAN, torch.zeros(2, 2, dtype=torch.float64), prediction)
    noise = exact_moment_noise(10, dims=2)
    start = levels[0]
    noise[:, 0] = start.sqrt() * MEAN + (1 - start).sqrt() * noise[:, 0]
    states = rollout(base, process, no_condition(len(noise)), noise).states
    alpha_bars = torch.cat([levels, (1 + levels[-1:]) / 2])
    for k, alpha_bar in enumerate(alpha_bars):
        torch.testing.assert_close(states[:, k].mean(dim=0), alpha_bar.sqrt() * MEAN)
        covariance = torch.cov(states[:, k].T, correction=0)
        expected = (1 - alpha_bar) * torch.eye(2, dtype=torch.float64)
        torch.testing.assert_close(covariance, expected, rtol=1e-10, atol=1e-12)


def test_gaussian_data_are_sampled_in_the_limit() -> None:
    """Breaks if the process drifts from its data distribution as the grid is refined."""
    errors = []
    for num_steps in (32, 64, 128):
        process = cosine_process(num_steps)
        noise = exact_moment_noise(num_steps, dims=2)
        base = GaussianBase(process, MEAN, COVARIANCE)
        end = rollout(base, process, no_condition(len(noise)), noise).states[:, -1]
        errors.append(float((torch.cov(end.T, correction=0) - COVARIANCE).norm()))
    assert errors[0] > 1.7 * errors[1] > 1.7**2 * errors[2]
    assert errors[2] < 0.05


def test_shapes_dtypes_and_what_the_predictor_sees() -> None:
    """Breaks if times, conditions or dtypes are mixed up, or predictions are not recorded."""
    process = cosine_process(3)
    seen = []

    def predict(x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        seen.append((t.tolist(), torch.is_grad_enabled()))
        return (x.tanh() + condition.shift[:, :1, None, None]).to(torch.bfloat16)

    noise = normal((4, 2, 5, 5), 0, "x", [(i,) for i in range(6)])
    condition = Condition(shift=torch.arange(12.0).view(6, 2))
    trajectory = rollout(predict, process, condition, noise, keep_predictions=True)
    assert trajectory.predictions is not None
    assert seen == [([2] * 6, False), ([1] * 6, False), ([0] * 6, False)]
    assert trajectory.states.shape == noise.shape
    assert trajectory.states.dtype == trajectory.predictions.dtype == torch.float32
    assert torch.equal(trajectory.states[:, 0], noise[:, 0])
    for k in range(3):
        x, f = trajectory.states[:, k], trajectory.predictions[:, k]
        assert torch.equal(f, predict(x, torch.zeros(6), condition).float())
        step = process.mean(k, x, f) + process.sigma[k].float() * noise[:, k + 1]
        torch.testing.assert_close(trajectory.states[:, k + 1], step)


def test_predictions_are_kept_on_request_only() -> None:
    """Breaks if memory is spent on predictions that nobody asked for."""
    noise = torch.zeros(2, 4, 3)
    trajectory = rollout(lambda x, t, c: x, cosine_process(3), no_condition(2), noise)
    assert trajectory.predictions is None


def test_noise_of_another_length_is_refused() -> None:
    """Breaks if a grid and noise of different lengths run silently."""
    with pytest.raises(ValueError, match="expected 4"):
        rollout(lambda x, t, c: x, cosine_process(3), no_condition(2), torch.zeros(2, 5, 3))


@pytest.mark.parametrize("process", [cosine_process(4), memoryless_flow(4)], ids=["ddim", "flow"])
def test_path_control_cost_sums_the_divergence_of_every_step(process: Process) -> None:
    """Breaks if a step, a sample or the gain is left out of the KL term of the objective."""
    condition = no_condition(3)
    noise = normal((5, 2), 0, "x", [(i,) for i in range(3)], torch.float64)
    sampled = rollout(lambda x, t, c: x.sin(), process, condition, noise, keep_predictions=True)
    cost = path_control_cost(lambda x, t, c: x, process, sampled, condition)
    steps = [
        control_cost(control(x.sin(), x, process.control_gain[k]))
        for k, x in enumerate(sampled.states[:, :-1].unbind(dim=1))
    ]
    torch.testing.assert_close(cost, sum(steps))
    by_hand = [
        ((process.c[k] / process.sigma[k] * (x.sin() - x)) ** 2).sum(dim=1) / 2
        for k, x in enumerate(sampled.states[:, :-1].unbind(dim=1))
    ]
    torch.testing.assert_close(cost, sum(by_hand))
    with pytest.raises(ValueError, match="keep_predictions"):
        path_control_cost(lambda x, t, c: x, process, Trajectory(sampled.states), condition)


# The end of a rollout with gradient.

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
    found, _ = differentiable_rollout(
        end.network,
        end.process,
        end.condition,
        end.x,
        end.noise,
        carries=carries,
        recompute=recompute,
    )
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
    found, _ = differentiable_rollout(
        end.network, end.process, end.condition, end.x, end.noise, carries=last
    )
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
    found, _ = differentiable_rollout(
        end.network,
        end.process,
        end.condition,
        end.x,
        end.noise,
        carries=carries,
        through_inputs=False,
    )
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

    _, total = differentiable_rollout(
        end.network,
        end.process,
        end.condition,
        end.x,
        end.noise,
        cost=cost,
        recompute=recompute,
    )
    x, expected = end.x, torch.zeros(BATCH, dtype=torch.float64)
    for k in range(2, STEPS):
        f = end.network(x, end.process.times[k].float().expand(BATCH), end.condition)
        expected = expected + cost(k, x, f)
        x = end.process.mean(k, x, f) + end.process.sigma[k] * end.noise[:, k - 2]
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(gradient_of(total, end.network), gradient_of(expected, end.network))
