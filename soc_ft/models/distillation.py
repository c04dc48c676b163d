"""What step-distilled models ask of the sampler, answered without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from soc_ft.errors import ConfigError

Distilled = Literal["few_step", "consistency"]
"""To what: few steps of an ordinary sampler, or a consistency model with a sampler of its own."""
Sampler = Literal["ddim", "consistency"]


def check_sampler(
    distilled: Distilled | None,
    noise_levels: Mapping[str, Any],
    num_steps: int | None = None,
    eta: float | None = None,
) -> None:
    """Check that a model is sampled as it was trained to be.

    Args:
        distilled: what the model is.
        noise_levels: of conf/scheduler, as in ``scheduler.adapt_scheduler``.
        num_steps: K; None leaves it out.
        eta: noise level; None leaves it out.

    Raises:
        ConfigError: names the key, and the way round.
    """
    sampler: Sampler = noise_levels.get("sampler", "ddim")
    if distilled == "consistency" and sampler != "consistency":
        raise ConfigError(
            f"scheduler.sampler={sampler}: the model is a consistency model "
            "(model.distilled=consistency), which other samplers do not fit; use "
            "scheduler=consistency"
        )
    if sampler == "ddim":
        if num_steps == 1:
            raise ConfigError(
                "scheduler.num_steps=1: must be greater than or equal to 2 with "
                "scheduler.sampler=ddim, whose last step keeps half of its noise"
            )
        return
    if distilled != "consistency":
        raise ConfigError(
            "scheduler.sampler=consistency: needs a consistency model (model.distilled=consistency)"
            ", such as model=lcm_dreamshaper; use scheduler=memoryless or scheduler=pretrained"
        )
    for key, value in noise_levels.items():
        if key != "sampler" and value is not None:
            raise ConfigError(
                f"scheduler.{key}={value}: a consistency model is sampled with the noise levels "
                "and timesteps that it was distilled with; use null, as scheduler=consistency does"
            )
    if eta not in (None, 1):
        raise ConfigError(
            f"scheduler.eta={eta:g}: all noise of a consistency model's states is fresh; use eta=1"
        )
