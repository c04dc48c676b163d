"""The base model guided by what a run was trained on, beside the model that it has trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soc_ft.checking import validated
from soc_ft.config.components import build_feedback, component_class
from soc_ft.config.kinds import REWARD
from soc_ft.errors import ConfigError
from soc_ft.options import Component

if TYPE_CHECKING:
    from soc_ft.core import Predictor, Process
    from soc_ft.models.model import DiffusionModel

GUIDED = "reward-guided"
"""What pictures of the base model are of that a reward has guided; its scale follows."""


@dataclass(frozen=True)
class RewardGuidance:
    """What guides the base model's sampling.

    Attributes:
        reward: of the run, with the statistics that it has measured for it.
        feedback: of the run.
        checkpoint: holds what feedback has learned, if it learns a surrogate.
        scales: lambda of each further model.
    """

    reward: dict[str, Any]
    feedback: dict[str, Any] | None
    checkpoint: Path | None
    scales: list[float]

    def models(self) -> dict[str, float]:
        """The models by their names, with their scales."""
        return {f"{GUIDED}, lambda {scale:g}": scale for scale in self.scales}


Guide = Callable[["Predictor", "Process", Sequence[str]], "Predictor"]
"""(of the base model, process, prompts of the batch) -> guided."""


def checked_guidance(
    scales: Sequence[float],
    reward: dict[str, Any],
    feedback: Mapping[str, Any] | None,
    weights: Path,
) -> RewardGuidance:
    """Check that what a run was trained on has a gradient; torch is not imported.

    Args:
        scales: lambdas.
        reward: the component of the run.
        feedback: its section; None in runs that are older than it.
        weights: the checkpoint that is evaluated.

    Raises:
        ConfigError: it has none, or its surrogate was not kept.
    """
    if feedback is not None:
        protocol = build_feedback(validated(Component, feedback, ("feedback",)))
        if protocol.differentiable:
            if weights.suffix != ".ckpt":
                raise ConfigError(
                    f"reward_guidance: {weights.name} holds no surrogate of the reward; evaluate "
                    "the last checkpoint (checkpoint=last)"
                )
            return RewardGuidance(reward, dict(feedback), weights, list(scales))
    found = component_class(validated(Component, reward, ("reward",)), "reward", REWARD)
    if not found.differentiable:
        raise ConfigError(
            f"reward_guidance: reward {found.name} has no gradient; leave it out, or evaluate a "
            "run that was trained on a surrogate (feedback=nonadaptive, ...)"
        )
    return RewardGuidance(reward, None, None, list(scales))


def guides_of(guidance: RewardGuidance, model: DiffusionModel, batch: int) -> dict[str, Guide]:
    """What guides each of the models; the reward is built and moved to the model's device.

    Args:
        guidance: what was asked for.
        model: decodes.
        batch: pictures that are scored together.

    Raises:
        ConfigError: the reward cannot be built.
    """
    import torch

    from soc_ft.core import reward_guided
    from soc_ft.feedback import Feedback
    from soc_ft.instantiation import build
    from soc_ft.methods.problem import Problem

    reward = build(guidance.reward, "reward")
    feedback: Feedback | None = None
    if guidance.feedback is not None:
        feedback = build(guidance.feedback, "feedback")
        assert feedback is not None
        feedback.to(model.device)

    def of(scale: float) -> Guide:
        def guide(predict: Predictor, process: Process, prompts: Sequence[str]) -> Predictor:
            problem = Problem(model, reward, process, scale, 1.0, frozenset(), batch)
            if feedback is not None:
                problem = feedback.trained_on(problem)
                feedback.load_state_dict(state)
            problem.reward.to(model.device)

            def gradient_of(clean: torch.Tensor) -> torch.Tensor:
                return scale * problem.reward_and_gradient(clean, prompts)[1]

            return reward_guided(predict, process, gradient_of)

        return guide

    if guidance.checkpoint is not None:
        found = torch.load(guidance.checkpoint, map_location="cpu", weights_only=True)
        state = found["soc_ft"]["feedback"]
    return {name: of(scale) for name, scale in guidance.models().items()}
