"""What takes the place of the adjoint at early steps: the gradient of a learned value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from soc_ft import core

if TYPE_CHECKING:
    from torch import Tensor

    from soc_ft.core import Condition, ValueFunction
    from soc_ft.methods.base import Round
    from soc_ft.methods.problem import Problem

_FEATURES, _STEPS, _VALUES = "value_features", "value_steps", "value_of_paths"


class ValueTarget:
    """-lambda grad V, V the expected reward minus the cost of control from a state on, in rewards.

    The stationary point is that of the problem itself: with V the value of the current control,
    sqrt(delta) u_k = lambda sigma_k E[grad V(x_{k+1}) | x_k] holds at the optimum alone. V is
    learned from the rounds so far, and so lags behind the control by a round.
    """

    def __init__(self, memory: int, updates: int) -> None:
        """Know nothing yet.

        Args:
            memory: samples that the value is learned from, the latest.
            updates: gradient steps of the value after each round.
        """
        self.memory, self.updates = memory, updates
        self._value: ValueFunction | None = None
        self._saved: dict[str, Any] = {}

    def adjoints(
        self,
        problem: Problem,
        condition: Condition,
        x: Tensor,
        steps: Tensor,
        seed: int,
        batch_size: int,
    ) -> tuple[Tensor, Tensor]:
        """Targets (N, *latent) in place of a_{k+1}, and the features of the states.

        Args:
            problem: what was sampled.
            condition: N rows.
            x: (N, *latent), states x_{k+1}.
            steps: (N,) int64, k+1 < K.
            seed: of the run.
            batch_size: states that are evaluated together.
        """
        import torch

        from soc_ft.methods.problem import chunks

        value = self._of(problem, seed)
        found = []
        for part in chunks(len(x), batch_size):
            rows, times = condition[part], problem.process.times_of(steps[part], x[part])

            def features_of(
                states: Tensor, rows: Condition = rows, times: Tensor = times
            ) -> Tensor:
                return problem.model.features(states, times, rows)

            found.append(value.gradient(features_of, x[part], steps[part]))
        gradients, features = (torch.cat(each) for each in zip(*found, strict=True))
        return -problem.reward_scale * gradients, features

    def shared(
        self, problem: Problem, features: Tensor, steps: Tensor, rewards: Tensor, costs: Tensor
    ) -> dict[str, Tensor]:
        """What :meth:`learn` will need of samples.

        Args:
            problem: what was sampled.
            features: (B, S, C, h, w).
            steps: (B, S), when the states are visited.
            rewards: (B,).
            costs: (B, S), of the control from there on, in nats.
        """
        values = rewards[:, None].to(costs) - costs / problem.reward_scale
        return {_FEATURES: features.half(), _STEPS: steps, _VALUES: values}

    def learn(self, problem: Problem, round_: Round) -> None:
        """Take in a round."""
        kept = {n: round_.shared[n][round_.finite] for n in (_FEATURES, _STEPS, _VALUES)}
        if len(kept[_STEPS]):
            device = problem.model.null_condition().device
            assert self._value is not None
            self._value.learn(kept[_FEATURES], kept[_STEPS], kept[_VALUES], device)

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

    def _of(self, problem: Problem, seed: int) -> ValueFunction:
        if self._value is None:
            steps = problem.process.num_steps
            self._value = core.ValueFunction(steps, self.memory, self.updates, seed)
            self._value.load_state_dict(self._saved)
        return self._value
