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

    def _adjoint_solution(
        self,
        problem: Problem,
        states: Tensor,
        terminal: Tensor,
        condition: Condition,
        first_steps: Tensor,
        call_from: int,
    ) -> core.AdjointSolution:
        """At all steps, whichever are regressed."""
        return core.full_adjoint(
            partial(problem.trained, place="adjoint"),
            partial(problem.base, place="adjoint"),
            problem.process,
            states,
            terminal,
            condition,
        )
