"""The surrogate as a reward: what it predicts, and more where it knows little."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from soc_ft.errors import RunError
from soc_ft.feedback.options import Bonus, Fit
from soc_ft.feedback.surrogate import Surrogate

Features = Callable[[Tensor, Sequence[str]], Tensor]
"""(pictures (B, 3, H, W) in [0, 1], B prompts) -> (B, D) float32, differentiable."""

Optimism = Literal["none", "bonus", "heads"]


class SurrogateReward:
    """What methods are trained on between two questions.

    ``none`` is the mean of the heads; ``bonus`` adds min(scale sqrt(phi' M^-1 phi), cap), an upper
    confidence bound; ``heads`` is the largest of the heads' predictions.
    """

    name: ClassVar[str] = "surrogate"
    differentiable: ClassVar[bool] = True

    def __init__(self, features: Features, optimism: Optimism, bonus: Bonus) -> None:
        """Start without a surrogate.

        Args:
            features: of pictures for their prompts.
            optimism: see the class.
            bonus: its settings.
        """
        self.features = features
        self.optimism = optimism
        self.bonus = bonus
        self.surrogate: Surrogate | None = None
        self._factor: Tensor | None = None

    def use(self, surrogate: Surrogate, features: Tensor) -> None:
        """Score with a surrogate.

        Args:
            surrogate: fitted.
            features: (n, D), of all pictures that were asked about; what is known is known there.
        """
        self.surrogate = surrogate
        self._factor = None
        if self.optimism == "bonus":
            matrix = self.bonus.matrix
            self._factor = confidence_factor(
                surrogate.penultimate(features), matrix, self.bonus.ridge
            )

    def state_dict(self) -> dict[str, Any]:
        """The surrogate's weights and the factor of its bonus, if there are any."""
        weights = None if self.surrogate is None else self.surrogate.state_dict()
        return {"surrogate": weights, "factor": self._factor}

    def load_state_dict(self, state: Mapping[str, Any], fit: Fit) -> None:
        """Score as before; ``fit`` are the settings of the surrogate."""
        weights = state["surrogate"]
        if weights is None:
            return
        surrogate = Surrogate(len(weights["feature_mean"]), fit)
        surrogate.load_state_dict(weights)
        self.surrogate = surrogate.requires_grad_(False).eval()
        self._factor = state["factor"]

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """(B, 3, H, W) pictures in [0, 1] for B prompts -> (B,).

        Raises:
            RunError: nothing was asked yet.
        """
        if self.surrogate is None:
            raise RunError("the surrogate of the reward was asked before it knew any answer")
        features = self.features(images, prompts)
        predicted = self.surrogate(features)
        if self.optimism == "heads":
            return predicted.amax(dim=0)
        score = predicted.mean(dim=0)
        if self._factor is None:
            return score
        width = confidence_width(self.surrogate.penultimate(features), self._factor)
        return score + (self.bonus.scale * width).clamp_max(self.bonus.cap)

    def to(self, device: torch.device) -> Self:
        """Move the surrogate; the features are moved by who owns them."""
        if self.surrogate is not None:
            self.surrogate.to(device)
        if self._factor is not None:
            self._factor = self._factor.to(device)
        return self


def confidence_factor(
    activations: Tensor, matrix: Literal["gram", "covariance"], ridge: float
) -> Tensor:
    """Lower Cholesky factor (F, F) float64 of M.

    With ``gram``, M = sum_i phi_i phi_i' + ridge I: for a linear model with unit noise and a prior
    of variance 1 / ridge, phi' M^-1 phi is the posterior variance of the prediction. With
    ``covariance``, M = cov(phi) + ridge I as in SEIKO's code, which does not grow with the data.

    Args:
        activations: (n, F), phi of what was asked about; n >= 2 for a covariance.
        matrix: which.
        ridge: > 0.
    """
    phi = activations.double()
    if matrix == "covariance":
        phi = phi - phi.mean(dim=0)
        phi = phi / (len(phi) - 1) ** 0.5
    identity = torch.eye(phi.shape[1], dtype=phi.dtype, device=phi.device)
    return torch.linalg.cholesky(phi.mT @ phi + ridge * identity)


def confidence_width(activations: Tensor, factor: Tensor) -> Tensor:
    """(B,) sqrt(phi' M^-1 phi) in the dtype of (B, F) phi, from M's Cholesky factor."""
    solved = torch.linalg.solve_triangular(factor, activations.double().mT, upper=False)
    # The root has no gradient at zero, where a picture has no activation at all.
    return solved.square().sum(dim=0).clamp_min(1e-24).sqrt().to(activations.dtype)
