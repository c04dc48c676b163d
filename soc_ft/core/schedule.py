"""The time grid of DDIM sampling and the coefficients of its transitions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from soc_ft.core.shapes import match_leading


@dataclass(frozen=True, eq=False)
class Schedule:
    """K DDIM transitions (Song et al. 2021, eq. 12), from k = 0 (noisiest) to K (clean).

        x_{k+1} = m_k(x_k; eps_hat) + sigma_k z_k,    m_k(x; eps_hat) = A_k x + c_k eps_hat

    Attributes:
        timesteps: (K,) int64, training timesteps, strictly decreasing.
        alpha_bar: (K,) float64 in (0, 1), cumulative product at ``timesteps``, strictly increasing.
        alpha_bar_next: (K,) float64 in (0, 1), cumulative product after the transition, strictly
            greater than ``alpha_bar``. The last one is below 1, or the last sigma would vanish and
            with it the control.
        eta: noise level, >= 0. The process is memoryless (its end is independent of its start), as
            adjoint matching requires, from 1 on. Above 1 its marginals are exact only as K grows.

    Raises:
        ValueError: if an attribute is out of its range.
    """

    timesteps: Tensor
    alpha_bar: Tensor
    alpha_bar_next: Tensor
    eta: float

    def __post_init__(self) -> None:
        shape = self.timesteps.shape
        if len(shape) != 1 or shape[0] == 0 or self.timesteps.dtype != torch.int64:
            raise ValueError(f"timesteps must be a non-empty vector of int64, got {self.timesteps}")
        if self.timesteps.min() < 0 or (self.timesteps.diff() >= 0).any():
            raise ValueError(
                f"timesteps must be >= 0 and strictly decreasing, got {self.timesteps}"
            )
        for name in ("alpha_bar", "alpha_bar_next"):
            values = getattr(self, name)
            if values.shape != shape or values.dtype != torch.float64:
                raise ValueError(f"{name} must be float64 of shape {tuple(shape)}, like timesteps")
            if not ((values > 0) & (values < 1)).all():
                raise ValueError(f"{name} must lie strictly between 0 and 1, got {values}")
            if (values.diff() <= 0).any():
                raise ValueError(f"{name} must increase strictly with the step, got {values}")
        if (self.alpha_bar_next <= self.alpha_bar).any():
            raise ValueError("alpha_bar_next must exceed alpha_bar at every step")
        if not 0 <= self.eta < float("inf"):
            raise ValueError(f"eta must be finite and >= 0, got {self.eta}")

    @classmethod
    def from_alphas_cumprod(
        cls, alphas_cumprod: Tensor, timesteps: Tensor | Sequence[int], eta: float
    ) -> Schedule:
        """Build the grid on which each transition ends where the next one starts.

        Args:
            alphas_cumprod: (T,) cumulative products of the training process.
            timesteps: (K,) training timesteps, strictly decreasing, within [0, T).
            eta: noise level, >= 0.

        The last transition ends at (1 + alpha_bar_{K-1}) / 2.
        """
        timesteps = torch.as_tensor(timesteps, dtype=torch.int64).cpu()
        if timesteps.numel() and not 0 <= int(timesteps.min()) <= int(timesteps.max()) < len(
            alphas_cumprod
        ):
            raise ValueError(f"timesteps must lie in [0, {len(alphas_cumprod)}), got {timesteps}")
        alpha_bar = alphas_cumprod.to("cpu", torch.float64)[timesteps]
        return cls(timesteps, alpha_bar, torch.cat([alpha_bar[1:], (1 + alpha_bar[-1:]) / 2]), eta)

    @property
    def num_steps(self) -> int:
        """K."""
        return len(self.timesteps)

    @property
    def memoryless(self) -> bool:
        """Whether the noise suffices for the end of the process to forget its start."""
        return self.eta >= 1

    @cached_property
    def sigma(self) -> Tensor:
        """(K,) standard deviation of the transition's noise; zero for eta = 0."""
        ratio = (1 - self.alpha_bar_next) / (1 - self.alpha_bar)
        return self.eta * (ratio * (1 - self.alpha_bar / self.alpha_bar_next)).sqrt()

    @cached_property
    def A(self) -> Tensor:
        """(K,) factor of the state in the mean."""
        return (self.alpha_bar_next / self.alpha_bar).sqrt()

    @cached_property
    def c(self) -> Tensor:
        """(K,) factor of eps_hat in the mean."""
        # For eta > 1 the noise may exceed the variance of the marginal; the root then changes sign.
        direction = 1 - self.alpha_bar_next - self.sigma**2
        to_clean = (self.alpha_bar_next * (1 - self.alpha_bar) / self.alpha_bar).sqrt()
        return direction.sign() * direction.abs().sqrt() - to_clean

    @cached_property
    def control_gain(self) -> Tensor:
        """(K,) c / sigma: what a difference of predictions weighs as a control. Needs eta > 0."""
        return self.c / self.sigma

    def coefficients(self, k: int | Tensor, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(A, c, sigma) of step ``k``, ready to be combined with ``like``.

        Args:
            k: one step for all samples, or (N,) int64, one step per sample.
            like: (N, *latent), gives dtype and device.

        Returns:
            Three tensors that broadcast against ``like``.
        """
        table = torch.stack([self.A, self.c, self.sigma]).to(like)
        steps = k.to(like.device) if isinstance(k, Tensor) else k
        A, c, sigma = (match_leading(row[steps], like) for row in table)
        return A, c, sigma

    def mean(self, k: int | Tensor, x: Tensor, eps_hat: Tensor) -> Tensor:
        """m_k(x; eps_hat) (N, *latent), in the dtype of ``x``."""
        A, c, _ = self.coefficients(k, x)
        return A * x + c * eps_hat.to(x.dtype)
