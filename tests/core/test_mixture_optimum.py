"""On a mixture of Gaussians, adjoint matching samples p exp(lambda r), and only if memoryless."""

from __future__ import annotations

import torch
from torch import Tensor

from soc_ft.core import Condition, Predictor, Process, lean_adjoint, rollout

from .closed_forms import MixtureBase, cosine_process, no_condition, step_of


class RadialControl:
    """A control per step, linear in Gaussian bumps on a grid over the plane."""

    def __init__(self, base: Predictor, process: Process) -> None:
        self.base = base
        self.process = process
        self.grid = torch.linspace(-3, 3, 8)
        self.weights = torch.zeros(process.num_steps, len(self.grid) ** 2 + 3, 2)

    def __call__(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        k = int(step_of(self.process, t[:1]))
        u = self.features(x) @ self.weights[k]
        return self.base(x, t, condition) + u / self.process.control_gain[k].float()

    def features(self, x: Tensor) -> Tensor:
        width = self.grid[1] - self.grid[0]
        along_axes = (-(((x[..., None] - self.grid) / width) ** 2) / 2).exp()
        bumps = along_axes[:, 0, :, None] * along_axes[:, 1, None, :]
        return torch.cat([bumps.flatten(1), x, torch.ones_like(x[:, :1])], dim=1)


class TiltedMixture:
    """Adjoint matching on a two-dimensional mixture with the reward <tilt, x>."""

    LIMIT, BINS = 3.5, 14

    def __init__(self, eta: float, num_steps: int = 40) -> None:
        self.process = cosine_process(num_steps, eta)
        self.base = MixtureBase(
            self.process,
            weights=torch.tensor([0.5, 0.3, 0.2]),
            means=torch.tensor([[-1.5, 0.0], [1.2, 1.2], [1.0, -1.3]]),
            variances=torch.tensor([0.25, 0.16, 0.2]),
        )
        self.tilt = torch.tensor([1.0, 0.3])
        self.model = RadialControl(self.base, self.process)

    def train(self, iterations: int = 12, batch: int = 2000) -> Tensor:
        """Regress each step's control on -sigma a_{k+1}; samples (n, 2) of the last iterations."""
        generator = torch.Generator().manual_seed(0)
        condition = no_condition(batch)
        first_step = torch.zeros(batch, dtype=torch.int64)
        size = self.model.weights.shape[1]
        gram = torch.zeros(self.process.num_steps, size, size)
        moment = torch.zeros_like(self.model.weights)
        sigma = self.process.sigma.float()
        samples = []
        for _ in range(iterations):
            noise = torch.randn(batch, self.process.num_steps + 1, 2, generator=generator)
            states = rollout(self.model, self.process, condition, noise).states
            terminal = (-self.tilt).expand(batch, 2)
            adjoints = lean_adjoint(
                self.base,
                self.process,
                states,
                terminal,
                condition,
                first_step,
                adjoint_at="next",
            ).adjoints
            gram *= 0.5
            moment *= 0.5
            for k in range(self.process.num_steps):
                features = self.model.features(states[:, k])
                gram[k] += features.T @ features / batch
                moment[k] -= sigma[k] * features.T @ adjoints[:, k + 1] / batch
            self.model.weights = torch.linalg.solve(gram + 1e-4 * torch.eye(size), moment)
            samples.append(states[:, -1])
        return torch.cat(samples[iterations // 2 :])

    def histogram(self, x: Tensor) -> Tensor:
        """(BINS^2,) share of the samples in each cell of the square [-LIMIT, LIMIT]^2."""
        cell = ((x + self.LIMIT) * self.BINS / (2 * self.LIMIT)).long().clamp(0, self.BINS - 1)
        index = cell[:, 0] * self.BINS + cell[:, 1]
        return torch.bincount(index, minlength=self.BINS**2) / len(x)

    def target(self, resolution: int = 16) -> Tensor:
        """(BINS^2,) the mass of p exp(lambda r) in each cell, by quadrature."""
        points = self.BINS * resolution
        axis = ((torch.arange(points) + 0.5) / points * 2 - 1) * self.LIMIT
        plane = torch.cartesian_prod(axis, axis)
        mass = (self.base.log_density(plane) + plane @ self.tilt).exp().double()
        cells = mass.view(self.BINS, resolution, self.BINS, resolution).sum(dim=(1, 3))
        return (cells / cells.sum()).flatten().float()

    def target_mode_weights(self) -> Tensor:
        """(3,) share of each component under p exp(lambda r)."""
        exponent = self.base.means @ self.tilt + self.base.variances * self.tilt.square().sum() / 2
        weights = self.base.weights * exponent.exp()
        return weights / weights.sum()

    def mode_weights(self, x: Tensor) -> Tensor:
        """(3,) share of the samples nearest to each mean."""
        nearest = (x[:, None] - self.base.means).norm(dim=2).argmin(dim=1)
        return torch.bincount(nearest, minlength=3) / len(x)


def total_variation(p: Tensor, q: Tensor) -> float:
    return float((p - q).abs().sum() / 2)


def test_mixture_is_tilted_by_the_reward() -> None:
    """Breaks if any part of the algorithm is biased: rollout, adjoint, targets, memorylessness."""
    mixture = TiltedMixture(eta=1.0)
    samples = mixture.train()
    assert total_variation(mixture.histogram(samples), mixture.target()) < 0.09
    error = mixture.mode_weights(samples) - mixture.target_mode_weights()
    assert error.abs().max() < 0.05


def test_mixture_without_memorylessness_is_not() -> None:
    """Breaks if eta < 1 behaved like eta = 1: the modes would then be right here as well."""
    mixture = TiltedMixture(eta=0.3)
    samples = mixture.train()
    assert total_variation(mixture.histogram(samples), mixture.target()) > 0.2
    error = mixture.mode_weights(samples) - mixture.target_mode_weights()
    assert error.abs().max() > 0.15
