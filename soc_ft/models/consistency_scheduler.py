"""The sampler of latent consistency models, and the core's view of it."""

from __future__ import annotations

import torch
from diffusers import LCMScheduler

from soc_ft.core import Process, multistep_consistency
from soc_ft.models.distillation import check_sampler
from soc_ft.models.noise_schedule import check_linear, check_schedule

_SAMPLER = {"sampler": "consistency"}


class ConsistencyScheduler(LCMScheduler):
    """Diffusers' ``LCMScheduler``, as it is; drops into any diffusers pipeline.

    Of the ``original_inference_steps`` timesteps of the distillation, as a rule 19, 39, ..., 999,
    it takes K at even distances, from the top. (Older code, such as that of RL for consistency
    models, takes every (50 // K)-th, which differs where K does not divide 50.)
    """

    def control_process(self, num_steps: int, eta: float) -> Process:
        """The core's process whose A, c and sigma are those of ``step`` on ``num_steps`` steps.

        Resets the timesteps of this scheduler.

        Args:
            num_steps: K, from 1 to ``original_inference_steps``.
            eta: 1, as all noise is fresh.

        Raises:
            ConfigError: there is no such process.
        """
        check_linear(self.config)
        check_sampler("consistency", _SAMPLER, num_steps, eta)
        check_schedule(self.config, _SAMPLER, num_steps)
        self.set_timesteps(num_steps)
        return multistep_consistency(
            self.timesteps.cpu(),
            self.alphas_cumprod.to("cpu", torch.float64)[self.timesteps.cpu()],
            self.config.prediction_type,
            timestep_scaling=self.config.timestep_scaling,
        )

    def plain(self) -> LCMScheduler:
        """The class of diffusers, for an export."""
        return LCMScheduler.from_config(self.config)
