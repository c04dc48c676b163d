"""Base processes whose eps_hat is known in closed form, and tools to measure them exactly."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from soc_ft.core import Schedule


def cosine_schedule(num_steps: int, eta: float = 1.0) -> Schedule:
    """alpha_bar = sin^2(pi/2 (k + 1/2) / K): refines towards a continuous process as K grows."""
    time = (torch.arange(num_steps, dtype=torch.float64) + 0.5) / num_steps
    alpha_bar = (math.pi / 2 * time).sin() ** 2
    return Schedule.from_alphas_cumprod(
        alpha_bar.flip(0), list(range(num_steps - 1, -1, -1)), eta=eta
    )


def alpha_bar_at(schedule: Schedule, t: Tensor) -> Tensor:
    """(N, 1) alpha_bar of training timesteps (N,) of a :func:`cosine_schedule`."""
    return schedule.alpha_bar[schedule.num_steps - 1 - t][:, None]


def no_condition(batch: int) -> Tensor:
    """A condition for predictors that ignore it."""
    return torch.zeros(batch, 1)


class GaussianBase:
    """Exact eps_hat, linear in x, of data ~ N(mean, covariance)."""

    def __init__(self, schedule: Schedule, mean: Tensor, covariance: Tensor) -> None:
        self.schedule = schedule
        self.mean = mean
        self.covariance = covariance

    def __call__(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        alpha_bar = alpha_bar_at(self.schedule, t)
        noised = alpha_bar[..., None] * self.covariance + (1 - alpha_bar[..., None]) * torch.eye(
            len(self.mean), dtype=x.dtype
        )
        centred = x - alpha_bar.sqrt() * self.mean
        return (1 - alpha_bar).sqrt() * torch.linalg.solve(noised, centred)


class MixtureBase:
    """Exact eps_hat of data from a mixture of isotropic Gaussians."""

    def __init__(
        self, schedule: Schedule, weights: Tensor, means: Tensor, variances: Tensor
    ) -> None:
        self.schedule = schedule
        self.weights = weights
        self.means = means
        self.variances = variances

    def __call__(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        alpha_bar = alpha_bar_at(self.schedule, t).to(x)
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


def convergence_order(num_steps: list[int], errors: list[float]) -> float:
    """p of error ~ K^-p, by least squares on the logarithms."""
    log_k = torch.tensor(num_steps, dtype=torch.float64).log()
    log_error = torch.tensor(errors, dtype=torch.float64).log()
    centred = log_k - log_k.mean()
    return -float((centred * log_error).sum() / centred.square().sum())
