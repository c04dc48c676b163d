"""The discrete adjoint: the control objective by backpropagation through whole trajectories."""

from __future__ import annotations

from soc_ft.methods.base import Method, Needs
from soc_ft.methods.pathwise import Pathwise


class DiscreteAdjoint(Pathwise):
    """Minimise E[sum_k |sqrt(delta) u_k|^2 / 2 - lambda r(x_K)] by its exact gradient.

    One of the baselines of the Adjoint Matching paper (arXiv 2409.08861, section 4): DRaFT through
    all steps with the control cost, whose optimum is the tilt p_base exp(lambda r).
    """

    class Config(Method.Config):
        """There is nothing to choose."""

    needs = Needs(reward_gradient=True, replay=False, memoryless=True, denoiser=True)
    reference = "base"

    def with_gradient(self, num_steps: int) -> int:
        """All."""
        return num_steps
