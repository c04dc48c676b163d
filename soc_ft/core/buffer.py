"""Replay of collected samples. On-policy training is the case of one batch and one pass."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from soc_ft.core.noise import seed_for


class ReplayBuffer:
    """Holds one rank's share of a round of samples and says which of them each step uses.

    A round collects ``batches * batch_size`` samples over all ranks and uses each of them once per
    pass. Sample i of the round sits in column i % batch_size, and a rank owns a contiguous block of
    columns: its rows are the samples of its columns, in the order of i. From the second pass on,
    every group of columns is permuted over the batches by itself, so that batches mix, groups stay
    together, and the samples that share an optimizer step are the same however many ranks divide
    the columns.
    """

    def __init__(
        self,
        batch_size: int,
        batches: int,
        passes: int,
        seed: int,
        columns: range | None = None,
        group_size: int = 1,
    ) -> None:
        """Describe the rounds; nothing is held yet.

        Args:
            batch_size: samples per optimizer step, over all ranks.
            batches: optimizer batches per round.
            passes: passes over the round's samples.
            seed: seed of the run.
            columns: the columns this rank owns; all of them by default.
            group_size: neighbouring columns that belong together.

        Raises:
            ValueError: a size is below 1, the columns do not lie in [0, batch_size), or a group is
                cut in two.
        """
        sizes = {"batch_size": batch_size, "batches": batches, "passes": passes}
        for name, size in {**sizes, "group_size": group_size}.items():
            if size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        columns = range(batch_size) if columns is None else columns
        if columns.step != 1 or not 0 <= columns.start < columns.stop <= batch_size:
            raise ValueError(f"columns must be a block within range({batch_size}), got {columns}")
        if any(edge % group_size for edge in (columns.start, columns.stop, batch_size)):
            raise ValueError(f"groups of {group_size} do not fit into {columns} of {batch_size}")
        self.batch_size = batch_size
        self.group_size = group_size
        self.batches = batches
        self.passes = passes
        self.seed = seed
        self.columns = columns
        self._round: int | None = None
        self._tensors: dict[str, Tensor] = {}

    @property
    def steps_per_round(self) -> int:
        """Optimizer steps between two collections."""
        return self.batches * self.passes

    @property
    def samples_per_round(self) -> int:
        """Samples of one round on this rank."""
        return self.batches * len(self.columns)

    def locate(self, step: int) -> tuple[int, int, int]:
        """(round, pass, batch) of a global optimizer step, counted from 0."""
        round_, within = divmod(step, self.steps_per_round)
        return round_, *divmod(within, self.batches)

    def rows(self, round_: int, pass_: int, batch: int) -> Tensor:
        """This rank's rows (len(columns),) int64 of one optimizer batch."""
        row_of_column = [
            self._order(round_, pass_, column // self.group_size)[batch] for column in self.columns
        ]
        return torch.stack(row_of_column) * len(self.columns) + torch.arange(len(self.columns))

    def _order(self, round_: int, pass_: int, group: int) -> Tensor:
        if pass_ == 0:
            return torch.arange(self.batches)
        seed = seed_for(self.seed, "replay", round_, pass_, group)
        return torch.randperm(self.batches, generator=torch.Generator().manual_seed(seed))

    def fill(self, round_: int, tensors: dict[str, Tensor]) -> None:
        """Hold the samples of a round, replacing what was held.

        Args:
            round_: number of the round.
            tensors: each (samples_per_round, ...).

        Raises:
            ValueError: a tensor has another number of samples.
        """
        for name, tensor in tensors.items():
            if len(tensor) != self.samples_per_round:
                raise ValueError(
                    f"{name} holds {len(tensor)} samples, a round has {self.samples_per_round}"
                )
        self._round = round_
        self._tensors = dict(tensors)

    def is_filled(self, round_: int) -> bool:
        """Whether the samples of this round are held."""
        return self._round == round_

    def get(self, rows: Tensor) -> dict[str, Tensor]:
        """The given rows of every tensor.

        Raises:
            RuntimeError: nothing is held.
        """
        if self._round is None:
            raise RuntimeError("the replay buffer is empty: fill it before reading from it")
        return {name: tensor[rows.to(tensor.device)] for name, tensor in self._tensors.items()}

    def clear(self) -> None:
        """Forget the samples, e.g. to free memory before the next collection."""
        self._round = None
        self._tensors = {}

    def numbers(self, rows: Tensor) -> list[int]:
        """Numbers in the round, over all ranks, of this rank's rows."""
        batch, place = rows // len(self.columns), rows % len(self.columns)
        return (batch * self.batch_size + self.columns.start + place).tolist()

    def merge(self, parts: list[Tensor]) -> Tensor:
        """All samples of a round, in the order of their numbers, from the rows of every rank.

        Args:
            parts: (samples of the rank, ...) of each rank, in the order of ranks.
        """
        return torch.cat([self._by_batch(part) for part in parts], dim=1).flatten(0, 1)

    def share(self, tensor: Tensor) -> Tensor:
        """This rank's rows of a tensor of all samples, which :meth:`merge` undoes."""
        own = slice(self.columns.start, self.columns.stop)
        return self._by_batch(tensor)[:, own].flatten(0, 1)

    def state_dict(self) -> dict[str, Any]:
        """Round and samples held by this rank, loadable by ``torch.load(weights_only=True)``."""
        columns = [self.columns.start, self.columns.stop]
        return {"round": self._round, "columns": columns, "tensors": self._tensors}

    def load_state_dicts(
        self, states: Sequence[Mapping[str, Any]], device: torch.device | str | None = None
    ) -> None:
        """Hold this rank's share of what was saved, by any number of ranks.

        Args:
            states: :meth:`state_dict` of each of them, in the order of ranks; none is held if they
                held none. Of their tensors only what this rank needs is read.
            device: where the samples are kept; None is where they are.

        Raises:
            ValueError: the states belong to rounds of another size.
        """
        self.clear()
        if not states or states[0]["round"] is None:
            return
        parts: dict[str, list[Tensor]] = defaultdict(list)
        for state in states:
            start, stop = state["columns"]
            own = slice(
                max(self.columns.start, start) - start, min(self.columns.stop, stop) - start
            )
            if own.start >= own.stop:
                continue
            for name, tensor in state["tensors"].items():
                if len(tensor) != self.batches * (stop - start):
                    raise ValueError(
                        f"{name} holds {len(tensor)} samples, a round of columns {start} to {stop} "
                        f"has {self.batches * (stop - start)}"
                    )
                parts[name].append(self._by_batch(tensor)[:, own])
        held = {name: torch.cat(each, dim=1).flatten(0, 1) for name, each in parts.items()}
        self.fill(states[0]["round"], {name: tensor.to(device) for name, tensor in held.items()})

    def _by_batch(self, tensor: Tensor) -> Tensor:
        """(batches * columns, ...) -> (batches, columns, ...)."""
        return tensor.reshape(self.batches, -1, *tensor.shape[1:])
