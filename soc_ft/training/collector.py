"""Filling the replay buffer: a round of samples from the current model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from soc_ft.config.schema import RunConfig
from soc_ft.core import Condition, ReplayBuffer
from soc_ft.data.prompts import PromptOrder
from soc_ft.distributed import gather
from soc_ft.methods import Batch, Method, Request, Round
from soc_ft.methods.problem import Problem, chunks
from soc_ft.models.model import DiffusionModel
from soc_ft.training.importance import transitions_to_keep

REWARD, FINITE = "reward", "finite"
"""Names of the (B,) rewards, and of the (B,) bool that says which samples have finite numbers."""

_STATS, _CONDITION = "stats/", "condition/"
"""How the names of numbers for the log, and those of the condition's tensors, begin."""


class Collector:
    """Collects one rank's share of a round, and makes batches of what was collected.

    Group g of round n, of G samples each, takes the prompt at position n * groups + g of an endless
    order of prompts, and sample i all its randomness from the address (n, i).

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
        problem: Problem,
        method: Method,
        prompts: Sequence[str],
        run: RunConfig,
    ) -> None:
        """Take what is needed; nothing is sampled yet."""
        self.model = model
        self.problem = problem
        self.method = method
        self.prompts = prompts
        self.order = PromptOrder(len(prompts), run.seed)
        self.run = run

    @torch.no_grad()
    def collect(self, buffer: ReplayBuffer, round_: int) -> dict[str, Tensor]:
        """What ``buffer.fill`` takes: rows in the buffer's order.

        Samples with a value that is not finite are marked, not kept out, since rows have fixed
        places.
        """
        numbers = buffer.numbers(torch.arange(buffer.samples_per_round))
        storage: dict[str, Tensor] = {}
        for rows in chunks(len(numbers), self.run.trainer.rollout_batch):
            part = self._collect_some(buffer, round_, numbers[rows])
            for name, tensor in part.items():
                if name not in storage:
                    device = self.run.buffer.device or tensor.device
                    storage[name] = tensor.new_empty(
                        (len(numbers), *tensor.shape[1:]), device=device
                    )
                storage[name][rows] = tensor.to(storage[name].device)
        return storage | self._prepared(buffer, round_, storage)

    def batch(
        self, buffer: ReplayBuffer, round_: int, pass_index: int, rows: Tensor, device: torch.device
    ) -> Batch:
        """The held samples of some rows, as an optimizer batch without pairs yet.

        Numbers of samples that are not finite are zero: they do not count, but networks are called
        with them, so that all processes do so equally often.
        """
        held = {name: tensor.to(device) for name, tensor in buffer.get(rows).items()}
        broken = ~held[FINITE]
        for name in held.keys() - {FINITE}:
            held[name].masked_fill_(broken.view(-1, *(1,) * (held[name].dim() - 1)), 0)
        condition = {
            name.removeprefix(_CONDITION): tensor
            for name, tensor in held.items()
            if name.startswith(_CONDITION)
        }
        numbers = buffer.numbers(rows)
        nothing = torch.zeros(0, dtype=torch.int64, device=device)
        samples = Batch(
            tensors={name: t for name, t in held.items() if not name.startswith(_CONDITION)},
            conditions=Condition(**condition),
            sample_prompts=self._prompts(buffer, round_, numbers),
            addresses=[(round_, number) for number in numbers],
            seed=self.run.seed,
            pass_index=pass_index,
            rows=nothing,
            slots=nothing,
        )
        return replace(
            samples, tensors={**samples.tensors, **self.method.complete(self.problem, samples)}
        )

    def _prompts(self, buffer: ReplayBuffer, round_: int, numbers: Sequence[int]) -> list[str]:
        groups = buffer.batch_size * buffer.batches // buffer.group_size
        places = [round_ * groups + number // buffer.group_size for number in numbers]
        return [self.prompts[self.order.index(place)] for place in places]

    def _collect_some(
        self, buffer: ReplayBuffer, round_: int, numbers: Sequence[int]
    ) -> dict[str, Tensor]:
        prompts = self._prompts(buffer, round_, numbers)
        request = Request(
            prompts,
            self.model.encode(prompts),
            self.model.latent_shape,
            self.run.seed,
            [(round_, number) for number in numbers],
            buffer.passes,
            buffer.group_size,
            transitions=transitions_to_keep(self.run.buffer, self.method),
        )
        experience = self.method.collect(self.problem, request)
        parts = self.problem.parts.take(len(numbers))
        stats = {f"{_STATS}{name}": values for name, values in (parts | experience.stats).items()}
        condition = {f"{_CONDITION}{n}": t for n, t in request.condition.tensors.items()}
        part = {REWARD: experience.rewards, **stats, **experience.tensors, **condition}
        part[FINITE] = _finite(part)
        return part

    def _prepared(
        self, buffer: ReplayBuffer, round_: int, storage: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """What the method makes of the whole round, cut to this rank's rows."""
        names = [n for n in storage if n in (REWARD, FINITE) or n.startswith(_STATS)]
        everyone = gather({name: storage[name].cpu() for name in names})
        merged = {name: buffer.merge([one[name] for one in everyone]) for name in names}
        numbers = range(buffer.batch_size * buffer.batches)
        whole = Round(
            index=round_,
            rewards=merged[REWARD],
            finite=merged[FINITE],
            stats=logged(merged),
            prompts=self._prompts(buffer, round_, numbers),
            group_size=buffer.group_size,
        )
        device = storage[REWARD].device
        prepared = self.method.prepare(self.problem, whole)
        return {name: buffer.share(tensor).to(device) for name, tensor in prepared.items()}


def logged(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The numbers for the log among the tensors of samples: (B,), or (B, n) by step."""
    return {
        name.removeprefix(_STATS): values
        for name, values in tensors.items()
        if name.startswith(_STATS)
    }


def _finite(tensors: Mapping[str, Tensor]) -> Tensor:
    """(B,) bool: samples none of whose numbers is infinite or not a number."""
    flags = [
        tensor.flatten(1).isfinite().all(dim=1) if tensor.dim() > 1 else tensor.isfinite()
        for tensor in tensors.values()
        if tensor.is_floating_point()
    ]
    return torch.stack(flags).all(dim=0)
