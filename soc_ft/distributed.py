"""Collective operations that a single process passes through unchanged."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


def gather(value: Any) -> list[Any]:
    """The value of every rank, in the order of ranks."""
    if not _active():
        return [value]
    everyone: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(everyone, value)
    return everyone


def gather_rows(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Concatenate tensors (rows of any number a rank) over ranks, on the CPU.

    A rank may lack a name; the result has the names of all.
    """
    everyone = gather({name: tensor.detach().cpu() for name, tensor in tensors.items()})
    names = dict.fromkeys(name for one in everyone for name in one)
    return {name: torch.cat([one[name] for one in everyone if name in one]) for name in names}


def sum_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Add up the gradients of all ranks in place."""
    if _active():
        for parameter in parameters:
            assert parameter.grad is not None
            torch.distributed.all_reduce(parameter.grad)


def _active() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
