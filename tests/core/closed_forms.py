"""Base processes whose output is known in closed form, and tools to measure them exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from soc_ft.core import Condition, PredictionType, Process, ddim_on_grid

Output = Literal["epsilon", "v_prediction", "sample", "flow"]
"""What a network predicts of x = signal * clean + noise * eps; ``flow`` is eps - clean."""


def cosine_alpha_bar(num_steps: int) -> Tensor:
    """(K,) sin^2(pi/2 (k + 1/2) / K): refines towards a continuous process as K grows."""
    time = (torch.arange(num_steps, dtype=torch.float64) + 0.5) / num_steps
    return (math.pi / 2 * time).sin() ** 2


def cosine_process(
    num_steps: int, eta: float = 1.0, prediction: PredictionType = "epsilon"
) -> Process:
    """DDIM on :func:`cosine_alpha_bar`, at the times K-1, ..., 0."""
    alpha_bar = cosine_alpha_bar(num_steps)
    return ddim_on_grid(alpha_bar.flip(0), range(num_steps - 1, -1, -1), eta, prediction)


def memoryless_flow(num_steps: int) -> Process:
    """The memoryless transitions of a flow model, by hand (METHODS-2.md 0.3, out = v).

    The noise level falls from 1 by 1/K a step, and by half at the last one. The network is told
    1000 times the level.
    """
    level = _flow_levels(num_steps)
    here, there = level[:-1], level[1:]
    alpha, alpha_next = 1 - here, 1 - there
    sigma = ((there / here) ** 2 * (here**2 - (alpha / alpha_next) ** 2 * there**2)).sqrt()
    remaining = (there**2 - sigma**2).sqrt()
    return Process(
        times=1000 * here,
        A=alpha_next + remaining,
        c=-alpha_next * here + remaining * alpha,
        sigma=sigma,
        clean_x=torch.ones_like(here),
        clean_f=-here,
        signal=alpha,
        noise=here,
        eta=1.0,
    )


def _flow_levels(num_steps: int) -> Tensor:
    falling = 1 - torch.arange(num_steps, dtype=torch.float64) / num_steps
    return torch.cat([falling, falling[-1:] / 2])


def process_of(output: Output, num_steps: int) -> Process:
    """The memoryless process of this file for a network with this output."""
    if output == "flow":
        return memoryless_flow(num_steps)
    return cosine_process(num_steps, prediction=output)


def levels(output: Output, num_steps: int) -> tuple[Tensor, Tensor]:
    """(K+1,) factors of the clean latent and of eps in x_k, of :func:`process_of`."""
    if output == "flow":
        level = _flow_levels(num_steps)
        return 1 - level, level
    alpha_bar = cosine_alpha_bar(num_steps)
    alpha_bar = torch.cat([alpha_bar, (1 + alpha_bar[-1:]) / 2])
    return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()


def as_output(output: Output, clean: Tensor, eps: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
    """What a network with this output says where it believes in this clean latent and noise."""
    return {
        "epsilon": eps,
        "v_prediction": signal * eps - noise * clean,
        "sample": clean,
        "flow": eps - clean,
    }[output]


def step_of(process: Process, t: Tensor) -> Tensor:
    """(N,) steps of the times (N,) that a network is told; they have to be exact."""
    found = t[:, None] == process.times.float()
    assert t.dtype == torch.float32
    assert (found.sum(dim=1) == 1).all(), f"{t} are not times of the process"
    return found.int().argmax(dim=1)


def no_condition(batch: int) -> Condition:
    """A condition for predictors that ignore it."""
    return Condition(nothing=torch.zeros(batch, 1))


class GaussianBase:
    """Exact output, linear in x, for data ~ N(mean, covariance)."""

    def __init__(
        self, process: Process, mean: Tensor, covariance: Tensor, output: Output = "epsilon"
    ) -> None:
        self.process = process
        self.mean = mean
        self.covariance = covariance
        self.output = output
        self.signal, self.noise = levels(output, process.num_steps)

    def __call__(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        k = step_of(self.process, t)
        signal, noise = self.signal[k][:, None], self.noise[k][:, None]
        noised = signal[..., None] ** 2 * self.covariance + noise[..., None] ** 2 * torch.eye(
            len(self.mean), dtype=x.dtype
        )
        solved = torch.linalg.solve(noised, x - signal * self.mean)
        clean = self.mean + signal * solved @ self.covariance
        return as_output(self.output, clean, noise * solved, signal, noise)


class MixtureBase:
    """Exact eps_hat of data from a mixture of isotropic Gaussians."""

    def __init__(self, process: Process, weights: Tensor, means: Tensor, variances: Tensor) -> None:
        self.process = process
        self.alpha_bar = cosine_alpha_bar(process.num_steps)
        self.weights = weights
        self.means = means
        self.variances = variances

    def __call__(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        alpha_bar = self.alpha_bar[step_of(self.process, t)][:, None].to(x)
        variances = alpha_bar * self.variances + 1 - alpha_bar
        centred = x[:, None] - alpha_bar.sqrt()[..., None] * self.means
        log_joint = self._log_joint(centred, variances)
        scaled = (log_joint.softmax(dim=1) / variances)[..., None] * centred
        return (1 - alpha_bar).sqrt() * scaled.sum(dim=1)

    def log_density(self, x: Tensor) -> Tensor:
        """(N,) log density of the data, up to a constant."""
        return self._log_joint(x[:, None] - self.means, self.variances).logsumexp(dim=1)

    def _log_joint(self, centred: Tensor, variances: Tensor) -> Tensor:
        dims = centred.shape[-1]
        squared = centred.square().sum(dim=-1)
        return self.weights.log() - dims / 2 * variances.log() - squared / (2 * variances)


def exact_moment_noise(num_steps: int, dims: int) -> Tensor:
    """Noise (n, K+1, dims) whose empirical mean is exactly 0 and covariance exactly 1.

    A linear chain driven by it has exact first and second moments: no sampling error is left.
    """
    total = (num_steps + 1) * dims
    points = math.sqrt(total) * torch.eye(total, dtype=torch.float64)
    return torch.cat([points, -points]).view(2 * total, num_steps + 1, dims)


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (d,) and covariance (d, d) of samples (n, d)."""
    return x.mean(dim=0), torch.cov(x.T, correction=0)


def convergence_order(num_steps: Sequence[int], errors: Sequence[float]) -> float:
    """p of error ~ K^-p, by least squares on the logarithms."""
    log_k = torch.tensor(num_steps, dtype=torch.float64).log()
    log_error = torch.tensor(errors, dtype=torch.float64).log()
    centred = log_k - log_k.mean()
    return -float((centred * log_error).sum() / centred.square().sum())
