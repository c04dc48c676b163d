"""Filling the replay buffer: a round of samples from the current model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from soc_ft.config.schema import RunConfig
from soc_ft.core import ReplayBuffer
from soc_ft.data.prompts import PromptOrder
from soc_ft.methods.base import ControlProblem, Method, Request, chunks
from soc_ft.models.model import DiffusionModel

FINITE = "finite"
"""Name of the (B,) bool tensor that says which samples have finite rewards, gradients, ..."""


class Collector:
    """Collects one rank's share of a round.

    Sample i of round n takes the prompt at position n * samples + i of an endless order of prompts,
    and all its randomness from the address (n, i).

    Args:
        model: encodes prompts.
        problem: what is sampled.
        method: how.
        prompts: training prompts.
        run: the typed configuration.
    """

    def __init__(
        self,
        model: DiffusionModel,
        problem: ControlProblem,
        method: Method,
        prompts: Sequence[str],
        run: RunConfig,
    ) -> None:
        self.model = model
        self.problem = problem
        self.method = method
        self.prompts = prompts
        self.order = PromptOrder(len(prompts), run.seed)
        self.run = run

    @torch.no_grad()
    def collect(self, buffer: ReplayBuffer, round_: int) -> dict[str, Tensor]:
        """What ``buffer.fill`` takes: rows in the buffer's order.

        Besides the method's tensors there are ``reward`` (B,) and those of its parts, the method's
        statistics, and ``finite`` (B,): samples with a value that is not finite are marked, not
        kept out, since rows have fixed places.
        """
        samples = [
            batch * buffer.batch_size + column
            for batch in range(buffer.batches)
            for column in buffer.columns
        ]
        storage: dict[str, Tensor] = {}
        for rows in chunks(len(samples), self.run.trainer.rollout_batch):
            part = self._collect_some(buffer, round_, samples[rows])
            for name, tensor in part.items():
                if name not in storage:
                    device = self.run.buffer.device or tensor.device
                    storage[name] = tensor.new_empty(
                        (len(samples), *tensor.shape[1:]), device=device
                    )
                storage[name][rows] = tensor.to(storage[name].device)
        return storage

    def _collect_some(
        self, buffer: ReplayBuffer, round_: int, samples: Sequence[int]
    ) -> dict[str, Tensor]:
        start = round_ * buffer.batch_size * buffer.batches
        prompts = [self.prompts[self.order.index(start + i)] for i in samples]
        settings = self.run.buffer
        request = Request(
            prompts,
            self.model.encode(prompts),
            self.model.latent_shape,
            self.run.seed,
            [(round_, i) for i in samples],
            settings.passes,
            keep_predictions=settings.log_ess or settings.importance_weighting,
        )
        experience = self.method.collect(self.problem, request)
        parts = self.problem.parts.take(len(samples))
        part = {"reward": experience.rewards, **parts, **experience.stats, **experience.tensors}
        part[FINITE] = _finite(part)
        return part


def _finite(tensors: dict[str, Tensor]) -> Tensor:
    """(B,) bool: samples none of whose numbers is infinite or not a number."""
    flags = [
        tensor.flatten(1).isfinite().all(dim=1) if tensor.dim() > 1 else tensor.isfinite()
        for tensor in tensors.values()
        if tensor.is_floating_point()
    ]
    return torch.stack(flags).all(dim=0)
