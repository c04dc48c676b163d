"""The mathematics of reward fine-tuning as stochastic optimal control, on tensors and callables.

Time runs k = 0 (noise) ... K (clean latent) and tensors are sample-first. This package imports
torch and the standard library only, and torch not before it is used: a method's file can say
``from soc_ft import core`` and still be checked in a moment.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from soc_ft.core.adjoint import AdjointAt, AdjointSolution, full_adjoint, lean_adjoint
    from soc_ft.core.annealing import next_strength
    from soc_ft.core.buffer import ReplayBuffer
    from soc_ft.core.clip_correction import ClipCorrection
    from soc_ft.core.condition import Condition
    from soc_ft.core.consistency import multistep_consistency
    from soc_ft.core.losses import (
        adjoint_matching_loss,
        control,
        control_cost,
        denoising_error,
    )
    from soc_ft.core.mask import QuantileMask
    from soc_ft.core.noise import normal, seed_for, uniform
    from soc_ft.core.policy import log_density, noise_log_density, transition_noise
    from soc_ft.core.process import Predictor, Process, match_leading
    from soc_ft.core.prompt_statistics import PromptStatistics
    from soc_ft.core.reward_guidance import reward_guided
    from soc_ft.core.smoothing import smoothed_gradient
    from soc_ft.core.steps import at_steps, draw_steps, inclusion_weights, kept_steps
    from soc_ft.core.strata import Strata
    from soc_ft.core.tilt import Tilt, TiltEstimate, nats_efficiency
    from soc_ft.core.trajectory import (
        Trajectory,
        differentiable_rollout,
        path_control_cost,
        rollout,
    )
    from soc_ft.core.variance_preserving import PredictionType, ddim, ddim_on_grid
    from soc_ft.core.weights import (
        effective_sample_size,
        log_ratio,
        normalised_weights,
        span_log_weights,
    )

_MODULES = {
    "annealing": ("next_strength",),
    "adjoint": ("AdjointAt", "AdjointSolution", "full_adjoint", "lean_adjoint"),
    "buffer": ("ReplayBuffer",),
    "clip_correction": ("ClipCorrection",),
    "condition": ("Condition",),
    "consistency": ("multistep_consistency",),
    "losses": ("adjoint_matching_loss", "control", "control_cost", "denoising_error"),
    "mask": ("QuantileMask",),
    "noise": ("normal", "seed_for", "uniform"),
    "policy": ("log_density", "noise_log_density", "transition_noise"),
    "process": ("Predictor", "Process", "match_leading"),
    "prompt_statistics": ("PromptStatistics",),
    "reward_guidance": ("reward_guided",),
    "smoothing": ("smoothed_gradient",),
    "steps": ("at_steps", "draw_steps", "inclusion_weights", "kept_steps"),
    "strata": ("Strata",),
    "tilt": ("Tilt", "TiltEstimate", "nats_efficiency"),
    "trajectory": ("Trajectory", "differentiable_rollout", "path_control_cost", "rollout"),
    "variance_preserving": ("PredictionType", "ddim", "ddim_on_grid"),
    "weights": ("effective_sample_size", "log_ratio", "normalised_weights", "span_log_weights"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "AdjointAt",
    "AdjointSolution",
    "ClipCorrection",
    "Condition",
    "PredictionType",
    "Predictor",
    "Process",
    "PromptStatistics",
    "QuantileMask",
    "ReplayBuffer",
    "Strata",
    "Tilt",
    "TiltEstimate",
    "Trajectory",
    "adjoint_matching_loss",
    "at_steps",
    "control",
    "control_cost",
    "ddim",
    "ddim_on_grid",
    "denoising_error",
    "differentiable_rollout",
    "draw_steps",
    "effective_sample_size",
    "full_adjoint",
    "inclusion_weights",
    "kept_steps",
    "lean_adjoint",
    "log_density",
    "log_ratio",
    "match_leading",
    "multistep_consistency",
    "nats_efficiency",
    "next_strength",
    "noise_log_density",
    "normal",
    "normalised_weights",
    "path_control_cost",
    "reward_guided",
    "rollout",
    "seed_for",
    "smoothed_gradient",
    "span_log_weights",
    "transition_noise",
    "uniform",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for.

    Raises:
        AttributeError: the core has nothing of this name.
    """
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
