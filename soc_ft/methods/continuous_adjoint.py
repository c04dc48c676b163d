"""The continuous adjoint: Adjoint Matching with all terms of the adjoint."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from soc_ft import core
from soc_ft.methods.adjoint_matching import AdjointMatching

if TYPE_CHECKING:
    from torch import Tensor

    from soc_ft.core import Condition
    from soc_ft.methods.problem import Problem


class ContinuousAdjoint(AdjointMatching):
    """Regress the control on the adjoint of the controlled process, its cost included.

    The other baseline of the Adjoint Matching paper (arXiv 2409.08861, section 4). With
    ``adjoint_at=next`` and all steps its gradient is that of the control objective itself, as of
    the discrete adjoint; at the optimum the terms that the lean adjoint leaves out cancel.
    """

    def _solve(
        self,
        problem: Problem,
        condition: Condition,
        states: Tensor,
        gradient: Tensor,
        steps: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Adjoints (B, K+1, *latent) and base predictions (B, K, *latent), at all steps."""
        import torch

        from soc_ft.methods.problem import chunks

        solutions = [
            core.full_adjoint(
                partial(problem.trained, place="adjoint"),
                partial(problem.base, place="adjoint"),
                problem.process,
                states[rows],
                -problem.reward_scale * gradient[rows],
                condition[rows],
            )
            for rows in chunks(len(states), self.config.adjoint_batch)
        ]
        return (
            torch.cat([solution.adjoints for solution in solutions]),
            torch.cat([solution.base_predictions for solution in solutions]),
        )
