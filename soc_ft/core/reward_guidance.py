"""Guidance while sampling: predictions moved up a reward, without fine-tuning."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from soc_ft.core.condition import Condition
from soc_ft.core.process import Predictor, Process, match_leading


def reward_guided(
    predict: Predictor, process: Process, gradient_of: Callable[[Tensor], Tensor]
) -> Predictor:
    """A predictor whose clean predictions are moved up the reward of the clean prediction.

        x0_hat' = x0_hat + (noise_k^2 / signal_k) g,    g = (d x0_hat / dx)^T lambda grad r(x0_hat)

    By Tweedie's formula that is the score plus g: the conditional score as diffusion posterior
    sampling takes it (Chung et al. 2022, arXiv 2209.14687), with exp(lambda r) for the likelihood.
    The value log E[exp(lambda r) | x_k] is taken at the mean of the clean latent instead, which is
    exact for linear rewards of Gaussian data and otherwise a bias. A step that starts from noise
    alone (signal_k = 0), on which the clean prediction does not depend, is not guided.

    Args:
        predict: output of a model, differentiable in its first argument.
        process: K transitions, with whatever noise.
        gradient_of: clean latents (N, *latent) -> lambda grad r at them.
    """
    factor = process.noise.square() / (process.signal * process.clean_f)
    factor = factor.where(process.signal > 0, 0.0)

    def guided(x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        k = (process.times.to(t) == t[:, None]).int().argmax(dim=1)
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            f = predict(x, t, condition)
            clean = process.clean(k, x, f)
            (g,) = torch.autograd.grad(clean, x, gradient_of(clean.detach()).to(clean.dtype))
        return f.detach() + (match_leading(factor.to(g)[k], g) * g).to(f.dtype)

    return guided
