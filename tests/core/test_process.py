from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from soc_ft.core import (
    Condition,
    Process,
    adjoint_matching_loss,
    control,
    differentiable_rollout,
    lean_adjoint,
    match_leading,
    normal,
    path_control_cost,
    rollout,
)

from .closed_forms import (
    GaussianBase,
    as_output,
    cosine_process,
    exact_moment_noise,
    levels,
    memoryless_flow,
    moments,
    no_condition,
    process_of,
)

MEAN = torch.tensor([1.0, -0.5], dtype=torch.float64)
COVARIANCE = torch.tensor([[0.8, 0.3], [0.3, 0.5]], dtype=torch.float64)


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def addressed(stream: str, *shape: int) -> Tensor:
    return normal(shape, 0, stream, [(0,)], torch.float64)[0]


GOOD = {
    "times": vector(9, 5),
    "A": vector(1.5, 1.2),
    "c": vector(-0.7, -0.3),
    "sigma": vector(0.4, 0.2),
    "clean_x": vector(2, 1.1),
    "clean_f": vector(-1.8, -0.4),
    "signal": vector(0.5, 0.9),
    "noise": vector(0.8, 0.3),
    "eta": 1.0,
}


def valid_process(**change: Any) -> Process:
    return Process(**{**GOOD, **change})


def test_mean_clean_prediction_and_gain_by_hand() -> None:
    """Breaks if a factor is swapped with another, or applied to the wrong tensor."""
    x, f = vector(10, 20)[:, None], vector(1, -2)[:, None]
    assert valid_process().num_steps == 2
    torch.testing.assert_close(valid_process().mean(0, x, f), vector(15 - 0.7, 30 + 1.4)[:, None])
    torch.testing.assert_close(valid_process().mean(1, x, f), vector(12 - 0.3, 24 + 0.6)[:, None])
    torch.testing.assert_close(valid_process().clean(0, x, f), vector(20 - 1.8, 40 + 3.6)[:, None])
    torch.testing.assert_close(valid_process().clean(1, x, f), vector(11 - 0.4, 22 + 0.8)[:, None])
    torch.testing.assert_close(valid_process().control_gain, vector(-0.7 / 0.4, -0.3 / 0.2))
    torch.testing.assert_close(valid_process().noised(0, x, f), vector(5.8, 8.4)[:, None])
    torch.testing.assert_close(
        valid_process().noised(torch.tensor([1, 0]), x, f), vector(9.3, 8.4)[:, None]
    )
    for k in range(2):
        expected = [GOOD[name][k].view(1, 1) for name in ("A", "c", "sigma")]
        assert all(map(torch.equal, valid_process().coefficients(k, x), expected))


@pytest.mark.parametrize(
    ("eta", "memoryless"), [(0.0, False), (0.99, False), (1.0, True), (2, True)]
)
def test_memoryless(eta: float, memoryless: bool) -> None:
    """Breaks if training with eta < 1 were let through, or eta > 1 refused."""
    assert cosine_process(3, eta).memoryless is memoryless
    assert valid_process(eta=eta).memoryless is memoryless


def test_coefficients_follow_the_tensor_they_act_on() -> None:
    """Breaks if mixed steps in a batch get each other's coefficients, or float64 leaks out."""
    process = cosine_process(5)
    x, f = torch.randn(2, 3, 4, 2, 2, generator=torch.Generator())
    k = torch.tensor([4, 0, 2])
    for coefficient in process.coefficients(k, x):
        assert coefficient.shape == (3, 1, 1, 1)
        assert coefficient.dtype == torch.float32
    for combine in (process.mean, process.clean):
        each = [combine(int(k[i]), x[i : i + 1], f[i : i + 1]) for i in range(3)]
        assert torch.equal(combine(k, x, f), torch.cat(each))
        assert combine(k, x, f.double()).dtype == torch.float32
        assert combine(1, x.bfloat16(), f).dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_times_are_float32_whatever_the_states_are(dtype: torch.dtype) -> None:
    """Breaks if a network in low precision is told 1000 instead of 999, or float64 reaches it."""
    states = torch.zeros(3, 2, dtype=dtype)
    process = valid_process(times=vector(999, 998))
    for k in (0, 1):
        times = process.times_of(k, states)
        assert times.dtype == torch.float32
        assert times.tolist() == [999 - k] * 3
    times = process.times_of(torch.tensor([1, 0, 1]), states)
    assert times.dtype == torch.float32
    assert times.tolist() == [998, 999, 998]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_every_evaluation_is_told_the_times_of_its_step(dtype: torch.dtype) -> None:
    """Breaks if one of the solvers tells a network other times, or casts them to the states'."""
    process = valid_process(times=vector(999, 997))
    told: list[list[float]] = []

    def predict(x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        assert t.dtype == torch.float32
        told.append(t.tolist())
        return x / 2

    noise, condition = torch.ones(2, 3, 4, dtype=dtype), no_condition(2)
    sampled = rollout(predict, process, condition, noise, keep_predictions=True)
    path_control_cost(predict, process, sampled, condition)
    differentiable_rollout(predict, process, condition, noise[:, 0], noise[:, 1:])
    assert told == [[999, 999], [997, 997]] * 3
    told.clear()
    first_step, terminal = torch.tensor([0, 1]), noise[:, 0]
    lean_adjoint(predict, process, sampled.states, terminal, condition, first_step)
    assert told == [[997, 997], [999]]


@pytest.mark.parametrize("name", ["times", "A", "c", "sigma", "clean_x", "clean_f"])
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (vector(9, 5, 1), "vector"),
        (vector(9), "vector"),
        (vector(9, 5)[None], "vector"),
        (vector(9, 5).float(), "float64"),
        (torch.tensor([9, 5]), "float64"),
        (vector(float("nan"), 5), "finite"),
        (vector(float("inf"), 5), "finite"),
    ],
)
def test_vectors_of_another_shape_or_type_are_refused(name: str, bad: Tensor, message: str) -> None:
    """Breaks if one of the six vectors goes unchecked and broadcasts, or yields NaN, later."""
    with pytest.raises(ValueError, match=message):
        valid_process(**{name: bad})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"times": vector(5, 9)}, "times must be strictly decreasing"),
        ({"times": vector(5, 5)}, "times must be strictly decreasing"),
        ({"sigma": vector(0.4, -0.2)}, "sigma"),
        ({"eta": -0.1}, "eta"),
        ({"eta": float("nan")}, "eta"),
        ({"eta": float("inf")}, "eta"),
        ({name: vector() for name in GOOD if name != "eta"}, "not empty"),
        ({name: values[None] for name, values in GOOD.items() if name != "eta"}, "vector"),
    ],
)
def test_bad_transitions_are_refused(change: dict[str, Any], message: str) -> None:
    """Breaks if a process that cannot be sampled, or has no steps, is accepted."""
    with pytest.raises(ValueError, match=message):
        valid_process(**change)


def test_a_process_without_noise_is_accepted() -> None:
    """Breaks if deterministic samplers, which need no control, were refused."""
    assert valid_process(sigma=vector(0, 0), eta=0.0).num_steps == 2


def test_values_line_up_with_leading_dims() -> None:
    """Breaks if (N,) values broadcast along the last dim, or keep a dtype of their own."""
    like = torch.zeros(2, 3, 4, 5)
    assert match_leading(vector(1, 2), like).shape == (2, 1, 1, 1)
    assert match_leading(torch.ones(2, 3), like).shape == (2, 3, 1, 1)
    assert match_leading(torch.tensor(1.0), like).shape == (1, 1, 1, 1)
    assert match_leading(vector(1, 2), like).dtype == torch.float32


# A flow model, whose process is made by hand: nothing but Process itself knows of it.


def test_flow_marginals_are_those_of_the_noising_process() -> None:
    """Breaks if a transition needs to be of DDIM: these are exact at every step, from noise on."""
    flow = memoryless_flow(10)
    base = GaussianBase(flow, MEAN, torch.zeros(2, 2, dtype=torch.float64), "flow")
    noise = exact_moment_noise(10, dims=2)
    states = rollout(base, flow, no_condition(len(noise)), noise).states
    for k, (signal, level) in enumerate(zip(*levels("flow", 10), strict=True)):
        mean, covariance = moments(states[:, k])
        torch.testing.assert_close(mean, signal * MEAN)
        expected = level**2 * torch.eye(2, dtype=torch.float64)
        torch.testing.assert_close(covariance, expected, rtol=1e-10, atol=1e-12)


def test_flow_starts_regularly_at_pure_noise() -> None:
    """Breaks if the step from level 1, where signal is zero, divides by it or keeps the noise."""
    flow = memoryless_flow(6)
    assert flow.times[0] == 1000
    assert flow.sigma.min() > 0
    assert flow.control_gain.isfinite().all()
    torch.testing.assert_close(flow.sigma[0], vector(5 / 6)[0])
    base = GaussianBase(flow, MEAN, COVARIANCE, "flow")
    x = addressed("x", 7, 2)
    f = base(x, flow.times_of(0, x), no_condition(7))
    torch.testing.assert_close(flow.clean(0, x, f), MEAN.expand(7, 2))
    torch.testing.assert_close(flow.mean(0, x, f), MEAN.expand(7, 2) / 6)


def test_flow_forgets_its_start_and_samples_its_data() -> None:
    """Breaks if what makes a process memoryless is more than its coefficients."""
    errors = []
    for num_steps in (32, 64, 128):
        flow = memoryless_flow(num_steps)
        base = GaussianBase(flow, MEAN, COVARIANCE, "flow")
        noise = exact_moment_noise(num_steps, dims=2)
        end = rollout(base, flow, no_condition(len(noise)), noise).states[:, -1]
        assert (noise[:, 0].T @ end / len(noise)).abs().max() < 1e-12
        errors.append(float((moments(end)[1] - COVARIANCE).norm()))
    assert errors[0] > 1.7 * errors[1] > 1.7**2 * errors[2]
    assert errors[2] < 0.05


@pytest.mark.parametrize("output", ["epsilon", "v_prediction", "sample", "flow"])
def test_adjoint_of_a_linear_model_is_the_product_of_its_jacobians(output: str) -> None:
    """Breaks if the recursion assumes an output or a family: here it is known in closed form."""
    linear = process_of(output, 6)
    base = GaussianBase(linear, MEAN, COVARIANCE, output)
    states, terminal = addressed("states", 4, 7, 2), addressed("terminal", 4, 2)
    start = torch.zeros(4, dtype=torch.int64)
    solution = lean_adjoint(base, linear, states, terminal, no_condition(4), start)
    expected, identity = terminal, torch.eye(2, dtype=torch.float64)
    for k in reversed(range(6)):
        times = linear.times[k].float().expand(2)
        intercept = base(torch.zeros(2, 2, dtype=torch.float64), times, no_condition(2))
        jacobian = base(identity, times, no_condition(2)) - intercept  # rows: d f / d x_i
        expected = linear.A[k] * expected + linear.c[k] * expected @ jacobian.T
        torch.testing.assert_close(solution.adjoints[:, k], expected, rtol=1e-11, atol=1e-12)
        at_state = states[:, k] @ jacobian + intercept[0]
        torch.testing.assert_close(solution.base_predictions[:, k], at_state)


@pytest.mark.parametrize("output", ["epsilon", "v_prediction", "sample", "flow"])
def test_control_moves_the_mean_by_sigma_times_itself(output: str) -> None:
    """Breaks if the gain does not turn a difference of outputs into units of the noise."""
    process = process_of(output, 6)
    x, f, base = addressed("x", 3, 6, 2, 3)
    k = torch.arange(6)
    u = control(f, base, process.control_gain[k])
    moved = process.mean(k, x, f) - process.mean(k, x, base)
    torch.testing.assert_close(moved, process.sigma[:, None, None] * u, rtol=1e-11, atol=1e-12)
    # The loss vanishes where the output is the base's less sigma^2 / c times the adjoint.
    adjoint = addressed("adjoint", 6, 2, 3)
    best = base - (process.sigma**2 / process.c)[:, None, None] * adjoint
    loss = adjoint_matching_loss(control(best, base, process.control_gain), adjoint, process.sigma)
    assert loss.max() < 1e-20


@pytest.mark.parametrize("output", ["epsilon", "v_prediction", "sample", "flow"])
def test_clean_prediction_of_an_exact_output_is_the_clean_latent(output: str) -> None:
    """Breaks if a sign or a root in the clean prediction is wrong, at any noise level."""
    process = process_of(output, 9)
    signal, noise = (level[:9, None] for level in levels(output, 9))
    clean, eps = addressed("latents", 2, 9, 4)
    x = signal * clean + noise * eps
    f = as_output(output, clean, eps, signal, noise)
    found = process.clean(torch.arange(9), x, f)
    torch.testing.assert_close(found, clean, rtol=1e-10, atol=1e-10)
    for k in range(9):
        torch.testing.assert_close(process.clean(k, x[k : k + 1], f[k : k + 1]), found[k : k + 1])
