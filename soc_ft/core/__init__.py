"""The mathematics of reward fine-tuning as stochastic optimal control, on tensors and callables.

Time runs k = 0 (noise) ... K (clean latent) and tensors are sample-first. This package imports
torch and the standard library only.
"""

from soc_ft.core.adjoint import AdjointAt, lean_adjoint
from soc_ft.core.buffer import ReplayBuffer
from soc_ft.core.losses import adjoint_matching_loss, control, control_cost
from soc_ft.core.mask import QuantileMask
from soc_ft.core.noise import normal, seed_for, uniform
from soc_ft.core.rollout import path_control_cost, rollout
from soc_ft.core.schedule import Schedule
from soc_ft.core.smoothing import smoothed_gradient
from soc_ft.core.steps import draw_steps, inclusion_weights
from soc_ft.core.trajectory import AdjointSolution, Predictor, Trajectory
from soc_ft.core.weights import (
    effective_sample_size,
    log_weights,
    normalised_weights,
    path_noise,
)

__all__ = [
    "AdjointAt",
    "AdjointSolution",
    "Predictor",
    "QuantileMask",
    "ReplayBuffer",
    "Schedule",
    "Trajectory",
    "adjoint_matching_loss",
    "control",
    "control_cost",
    "draw_steps",
    "effective_sample_size",
    "inclusion_weights",
    "lean_adjoint",
    "log_weights",
    "normal",
    "normalised_weights",
    "path_control_cost",
    "path_noise",
    "rollout",
    "seed_for",
    "smoothed_gradient",
    "uniform",
]
