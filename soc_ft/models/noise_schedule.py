"""Whether the noise schedule of a checkpoint can be sampled and controlled, without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from soc_ft.errors import ConfigError
from soc_ft.models.distillation import Distilled

SCHEDULERS = frozenset(
    f"{name}Scheduler"
    for name in (
        "DDIM",
        "DDIMParallel",
        "DDPM",
        "DDPMParallel",
        "DEISMultistep",
        "DPMSolverMultistep",
        "DPMSolverSDE",
        "DPMSolverSinglestep",
        "EulerAncestralDiscrete",
        "EulerDiscrete",
        "HeunDiscrete",
        "KDPM2AncestralDiscrete",
        "KDPM2Discrete",
        "LMSDiscrete",
        "PNDM",
        "SOCDDIM",
        "UniPCMultistep",
    )
)
"""Classes whose configuration describes a variance-preserving model with discrete timesteps."""

CONSISTENCY_SCHEDULER = "LCMScheduler"
"""That of a consistency model."""

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
BETAS = ("beta_start", "beta_end", "beta_schedule")
"""Keys that make a noise schedule of their own if one of them is changed."""

_DEFAULT_BETAS = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear"}  # diffusers'
_POWERS = {"linear": 1, "scaled_linear": 2}
_LEAST_LOG_SIGNAL = -80.0
"""Just above what single precision can hold."""


def check_scheduler_class(name: str | None, distilled: Distilled | None = None) -> None:
    """Check that a scheduler is one of a variance-preserving model; None is not known.

    Args:
        name: of its class.
        distilled: what the configuration says of the model, as in ``loading.load_model``.

    Raises:
        ConfigError: it is of another kind of model, which would be sampled wrongly.
    """
    if name == CONSISTENCY_SCHEDULER:
        if distilled != "consistency":
            raise ConfigError(
                f"scheduler: the checkpoint's is an {name}, so it is a consistency model; set "
                "model.distilled=consistency (as model=lcm_dreamshaper has it) and "
                "scheduler=consistency"
            )
        return
    if name is not None and name not in SCHEDULERS:
        raise ConfigError(
            f"scheduler: the checkpoint's is a {name}, which is not that of a Stable Diffusion 1.x "
            "or 2.x (noise added in discrete timesteps); choose another model.path, or mend its "
            "scheduler_config.json"
        )


def check_schedule(
    checkpoint: Mapping[str, Any], changes: Mapping[str, Any], num_steps: int | None = None
) -> None:
    """Check that K steps with a checkpoint's noise schedule have noise, signal and timesteps.

    Args:
        checkpoint: configuration of its scheduler.
        changes: what is changed of it, as in ``scheduler.adapt_scheduler``; None changes nothing.
        num_steps: K; None leaves the grid out.

    Raises:
        ConfigError: names the key, and the way round.
    """
    prediction = checkpoint.get("prediction_type", "epsilon")
    if prediction not in PREDICTION_TYPES or checkpoint.get("use_flow_sigmas"):
        said = "use_flow_sigmas=true" if prediction in PREDICTION_TYPES else repr(prediction)
        raise ConfigError(
            f"scheduler: the checkpoint predicts {said}, which is none of "
            f"{', '.join(PREDICTION_TYPES)}; choose another model.path"
        )
    if changes.get("sampler") == "consistency":
        _check_consistency(checkpoint, num_steps)
        return
    own_betas = all(changes.get(key) is None for key in BETAS)
    if checkpoint.get("rescale_betas_zero_snr") and own_betas:
        raise ConfigError(
            "scheduler: the checkpoint's rescale_betas_zero_snr=true starts from noise without any "
            "signal, where no step has a control; use scheduler=memoryless, whose betas replace "
            f"the checkpoint's (or set one of {', '.join(f'scheduler.{key}' for key in BETAS)})"
        )
    if not own_betas:
        _check_signal(checkpoint, changes)
    if num_steps is not None:
        _check_grid(checkpoint, changes.get("timestep_spacing"), num_steps)


def check_linear(scheduler: Mapping[str, Any]) -> None:
    """Check that the configuration of a scheduler leaves predictions as they are.

    Raises:
        ConfigError: it clips or thresholds them.
    """
    if scheduler["clip_sample"] or scheduler["thresholding"]:
        raise ConfigError(
            "scheduler: clip_sample and thresholding make the transition non-linear in the "
            "prediction; set both to false"
        )


def _check_consistency(checkpoint: Mapping[str, Any], num_steps: int | None) -> None:
    if checkpoint.get("rescale_betas_zero_snr"):
        raise ConfigError(
            "scheduler: the checkpoint's rescale_betas_zero_snr=true starts from noise without any "
            "signal, where the transition of a consistency model is not defined; choose another "
            "model.path"
        )
    most = checkpoint.get("original_inference_steps", 50)  # the default of diffusers
    if num_steps is not None and num_steps > most:
        raise ConfigError(
            f"scheduler.num_steps={num_steps}: the consistency model was distilled with {most} "
            "timesteps; use fewer"
        )


def _check_signal(checkpoint: Mapping[str, Any], changes: Mapping[str, Any]) -> None:
    """Check that changed betas leave a signal at the last timestep, as every control needs one."""
    betas = {key: changes.get(key) or checkpoint.get(key, _DEFAULT_BETAS[key]) for key in BETAS}
    if betas["beta_schedule"] not in _POWERS:
        return
    power = _POWERS[betas["beta_schedule"]]
    first, last = (betas[key] ** (1 / power) for key in ("beta_start", "beta_end"))
    total = checkpoint.get("num_train_timesteps", 1000)
    spacing = (last - first) / max(total - 1, 1)
    log_signal = sum(math.log1p(-((first + spacing * t) ** power)) for t in range(total))
    if log_signal < _LEAST_LOG_SIGNAL:
        given = ", ".join(f"{key}={betas[key]:g}" for key in BETAS[:2])
        raise ConfigError(
            f"scheduler: {given} leave no signal after {total} timesteps (alpha_bar = "
            f"exp({log_signal:.0f})); use smaller ones, such as scheduler=memoryless has"
        )


def _check_grid(checkpoint: Mapping[str, Any], spacing: str | None, num_steps: int) -> None:
    total = checkpoint.get("num_train_timesteps", 1000)
    if num_steps > total:
        raise ConfigError(
            f"scheduler.num_steps={num_steps}: the model has {total} training timesteps only"
        )
    offset = checkpoint.get("steps_offset", 0)
    first = (num_steps - 1) * (total // num_steps) + offset
    if (spacing or checkpoint.get("timestep_spacing", "leading")) == "leading" and first >= total:
        raise ConfigError(
            f"scheduler.num_steps={num_steps}: with timestep_spacing=leading and the checkpoint's "
            f"steps_offset={offset} sampling begins at timestep {first}, but the last one is "
            f"{total - 1}; use fewer steps or scheduler.timestep_spacing=trailing"
        )
