"""A learned value of states: what the reward will be, given where a trajectory is.

The gradient of the value is what the lean adjoint estimates from one path. At early steps that
estimate has tails which no batch averages; a regression on rewards has the noise of one number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BATCH_SIZE = 256
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 0.05
WIDTH, HIDDEN = 64, 128
FORGETTING = 0.8
"""What the calibration keeps of earlier rounds."""


class Critic(nn.Module):
    """Value (N,) of features (N, C, H, W) that a frozen network has of states at steps (N,)."""

    def __init__(self, channels: int, height: int, width: int, num_steps: int) -> None:
        """Build the network; its value is zero everywhere until it is trained.

        Args:
            channels: C.
            height: H.
            width: W.
            num_steps: K, steps are in [0, K).
        """
        super().__init__()
        self.step = nn.Embedding(num_steps, WIDTH)
        self.project = nn.Conv2d(channels, WIDTH, 1)
        self.norm = nn.GroupNorm(8, WIDTH)
        self.mix = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.flat = nn.Linear(WIDTH * height * width, HIDDEN)
        self.value = nn.Linear(HIDDEN, 1)
        nn.init.zeros_(self.value.weight)
        nn.init.zeros_(self.value.bias)

    def forward(self, features: Tensor, steps: Tensor) -> Tensor:
        """The values (N,)."""
        x = self.project(features) + self.step(steps)[..., None, None]
        x = F.silu(self.mix(F.silu(self.norm(x))))
        values: Tensor = self.value(F.silu(self.flat(x.flatten(1)))).squeeze(1)
        return values


class ValueFunction:
    """A critic with the samples that it learns from: those of the last rounds.

    What it does depends on the seed and on the rounds that it was given alone.

    Attributes:
        num_steps: K.
        memory: samples that are kept.
        updates: gradient steps after each round.
    """

    def __init__(self, num_steps: int, memory: int, updates: int, seed: int) -> None:
        """Know nothing yet.

        Args:
            num_steps: K.
            memory: samples that are kept.
            updates: gradient steps after each round.
            seed: of initial weights and mini-batches.
        """
        self.num_steps, self.memory, self.updates, self.seed = num_steps, memory, updates, seed
        self.critic: Critic | None = None
        self._held: dict[str, Tensor] = {}
        self._mean, self._std = 0.0, 1.0
        self._rounds = 0
        self._moments = [0.0, 0.0]

    def gradient(
        self, features_of: Callable[[Tensor], Tensor], x: Tensor, steps: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Gradients (N, *latent) of the value with respect to states, and their features.

        Args:
            features_of: features (N, C, H, W) of states, differentiable.
            x: (N, *latent).
            steps: (N,) int64, when the states are visited.
        """
        if self.critic is None:
            with torch.no_grad():
                return torch.zeros_like(x), features_of(x)
        self._move(x.device)
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            features = features_of(x)
            value = self.trust * self._std * self.critic(features.float(), steps)
            (gradient,) = torch.autograd.grad(value.sum(), x)
        return gradient.detach(), features.detach()

    def learn(self, features: Tensor, steps: Tensor, values: Tensor, device: torch.device) -> None:
        """Take in a round and train on all that is held.

        Args:
            features: (n, S, C, H, W) of S states of each sample, n > 0.
            steps: (n, S) int64, when they are visited.
            values: (n, S), what followed: the reward, minus the cost of the control from there on.
            device: where the critic is trained.
        """
        self._calibrate(features, steps, values)
        new = {"features": features.half(), "steps": steps, "values": values.float()}
        held = {k: torch.cat([self._held[k], v]) if self._held else v for k, v in new.items()}
        self._held = {name: tensor[-self.memory :].cpu() for name, tensor in held.items()}
        self._rounds += 1
        if self.critic is None:
            self._build(features.shape[2:])
            self._mean, std = float(values.mean()), float(values.std())
            self._std = std if std > 0 else 1.0
        assert self.critic is not None
        self._move(device)
        with torch.enable_grad(), torch.autocast(device.type, enabled=False):
            self._train(device)

    def _train(self, device: torch.device) -> None:
        assert self.critic is not None
        data = {name: tensor.flatten(0, 1).to(device) for name, tensor in self._held.items()}
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self._rounds)
        for _ in range(self.updates):
            chosen = torch.randint(len(data["steps"]), (BATCH_SIZE,), generator=generator)
            rows = {name: tensor[chosen.to(device)] for name, tensor in data.items()}
            found = self.critic(rows["features"].float(), rows["steps"])
            self._optimizer.zero_grad(set_to_none=True)
            F.mse_loss(found, (rows["values"] - self._mean) / self._std).backward()
            self._optimizer.step()

    @torch.no_grad()
    def _calibrate(self, features: Tensor, steps: Tensor, values: Tensor) -> None:
        """Regress what came on what was expected of states that the critic has not seen yet."""
        if self.critic is None:
            return
        device = next(self.critic.parameters()).device
        found = self.critic(features.flatten(0, 1).to(device).float(), steps.flatten().to(device))
        expected = (found - found.mean()).double().cpu()
        came = (values.flatten() - values.mean()).double().cpu() / self._std
        moments = [float(expected @ came), float(expected @ expected)]
        self._moments = [
            FORGETTING * old + new for old, new in zip(self._moments, moments, strict=True)
        ]

    @property
    def trust(self) -> float:
        """How much of its differences between states has held on rounds that were new to it.

        The slope of a regression, between 0 and 1: a critic that has learned its few samples by
        heart is not followed.
        """
        covariance, variance = self._moments
        return min(max(covariance / variance, 0.0), 1.0) if variance > 0 else 0.0

    def _build(self, shape: torch.Size) -> None:
        channels, height, width = shape
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.critic = Critic(channels, height, width, self.num_steps)
        self._optimizer = torch.optim.AdamW(
            self.critic.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY
        )

    def _move(self, device: torch.device) -> None:
        assert self.critic is not None
        if next(self.critic.parameters()).device != device:
            self.critic.to(device)
            self._optimizer.load_state_dict(self._optimizer.state_dict())  # follows its parameters

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs; empty before the first round."""
        if self.critic is None:
            return {}
        return {
            "critic": self.critic.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "held": self._held,
            "scale": [self._mean, self._std],
            "rounds": self._rounds,
            "moments": self._moments,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        if not state:
            return
        self._held = state["held"]
        self._build(self._held["features"].shape[2:])
        assert self.critic is not None
        self.critic.load_state_dict(state["critic"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._mean, self._std = state["scale"]
        self._rounds, self._moments = state["rounds"], state["moments"]
