"""What methods share that follow the reward's gradient through the sampler itself."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from soc_ft import core
from soc_ft.methods.base import Anchor, Batch, Experience, Method, Needs, Request, Terms

if TYPE_CHECKING:
    from torch import Tensor

    from soc_ft.methods.problem import Problem


class Pathwise(Method):
    """Maximise E[r(x_K(theta))] by its gradient through the last transitions of the sampler.

    Trajectories and the reward's gradient g = dr/dx_K are collected without a graph; the loss runs
    the last transitions again, with gradient, and is -<g, x_K(theta)>, whose gradient is that of
    -r at the policy that sampled. So samples are used once.

    With the control cost the loss is -lambda <g, x_K(theta)> + KL(p || p_base) along these
    transitions.
    """

    class Config(Method.Config):
        """Options that most of them have."""

        kl: bool = Field(
            False, description="maximise lambda r - KL to the base model, not the reward alone"
        )
        reference: Literal["base", "previous"] = Field(
            "base", description="previous: KL to the model at the beginning of a feedback stage"
        )

    config: Any
    through_inputs: ClassVar[bool] = True

    @property
    def reference(self) -> Literal["base", "previous"] | None:
        """The model that the control cost is measured from; None: it is no part of the loss."""
        return self.config.reference if self.config.kl else None

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """A differentiable reward; noise where paths are to have a KL divergence."""
        anchors = (Anchor("previous", refresh="stage"),) if self.reference == "previous" else ()
        noise = self.reference is not None
        return Needs(reward_gradient=True, replay=False, noise=noise, anchors=anchors)

    @abstractmethod
    def with_gradient(self, num_steps: int) -> int:
        """n, the last transitions that are run again; at least one."""

    def carries(self, num_steps: int, keys: Tensor) -> Tensor | None:
        """(n,) bool, which of these outputs carry gradient, in a whole round; None: all.

        The same for all samples, as in the references: so no step is differentiated in vain, and
        all processes evaluate networks equally often.

        Args:
            num_steps: K.
            keys: (K,), uniform in [0, 1), the round's own.
        """
        return None

    def carried(self, num_steps: int, batch: Batch) -> Tensor | None:
        """:meth:`carries` of the round that a batch is from."""
        round_ = batch.addresses[0][0]
        keys = core.uniform((num_steps,), batch.seed, "carries", [(round_,)])[0]
        carries = self.carries(num_steps, keys)
        return None if carries is None else carries.to(batch.rows.device)

    def collect(self, problem: Problem, request: Request) -> Experience:
        """Trajectories, their rewards and the rewards' gradients."""
        process, K = problem.process, problem.process.num_steps
        noise = request.normal("trajectory", (K + 1, *request.latent_shape))
        with problem.clock.phase("rollout"):
            path = core.rollout(problem.trained, process, request.condition, noise)
        with problem.clock.phase("reward gradient"):
            rewards, gradient = problem.reward_and_gradient(path.latents, request.prompts)
        n = self.with_gradient(K)
        tensors = {
            "start": path.states[:, K - n],
            "noise": noise[:, K - n + 1 :],
            "end": path.latents,
            "gradient": gradient,
        }
        return Experience(rewards, tensors)

    def loss(self, problem: Problem, batch: Batch) -> Terms:
        """-<g, x_K> of each sample, with the control cost if that is asked for."""
        process = problem.process
        carries = self.carried(process.num_steps, batch)
        condition = batch.condition

        def paid(k: int, x: Tensor, f: Tensor) -> Tensor:
            t = process.times_of(k, x)
            if self.reference == "previous":
                base = problem.anchor("previous", x, t, condition)
            else:
                base = problem.base(x, t, condition)
            return core.control_cost(core.control(f, base, process.control_gain_of(k, x)))

        end, cost = core.differentiable_rollout(
            problem.trained,
            process,
            condition,
            batch["start"],
            batch["noise"],
            recompute=True,
            carries=None if carries is None else carries.expand(len(batch), -1),
            through_inputs=self.through_inputs,
            cost=None if self.reference is None else paid,
        )
        reward = (batch["gradient"] * end).flatten(1).sum(dim=1)
        if self.reference is None:
            return Terms(-reward)
        return Terms(cost - problem.reward_scale * reward, {"control_cost": cost.detach()})
