"""DDPO: policy gradients with clipping over denoising steps (Black et al. 2023, 2305.13301)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from soc_ft import core
from soc_ft.methods.base import Batch, Experience, Needs, Request, Round, Terms, within_trajectory
from soc_ft.methods.standardised import Standardised
from soc_ft.options import Count, Positive

if TYPE_CHECKING:
    from torch import Tensor

    from soc_ft.methods.problem import Problem


class DDPO(Standardised):
    """Raise the density of transitions whose picture is better than usual for its prompt.

    With rho = exp(log p - log p_old), densities averaged over the latent's dimensions, the loss of
    a transition is

        max(-A rho, -A clamp(rho, 1 - clip, 1 + clip)),

    A the picture's reward, standardised over the last rewards of its prompt and clamped. Further
    passes over the same samples are the inner epochs of the reference. Where trajectories are
    guided, the densities are those of the guided sampler.

    With ``kl`` it maximises lambda r - KL(p || p_base) instead (Fan et al. 2023, DPOK, 2305.16381).
    The optimum is the tilt p_base exp(lambda r), up to what depends on the initial noise. The
    advantage of step k then also counts the control cost of the steps after it, and each step's own
    cost enters by its gradient. Everything is divided by lambda times the deviation of the rewards,
    which changes no optimum and keeps the meaning of ``clip``.
    """

    class Config(Standardised.Config):
        """Options of conf/method/ddpo.yaml."""

        transitions: Count | None = Field(
            None, description="transitions of a sample in an optimizer step; null: all of them"
        )
        clip: Positive = Field(
            1e-4, description="how far a ratio of densities may move, per dimension"
        )
        advantage_clip: Positive = Field(5.0, description="largest absolute advantage")
        group_size: Count = Field(1, description="consecutive samples that share a prompt")
        statistics: Literal["prompt", "batch"] = Field(
            "prompt", description="what a reward is compared with: its prompt's, or all of a round"
        )
        statistics_size: Count = Field(16, description="last rewards that are kept of a prompt")
        kl: bool = Field(
            False, description="maximise lambda r - KL to the base model, not the reward alone"
        )

    config: Config

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Groups of the size that is asked for."""
        return Needs(noise=True, group_size=self.config.group_size)

    def pairs_per_sample(self, num_steps: int) -> int:
        """The transitions of an optimizer step.

        Raises:
            ConfigError: a trajectory has fewer.
        """
        return within_trajectory("transitions", self.config.transitions or num_steps, num_steps)

    def collect(self, problem: Problem, request: Request) -> Experience:
        """Sample trajectories; with ``kl`` evaluate the base model along them too."""
        process, K = problem.process, problem.process.num_steps
        noise = request.normal("trajectory", (K + 1, *request.latent_shape))
        with problem.clock.phase("rollout"):
            path = core.rollout(
                problem.trained,
                process,
                request.condition,
                noise,
                keep_predictions=self.config.kl,
            )
        with problem.clock.phase("reward"):
            rewards = problem.reward_of(path.latents, request.prompts)
        keys = request.uniform("steps", (request.passes, K))
        steps = keys.argsort(dim=-1)[..., : self.pairs_per_sample(K)]
        kept, places = core.kept_steps(steps, K)
        tensors = {
            "steps": steps,
            "places": places,
            "states": core.at_steps(path.states, kept),
            "next_states": core.at_steps(path.states, kept + 1),
            "old_log_density": core.at_steps(core.noise_log_density(process, noise[:, 1:]), kept),
        }
        if not self.config.kl:
            return Experience(rewards, tensors)
        base, costs = self._base(problem, request, path)
        tensors["base_predictions"] = core.at_steps(base, kept)
        return Experience(rewards, tensors, {"control_cost": costs.sum(1), "step_cost": costs})

    def _base(
        self, problem: Problem, request: Request, path: core.Trajectory
    ) -> tuple[Tensor, Tensor]:
        """Base predictions (B, K, *latent) along the paths, and the control cost (B, K) there."""
        import torch

        process = problem.process
        assert path.predictions is not None
        predictions, costs = [], []
        with problem.clock.phase("base model"):
            for k in range(process.num_steps):
                x = path.states[:, k]
                base = problem.base(x, process.times_of(k, x), request.condition)
                u = core.control(path.predictions[:, k], base, process.control_gain_of(k, x))
                predictions.append(base)
                costs.append(core.control_cost(u))
        return torch.stack(predictions, dim=1), torch.stack(costs, dim=1)

    def prepare(self, problem: Problem, round_: Round) -> dict[str, Tensor]:
        """Advantages (n, K) of the transitions, and what divides the control cost."""
        import torch

        K = problem.process.num_steps
        rewards = round_.rewards.double()
        finite = round_.finite
        deviation = rewards[finite].std(correction=0) + core.PromptStatistics.EPSILON
        if self.config.statistics == "prompt":
            common = deviation if self.config.kl else None
            advantage = self.standardise(round_, rewards[None], common)[0]
        else:
            centred = (rewards - rewards[finite].mean()) / deviation
            advantage = torch.where(finite, centred, 0.0)
        steps = advantage[:, None].expand(-1, K)
        scale = problem.reward_scale * deviation
        if self.config.kl:
            later = _after(round_.stats["step_cost"].double())
            steps = steps - (later - later[finite].mean(dim=0)) / scale
        limit = self.config.advantage_clip
        return {
            "advantage": steps.clamp(-limit, limit).float(),
            "cost_weight": (1 / scale).float().expand(len(rewards)),
        }

    def loss(self, problem: Problem, batch: Batch) -> Terms:
        """The clipped surrogate of each transition."""
        import torch

        process = problem.process
        k, place = batch.slot("steps"), batch.slot("places")
        x = batch.at("states", place)
        output = problem.trained(x, process.times_of(k, x), batch.condition)
        density = core.log_density(process, k, x, batch.at("next_states", place), output)
        ratio = (density - batch.at("old_log_density", place)).exp()
        advantage, clip = batch.at("advantage", k), self.config.clip
        clipped = ratio.clamp(1 - clip, 1 + clip)
        loss = torch.maximum(-advantage * ratio, -advantage * clipped)
        moved = ratio.detach() - 1
        stats = {"clipped_share": (moved.abs() > clip).float(), "ratio_change": moved.abs()}
        if self.config.kl:
            base = batch.at("base_predictions", place)
            u = core.control(output, base, process.control_gain_of(k, x))
            loss = loss + batch["cost_weight"] * core.control_cost(u) / x[0].numel()
        return Terms(loss, stats)


def _after(costs: Tensor) -> Tensor:
    """(n, K) sums of the costs of all later steps."""
    return costs.flip(1).cumsum(1).flip(1) - costs
