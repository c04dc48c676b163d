"""DDIM whose last transition keeps its noise, and the core's view of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import DDIMScheduler
from diffusers.schedulers.scheduling_ddim import DDIMSchedulerOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from soc_ft.core import Process, ddim_on_grid
from soc_ft.errors import ConfigError
from soc_ft.models.consistency_scheduler import ConsistencyScheduler
from soc_ft.models.distillation import Sampler, check_sampler
from soc_ft.models.noise_schedule import check_linear, check_schedule


class SOCDDIMScheduler(DDIMScheduler):
    """DDIM (Song et al. 2021) for stochastic optimal control; drops into any diffusers pipeline.

    Its steps are the transitions of ``control_process``, which differ from ``DDIMScheduler`` in
    where they end:

    - The last one ends at alpha_bar' = (1 + alpha_bar_{K-1}) / 2, instead of at 1 or at
      alpha_bar_0, so that its sigma stays positive and the control is defined.
    - Every other one ends where the next begins. ``DDIMScheduler`` ends it at t - T // K, which is
      the next timestep if K divides T or the spacing is "leading", and up to T / K away from it
      with "linspace".

    For eta > 1 the noise of a transition may exceed the variance of its marginal,
    sigma^2 > 1 - alpha_bar'. The sign of the root then changes, where diffusers returns NaN.
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

        Like ``step`` it takes the model's own output, of the configured prediction type. Resets the
        timesteps of this scheduler.

        Args:
            num_steps: K >= 2.
            eta: noise level, >= 0.

        Raises:
            ConfigError: the configuration has no such process (clipped or thresholded predictions,
                one step, more steps than training timesteps, zero terminal signal-to-noise ratio,
                a prediction type that is unknown).
        """
        check_linear(self.config)
        check_sampler(None, {}, num_steps)
        check_schedule(self.config, {}, num_steps)
        try:
            self.set_timesteps(num_steps)
            return self._process(eta)
        except ValueError as error:
            raise ConfigError(f"scheduler with num_steps={num_steps}: {error}") from None

    def plain(self) -> DDIMScheduler:
        """The nearest class of diffusers, for an export."""
        return DDIMScheduler.from_config(self.config)

    def _process(self, eta: float) -> Process:
        """That of the current timesteps."""
        return ddim_on_grid(self.alphas_cumprod, self.timesteps, eta, self.config.prediction_type)

    def step(
        self,
        model_output: Tensor,
        timestep: int | Tensor,
        sample: Tensor,
        eta: float = 0.0,
        use_clipped_model_output: bool = False,  # nothing is clipped
        generator: torch.Generator | None = None,
        variance_noise: Tensor | None = None,
        return_dict: bool = True,
    ) -> DDIMSchedulerOutput | tuple[Tensor, Tensor]:
        """Sample one transition, as ``DDIMScheduler.step`` does with the same arguments.

        Args:
            model_output: (B, *latent), the network's own output.
            timestep: one of the current timesteps.
            sample: (B, *latent), state at ``timestep``.
            eta: noise level, >= 0.
            use_clipped_model_output: has no effect.
            generator: of the noise; None is the global one.
            variance_noise: (B, *latent), the noise itself.
            return_dict: give the two tensors a name each.

        Returns:
            The next state and the clean prediction, (B, *latent) in the dtype of ``sample``.
        """
        (k,) = (self.timesteps.cpu() == int(timestep)).nonzero()[0].tolist()
        process = self._process(eta)
        state = sample.to(torch.promote_types(sample.dtype, torch.float32))
        following, clean = (
            process.mean(k, state, model_output),
            process.clean(k, state, model_output),
        )
        if eta > 0:
            if variance_noise is None:
                variance_noise = randn_tensor(
                    model_output.shape, generator, model_output.device, model_output.dtype
                )
            following = following + process.sigma[k].item() * variance_noise
        following, clean = following.to(sample.dtype), clean.to(sample.dtype)
        if not return_dict:
            return following, clean
        return DDIMSchedulerOutput(prev_sample=following, pred_original_sample=clean)


ControlScheduler = SOCDDIMScheduler | ConsistencyScheduler
"""A scheduler of diffusers that makes processes of the core."""


def adapt_scheduler(
    checkpoint: Mapping[str, Any],
    *,
    sampler: Sampler = "ddim",
    beta_start: float | None = None,
    beta_end: float | None = None,
    beta_schedule: str | None = None,
    timestep_spacing: str | None = None,
) -> ControlScheduler:
    """Build the scheduler of a checkpoint (any diffusers class) with another noise schedule.

    Args:
        checkpoint: configuration of the checkpoint's scheduler.
        sampler: whose transitions it has; "consistency" is that of consistency models.
        beta_start: variance that the first training timestep adds, in (0, 1); None keeps the
            checkpoint's, here and below.
        beta_end: variance that the last training timestep adds, in (0, 1).
        beta_schedule: how the variances lie between, such as "linear" or "scaled_linear".
        timestep_spacing: how sampling picks its timesteps: "leading", "trailing" or "linspace".
    """
    betas = {"beta_start": beta_start, "beta_end": beta_end, "beta_schedule": beta_schedule}
    changes: dict[str, Any] = {key: value for key, value in betas.items() if value is not None}
    if changes:
        # Neither belongs to the new noise schedule.
        changes |= {"trained_betas": None, "rescale_betas_zero_snr": False}
    if timestep_spacing is not None:
        changes["timestep_spacing"] = timestep_spacing
    # Latents have no range to clip to; StableDiffusionPipeline corrects old checkpoints likewise.
    made: type[ControlScheduler] = SOCDDIMScheduler if sampler == "ddim" else ConsistencyScheduler
    return made.from_config(checkpoint, clip_sample=False, thresholding=False, **changes)
