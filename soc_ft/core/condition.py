"""What a prediction is conditioned on: a record of named tensors, one row a sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


class Condition:
    """Named tensors that share their first dim, such as ``sequence``, ``pooled`` and ``time_ids``.

    Rows are taken as of a tensor, ``condition[rows]``; a tensor by its name,
    ``condition.sequence``. A condition never changes; operations return another one.

    Attributes:
        tensors: each (N, ...), by name.
    """

    tensors: Mapping[str, Tensor]

    def __init__(self, **tensors: Tensor) -> None:
        """Name the tensors.

        Args:
            **tensors: at least one, each (N, ...).

        Raises:
            ValueError: there is none, or their numbers of rows differ.
        """
        rows = {name: len(tensor) for name, tensor in tensors.items()}
        if len(set(rows.values())) != 1:
            raise ValueError(f"a condition needs tensors with the same number of rows, got {rows}")
        self.tensors = dict(tensors)

    def __getattr__(self, name: str) -> Tensor:
        """A tensor by its name.

        Raises:
            AttributeError: there is no such tensor.
        """
        tensors: Mapping[str, Tensor] = self.__dict__.get("tensors", {})
        if name not in tensors:
            raise AttributeError(f"the condition has no {name}, only {', '.join(tensors)}")
        return tensors[name]

    def __len__(self) -> int:
        """N, the number of samples."""
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, rows: slice | Tensor) -> Condition:
        """Some of the rows: a slice, or indices or a mask as of a tensor."""
        return Condition(**{name: tensor[rows] for name, tensor in self.tensors.items()})

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return next(iter(self.tensors.values())).device

    def to(self, device: torch.device | str) -> Condition:
        """The same on another device."""
        return Condition(**{name: tensor.to(device) for name, tensor in self.tensors.items()})

    def expand(self, rows: int) -> Condition:
        """The only row ``rows`` times over, without copies."""
        return Condition(**{name: t.expand(rows, *t.shape[1:]) for name, t in self.tensors.items()})

    def where(self, mask: Tensor, other: Condition) -> Condition:
        """Own rows where ``mask`` (N,) holds, those of ``other`` (N rows or one) elsewhere."""
        return Condition(
            **{
                name: torch.where(
                    mask.view(-1, *(1,) * (tensor.dim() - 1)),
                    tensor,
                    other.tensors[name].to(tensor),
                )
                for name, tensor in self.tensors.items()
            }
        )

    @staticmethod
    def cat(conditions: Sequence[Condition]) -> Condition:
        """Rows of one after those of the other; all have the same names."""
        return Condition(
            **{
                name: torch.cat([each.tensors[name] for each in conditions])
                for name in conditions[0].tensors
            }
        )
