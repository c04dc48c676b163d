"""What Adjoint Matching can follow at early steps: the gradient of a learned value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from soc_ft import core
from soc_ft.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from soc_ft.core import Condition, Strata, Trajectory, ValueFunction
    from soc_ft.methods.base import Request, Round
    from soc_ft.methods.problem import Problem

_FEATURES, _STEPS, _VALUES = "value_features", "value_steps", "value_of_paths"


class ValueTarget:
    """-lambda grad V in place of a_{k+1} in the early segment of a trajectory.

    V is the expected reward minus the cost, in rewards, of the control from a state on. The
    stationary point is that of the problem itself: with V the value of the current control,
    sqrt(delta) u_k = lambda sigma_k E[grad V(x_{k+1}) | x_k] holds at the optimum alone. V is
    learned from the rounds so far, and so lags behind the control by a round.

    A hybrid gives the lean adjoint the share that V is not trusted with.
    """

    def __init__(
        self,
        strata: Strata,
        *,
        drawn: int,
        hybrid: bool,
        memory: int,
        updates: int,
        batch_size: int,
    ) -> None:
        """Know nothing yet.

        Args:
            strata: where the early segment ends.
            drawn: steps of each trajectory that are regressed in one pass.
            hybrid: let the adjoint fill what the value is not trusted with.
            memory: samples that the value is learned from, the latest.
            updates: gradient steps of the value after each round.
            batch_size: states that are evaluated together.
        """
        self.strata, self.drawn, self.hybrid = strata, drawn, hybrid
        self.memory, self.updates, self.batch_size = memory, updates, batch_size
        self._value: ValueFunction | None = None
        self._saved: dict[str, Any] = {}

    def check(self, num_steps: int) -> None:
        """Check that there are early steps for the value, and late ones for the adjoint.

        Raises:
            ConfigError: not so.
        """
        boundary, early = self.strata.divide(num_steps, self.drawn)
        if early == 0 or boundary == num_steps:
            raise ConfigError(
                f"method.target={'hybrid' if self.hybrid else 'critic'}: the value takes the early "
                "segment and the adjoint the late one, and with early_fraction="
                f"{self.strata.early_fraction:g}, early_share={self.strata.early_share:g} and "
                f"regression_steps={self.drawn} one of them has no step"
            )

    def adjoint_from(self, num_steps: int) -> int:
        """The first step that needs the lean adjoint."""
        return 0 if self.hybrid else self._boundary(num_steps)

    def fill(
        self,
        problem: Problem,
        request: Request,
        trajectory: Trajectory,
        rewards: Tensor,
        kept: Tensor,
        adjoints: Tensor,
        base_predictions: Tensor,
    ) -> dict[str, Tensor]:
        """Fill in what early steps follow, and what the base model predicts there.

        Args:
            problem: what was sampled.
            request: the samples.
            trajectory: with predictions.
            rewards: (B,).
            kept: (B, n) int64, the drawn steps.
            adjoints: (B, K+1, *latent), those of the late segment or all; changed in place.
            base_predictions: (B, K, *latent), likewise.

        Returns:
            What :meth:`learn` needs of these samples.
        """
        import torch

        rows, columns = (kept < self._boundary(problem.process.num_steps)).nonzero(as_tuple=True)
        steps, condition = kept[rows, columns], request.condition[rows]
        if not self.hybrid:
            base_predictions[rows, steps] = self._predict(
                problem, problem.base, trajectory.states[rows, steps], steps, condition, "adjoint"
            )
        value = self._of(problem, request.seed)
        x_next = trajectory.states[rows, steps + 1]
        gradients, features = self._gradients(problem, value, condition, x_next, steps + 1)
        followed = -problem.reward_scale * gradients
        if self.hybrid:
            followed += (1.0 - value.trust) * adjoints[rows, steps + 1]
        adjoints[rows, steps + 1] = followed
        costs = self._costs(problem, request.condition, trajectory, kept, base_predictions)
        early = steps.view(len(kept), -1)
        later = (kept[:, None] > early[:, :, None]).to(costs)
        to_come = torch.einsum("bes,bs->be", later, costs)
        return {
            _FEATURES: features.half().unflatten(0, early.shape),
            _STEPS: early + 1,
            _VALUES: rewards[:, None].to(costs) - to_come / problem.reward_scale,
        }

    def learn(self, problem: Problem, round_: Round) -> None:
        """Take in a round."""
        features, steps, values = (
            round_.shared[name][round_.finite] for name in (_FEATURES, _STEPS, _VALUES)
        )
        if len(steps):
            assert self._value is not None
            self._value.learn(features, steps, values, problem.model.null_condition().device)

    @property
    def trust(self) -> float:
        """See :class:`soc_ft.core.ValueFunction`."""
        return 0.0 if self._value is None else self._value.trust

    def state_dict(self) -> dict[str, Any]:
        """The value and what it learns from."""
        return self._saved if self._value is None else self._value.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        self._value, self._saved = None, state

    def _boundary(self, num_steps: int) -> int:
        """Where the early segment ends."""
        return self.strata.divide(num_steps, self.drawn)[0]

    def _of(self, problem: Problem, seed: int) -> ValueFunction:
        if self._value is None:
            num_steps = problem.process.num_steps
            self._value = core.ValueFunction(num_steps, self.memory, self.updates, seed)
            self._value.load_state_dict(self._saved)
        return self._value

    def _gradients(
        self,
        problem: Problem,
        value: ValueFunction,
        condition: Condition,
        x: Tensor,
        steps: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Gradients (N, *latent) of the value at states x of given steps, and their features."""
        import torch

        from soc_ft.methods.problem import chunks

        times = problem.process.times_of(steps, x)

        def of(part: slice) -> tuple[Tensor, Tensor]:
            def features(states: Tensor) -> Tensor:
                return problem.model.features(states, times[part], condition[part])

            return value.gradient(features, x[part], steps[part])

        found = [of(part) for part in chunks(len(x), self.batch_size)]
        gradients, features = (torch.cat(each) for each in zip(*found, strict=True))
        return gradients, features

    def _costs(
        self,
        problem: Problem,
        condition: Condition,
        trajectory: Trajectory,
        kept: Tensor,
        base_predictions: Tensor,
    ) -> Tensor:
        """Control costs (B, n) of the kept steps, weighted so that they sum to the path's."""
        import torch

        process, predictions = problem.process, trajectory.predictions
        assert predictions is not None
        rows = torch.arange(len(kept), device=kept.device).repeat_interleave(kept.shape[1])
        steps = kept.flatten()
        x, base, trained = (
            tensor[rows, steps] for tensor in (trajectory.states, base_predictions, predictions)
        )
        if not problem.same_guidance("adjoint", "control"):
            base = self._predict(problem, problem.base, x, steps, condition[rows], "control")
        if not problem.same_guidance("trajectories", "control"):
            trained = self._predict(problem, problem.trained, x, steps, condition[rows], "control")
        costs = core.control_cost(core.control(trained, base, process.control_gain_of(steps, x)))
        if kept.shape[1] < process.num_steps:
            weights = core.inclusion_weights(process.num_steps, self.drawn, self.strata)
            costs *= weights.to(costs)[steps] * (self.drawn / kept.shape[1])
        return costs.view_as(kept)

    def _predict(
        self,
        problem: Problem,
        network: Callable[[Tensor, Tensor, Condition, str], Tensor],
        x: Tensor,
        steps: Tensor,
        condition: Condition,
        place: str,
    ) -> Tensor:
        """Outputs (N, *latent) of a network at states of given steps, in batches."""
        import torch

        from soc_ft.methods.problem import chunks

        times = problem.process.times_of(steps, x)
        parts = [
            network(x[part], times[part], condition[part], place)
            for part in chunks(len(x), self.batch_size)
        ]
        return torch.cat(parts).to(x)
