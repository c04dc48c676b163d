"""Consistency models: networks that go to the end in one evaluation, and back to a noise level."""

from __future__ import annotations

import torch
from torch import Tensor

from soc_ft.core.process import Process
from soc_ft.core.variance_preserving import PredictionType, check_levels, predictions

_SIGMA_DATA = 0.5
"""Deviation of the data that the boundary conditions assume; every released model has this one."""


def multistep_consistency(
    timesteps: Tensor,
    alpha_bar: Tensor,
    prediction: PredictionType = "epsilon",
    *,
    timestep_scaling: float = 10.0,
) -> Process:
    """K transitions of multistep consistency sampling (Song et al. 2023, arXiv 2303.01469).

    As latent consistency models have them (Luo et al. 2023, 2310.04378):

        d = c_out x0_hat + c_skip x,    x' = sqrt(alpha_bar') d + sqrt(1 - alpha_bar') z,
        c_skip = 0.25 / (s^2 + 0.25),   c_out = s / sqrt(s^2 + 0.25),   s = timestep_scaling t.

    alpha_bar' is that of the next timestep. At the last step it is that of the step itself, and d
    is decoded (``Process.ends_clean``). So every transition has a density (Oertell et al. 2024,
    RL for consistency models, 2404.03673), and pictures are those of the model's own sampler. The
    noise of the last transition reaches no picture, so its term in a policy gradient has mean zero.
    The control cost is the divergence of paths whose end has the noise of the last timestep.

    Args:
        timesteps: (K,) training timesteps, >= 0, strictly decreasing.
        alpha_bar: (K,) float64 in (0, 1), cumulative product at ``timesteps``, strictly increasing.
        prediction: what x0_hat is computed from.
        timestep_scaling: of the boundary conditions; d is x at t = 0, and nearly x0_hat elsewhere.

    Raises:
        ValueError: an argument is out of its range.
    """
    check_levels(timesteps, alpha_bar=alpha_bar)
    signal, noise = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    (of_state, of_output), _ = predictions(prediction, signal, noise)
    scaled = timestep_scaling * timesteps.double()
    c_skip = _SIGMA_DATA**2 / (scaled**2 + _SIGMA_DATA**2)
    c_out = scaled / (scaled**2 + _SIGMA_DATA**2).sqrt()
    clean_x, clean_f = c_out * of_state + c_skip, c_out * of_output
    following = torch.cat([alpha_bar[1:], alpha_bar[-1:]])
    return Process(
        times=timesteps.double(),
        A=following.sqrt() * clean_x,
        c=following.sqrt() * clean_f,
        sigma=(1 - following).sqrt(),
        clean_x=clean_x,
        clean_f=clean_f,
        signal=signal,
        noise=noise,
        eta=1.0,
        ends_clean=True,
    )
