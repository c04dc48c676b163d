"""DDIM whose last transition keeps its noise, and the core's view of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from soc_ft.core import Process, ddim
from soc_ft.errors import ConfigError


class SOCDDIMScheduler(DDIMScheduler):
    """DDIM (Song et al. 2021) for stochastic optimal control; drops into any diffusers pipeline.

    It differs from ``DDIMScheduler`` in one number. The transition that leaves the training grid
    ends at alpha_bar' = (1 + alpha_bar_{K-1}) / 2, instead of at 1 or at alpha_bar_0, so that its
    sigma stays positive and the control is defined. ``step`` is inherited.

    For eta > 1 the noise of a transition may exceed the variance of its marginal,
    sigma^2 > 1 - alpha_bar'. ``step`` then takes the root of a negative number and returns NaN, as
    in diffusers; the schedule of ``control_process`` stays finite, with the sign of the root
    changed.
    """

    timesteps: Tensor
    final_alpha_cumprod: Tensor

    def set_timesteps(
        self, num_inference_steps: int, device: str | torch.device | None = None
    ) -> None:
        """Set the grid of ``num_inference_steps`` timesteps, and the alpha_bar it ends at.

        Raises:
            ValueError: more steps than training timesteps.
        """
        super().set_timesteps(num_inference_steps, device)
        # "trailing" counts down in floating point and, for some numbers of steps (61 of 1000),
        # reaches an extra timestep of -1.
        self.timesteps = self.timesteps[:num_inference_steps]
        self.final_alpha_cumprod = (1 + self.alphas_cumprod[self.timesteps[-1].item()]) / 2

    def control_process(self, num_steps: int, eta: float) -> Process:
        """The core's process whose A, c and sigma are those of ``step`` on ``num_steps`` steps.

        Like ``step`` it takes the model's own output, of the configured prediction type, and
        alpha_bar' at t - T // K. That is the next timestep wherever K divides T, and may be off by
        one elsewhere. Resets the timesteps of this scheduler.

        Args:
            num_steps: K >= 1.
            eta: noise level, >= 0.

        Raises:
            ConfigError: the configuration has no such process (clipped or thresholded predictions,
                more steps than training timesteps, zero terminal signal-to-noise ratio, a
                prediction type that is unknown).
        """
        if self.config.clip_sample or self.config.thresholding:
            raise ConfigError(
                "scheduler: clip_sample and thresholding make the transition non-linear in the "
                "prediction; set both to false"
            )
        try:
            self.set_timesteps(num_steps)
            stride = self.config.num_train_timesteps // num_steps
            timesteps = self.timesteps.cpu()
            table = self.alphas_cumprod.cpu().double()
            following = timesteps - stride
            final = self.final_alpha_cumprod.cpu().double()
            alpha_bar_next = torch.where(following >= 0, table[following.clamp(min=0)], final)
            return ddim(
                timesteps, table[timesteps], alpha_bar_next, eta, self.config.prediction_type
            )
        except ValueError as error:
            raise ConfigError(f"scheduler with num_steps={num_steps}: {error}") from None


def adapt_scheduler(
    checkpoint: Mapping[str, Any],
    *,
    beta_start: float | None = None,
    beta_end: float | None = None,
    beta_schedule: str | None = None,
    timestep_spacing: str | None = None,
) -> SOCDDIMScheduler:
    """Build the scheduler of a checkpoint (any diffusers class) with another noise schedule.

    Args:
        checkpoint: configuration of the checkpoint's scheduler.
        beta_start: variance that the first training timestep adds, in (0, 1); None keeps the
            checkpoint's, here and below.
        beta_end: variance that the last training timestep adds, in (0, 1).
        beta_schedule: how the variances lie between, such as "linear" or "scaled_linear".
        timestep_spacing: how sampling picks its timesteps: "leading", "trailing" or "linspace".
    """
    betas = {"beta_start": beta_start, "beta_end": beta_end, "beta_schedule": beta_schedule}
    changes: dict[str, Any] = {key: value for key, value in betas.items() if value is not None}
    if changes:
        changes["trained_betas"] = None
    if timestep_spacing is not None:
        changes["timestep_spacing"] = timestep_spacing
    # Latents have no range to clip to; StableDiffusionPipeline corrects old checkpoints likewise.
    return SOCDDIMScheduler.from_config(
        checkpoint, clip_sample=False, thresholding=False, **changes
    )
