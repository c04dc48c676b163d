"""What Adjoint Matching regresses the control on: adjoints, scaled, cut and lengthened."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from soc_ft import core
from soc_ft.methods.base import Method
from soc_ft.options import Count, Positive

if TYPE_CHECKING:
    from torch import Tensor

    from soc_ft.methods.base import Batch, Round
    from soc_ft.methods.problem import Problem


class TargetOptions(Method.Config):
    """The options of a method that regresses on adjoints which these describe."""

    adjoint_at: Literal["current", "next"] = Field(
        "next", description="next: a_{k+1}, exact in discrete time; current: a_k, the reference"
    )
    adjoint_clip: Positive | None = Field(
        None,
        description="longest adjoint, in medians of its step over the round; null: any length",
    )
    clip_correction: bool = Field(
        False, description="lengthen cut adjoints by what their mean lacks along the control"
    )
    anneal: Positive | None = Field(
        None,
        description="lambda rises from zero, by this divergence of the tilt in nats at a time; "
        "null: lambda from the start",
    )
    anneal_hold: Count = Field(10, description="rounds of samples between two rises")


class AdjointTarget:
    """Adjoints as the options say, and what is learned of them while training.

    Attributes:
        strength: the present lambda, if it is annealed.
        correction: of cut adjoints, if they are corrected.
    """

    def __init__(self, config: TargetOptions) -> None:
        """Lambda is zero yet, and nothing is lengthened."""
        self.config = config
        self.strength = 0.0
        self.correction = core.ClipCorrection() if config.clip_correction else None

    def prepare(self, problem: Problem, round_: Round) -> dict[str, Tensor]:
        """How long the adjoint of each step may be, and what share of lambda it stands for."""
        found = {}
        if self.config.anneal is not None:
            if round_.index % self.config.anneal_hold == 0:
                self.strength = core.next_strength(
                    round_.rewards[round_.finite],
                    self.strength,
                    problem.reward_scale,
                    self.config.anneal,
                )
            share = self.strength / problem.reward_scale
            found["strength"] = round_.rewards.new_full(round_.rewards.shape, share)
        if self.config.adjoint_clip is None:
            return found
        norms = round_.stats["adjoint_norm"]
        solved = round_.finite[:, None] & (norms > 0)
        median = norms.where(solved, math.nan).nanmedian(dim=0).values
        return found | {"longest_adjoint": self.config.adjoint_clip * median.expand_as(norms)}

    def of(
        self, batch: Batch, k: Tensor, place: Tensor, pull: Tensor, num_steps: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What the pairs are regressed on.

        Args:
            batch: N pairs.
            k: (N,) their steps.
            place: (N,) where their adjoints are stored.
            pull: (N, *latent), what an adjoint is multiplied by, and summed, to say how far the
                control follows it: -sigma_k times the control.
            num_steps: K.

        Returns:
            (N, *latent), and notes for :meth:`finish_step`.
        """
        whole = batch.at("adjoints", place)
        if self.config.anneal is not None:
            whole = whole * core.match_leading(batch["strength"], whole)
        if self.config.adjoint_clip is None:
            return whole, {}
        cut = self._cut(batch, whole, k)
        if self.correction is None:
            return cut, {}
        notes = {}
        if batch.pass_index == 0:  # later the control knows the pairs' noise
            along = {"whole": whole, "cut": cut}
            notes = {name: (y * pull).flatten(1).sum(1) for name, y in along.items()}
            notes["step"] = k
        factors = [self.correction.factor(step) for step in range(num_steps)]
        return cut * core.match_leading(cut.new_tensor(factors)[k], cut), notes

    def _cut(self, batch: Batch, adjoint: Tensor, k: Tensor) -> Tensor:
        """(N, *latent), none longer than its step allows."""
        longest = batch.at("longest_adjoint", k if self.config.adjoint_at == "current" else k + 1)
        if self.config.anneal is not None:
            longest = longest * batch["strength"]
        share = (longest / adjoint.flatten(1).norm(dim=1)).clamp(max=1)
        return adjoint * core.match_leading(share, adjoint)

    def finish_step(self, notes: Mapping[str, Tensor]) -> dict[str, float]:
        """Move the correction that the next optimizer step will use."""
        logged = {} if self.config.anneal is None else {"lambda": self.strength}
        if self.correction is not None and notes:
            self.correction.update(notes["step"], notes["whole"], notes["cut"])
            factors = [self.correction.factor(k) for k in notes["step"].unique().tolist()]
            logged["clip_correction"] = sum(factors) / len(factors)
        return logged

    def state_dict(self) -> dict[str, Any]:
        """The present lambda and the correction."""
        state: dict[str, Any] = {"strength": self.strength}
        if self.correction is not None:
            state["correction"] = self.correction.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with them."""
        self.strength = float(state["strength"])
        if self.correction is not None:
            self.correction.load_state_dict(state["correction"])
