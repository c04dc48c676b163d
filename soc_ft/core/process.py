"""Sampling as K affine Gaussian transitions, whatever the family of the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from soc_ft.core.condition import Condition

Predictor = Callable[[Tensor, Tensor, Condition], Tensor]
"""(x (N, *latent), t (N,) float32 times, condition of N rows) -> output f (N, *latent).

The output is the network's own: noise, velocity, clean latent or flow velocity.
"""

_VECTORS = ("times", "A", "c", "sigma", "clean_x", "clean_f", "signal", "noise")
_Table = tuple[str, torch.device, torch.dtype]


@dataclass(frozen=True, eq=False)
class Process:
    """K transitions, from k = 0 (noisiest) to K (clean), each linear in the network's output f.

        x_{k+1} = m_k(x_k; f) + sigma_k z_k,    m_k(x; f) = A_k x + c_k f
        x0_hat = clean_x_k x_k + clean_f_k f
        x_k ~ signal_k x_0 + noise_k eps    in training

    DDIM, ancestral sampling, flow SDEs and consistency models are of this form; a constructor of a
    family computes the vectors from noise levels and the network's prediction type (see
    :func:`soc_ft.core.ddim`).

    Attributes:
        times: (K,) float64, what the network is told, strictly decreasing.
        A: (K,) float64, factor of the state in the mean.
        c: (K,) float64, factor of the output in the mean.
        sigma: (K,) float64 >= 0, standard deviation of the noise.
        clean_x: (K,) float64, factor of the state in the clean prediction.
        clean_f: (K,) float64, factor of the output in the clean prediction.
        signal: (K,) float64, factor of the clean latent in what the network was trained on.
        noise: (K,) float64, factor of the noise there.
        eta: noise level relative to the memoryless member of the family, which has 1: its end is
            independent of its start.
        ends_clean: what is decoded is the clean prediction of the last transition, and not x_K,
            which is that prediction with noise (see :func:`soc_ft.core.multistep_consistency`).

    Raises:
        ValueError: an attribute is of another shape or type, or out of its range.
    """

    times: Tensor
    A: Tensor
    c: Tensor
    sigma: Tensor
    clean_x: Tensor
    clean_f: Tensor
    signal: Tensor
    noise: Tensor
    eta: float
    ends_clean: bool = False
    _tables: dict[_Table, Tensor] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        """Check shapes, types and ranges."""
        shape = self.times.shape
        for name in _VECTORS:
            values = getattr(self, name)
            if values.dtype != torch.float64 or values.dim() != 1 or values.shape != shape:
                raise ValueError(f"{name} must be a float64 vector like times, got {values}")
            if not len(values) or not values.isfinite().all():
                raise ValueError(f"{name} must be finite and not empty, got {values}")
        if (self.times.diff() >= 0).any():
            raise ValueError(f"times must be strictly decreasing, got {self.times}")
        if (self.sigma < 0).any():
            raise ValueError(f"sigma must not be negative, got {self.sigma}")
        if not 0 <= self.eta < float("inf"):
            raise ValueError(f"eta must be finite and >= 0, got {self.eta}")

    @property
    def num_steps(self) -> int:
        """K."""
        return len(self.times)

    @property
    def memoryless(self) -> bool:
        """Whether the noise suffices for the end of the process to forget its start.

        Never where a clean prediction is decoded: consistency models carry the start to it through
        every step.
        """
        return self.eta >= 1 and not self.ends_clean

    @cached_property
    def control_gain(self) -> Tensor:
        """(K,) c / sigma: what a difference of outputs weighs as a control. Needs sigma > 0."""
        return self.c / self.sigma

    def coefficients(self, k: int | Tensor, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(A, c, sigma) of step ``k``, ready to be combined with ``like``.

        Args:
            k: one step for all samples, or (N,) int64, one step per sample.
            like: (N, *latent), gives dtype and device.

        Returns:
            Three tensors that broadcast against ``like``.
        """
        return self._of("A", k, like), self._of("c", k, like), self.sigma_of(k, like)

    def sigma_of(self, k: int | Tensor, like: Tensor) -> Tensor:
        """Noise level of step ``k``, as :meth:`coefficients` gives it."""
        return self._of("sigma", k, like)

    def control_gain_of(self, k: int | Tensor, like: Tensor) -> Tensor:
        """The control gain of step ``k``, as :meth:`coefficients` gives the others."""
        return self._of("control_gain", k, like)

    def times_of(self, k: int | Tensor, like: Tensor) -> Tensor:
        """(N,) float32 times of step ``k`` for the N samples of ``like``, on its device.

        Never in the precision of ``like``: bfloat16 cannot hold 999.
        """
        return self._at("times", k, like.device, torch.float32).expand(len(like))

    def mean(self, k: int | Tensor, x: Tensor, f: Tensor) -> Tensor:
        """m_k(x; f) (N, *latent), in the dtype of ``x``."""
        A, c, _ = self.coefficients(k, x)
        return A * x + c * f.to(x.dtype)

    def clean(self, k: int | Tensor, x: Tensor, f: Tensor) -> Tensor:
        """x0_hat (N, *latent), the clean latent that the output stands for, in the dtype of x."""
        return self._of("clean_x", k, x) * x + self._of("clean_f", k, x) * f.to(x.dtype)

    def noised(self, k: int | Tensor, clean: Tensor, noise: Tensor) -> Tensor:
        """What the network was trained on at step ``k``, in the dtype of ``clean`` (N, *latent)."""
        return self._of("signal", k, clean) * clean + self._of("noise", k, clean) * noise

    def _of(self, name: str, k: int | Tensor, like: Tensor) -> Tensor:
        return match_leading(self._at(name, k, like.device, like.dtype), like)

    def _at(self, name: str, k: int | Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Entries of a vector, from a table on the device: a copy of each would be waited for."""
        place = (name, device, dtype)
        if place not in self._tables:
            self._tables[place] = getattr(self, name).to(device, dtype)
        return self._tables[place][k.to(device) if isinstance(k, Tensor) else k]


def match_leading(values: Tensor, like: Tensor) -> Tensor:
    """View ``values`` so that its dims line up with the leading dims of ``like``.

    Args:
        values: scalar, (N,), (B, K) ... whose shape broadcasts against the first dims of ``like``.
        like: tensor that the result is to be combined with.

    Returns:
        ``values`` in the dtype and on the device of ``like``, with trailing dims of size one.
    """
    return values.to(like).reshape(*values.shape, *(1,) * (like.dim() - values.dim()))
