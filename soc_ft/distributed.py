"""Collective operations that a single process passes through unchanged."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

_BUCKET_BYTES = 32 * 2**20
"""Large enough that the start of an operation costs nothing beside it."""

_LOST = re.compile(r"connection (closed|reset|refused)|broken pipe|remote process", re.IGNORECASE)
"""What Gloo and NCCL say of a process that is no more."""


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


def largest(value: int, device: torch.device | str) -> int:
    """The largest of all ranks' values.

    Args:
        value: of this rank.
        device: that the ranks exchange tensors on.
    """
    if not _active():
        return value
    shared = torch.tensor(value, device=device)
    torch.distributed.all_reduce(shared, torch.distributed.ReduceOp.MAX)
    return int(shared)


def sum_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Add up the gradients of all ranks in place, many of them in one operation.

    What it holds beside the gradients is one bucket.
    """
    if not _active():
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    for bucket in _buckets(gradients):
        flat = torch.cat([gradient.flatten() for gradient in bucket])
        torch.distributed.all_reduce(flat)
        parts = flat.split([gradient.numel() for gradient in bucket])
        for gradient, part in zip(bucket, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


def tells_of_a_lost_process(error: RuntimeError) -> bool:
    """Whether a collective operation, ours or Lightning's, failed because a process has ended."""
    return _active() and bool(_LOST.search(str(error)))


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Neighbours of one dtype, up to a size."""
    for _, same in groupby(tensors, lambda tensor: tensor.dtype):
        bucket: list[Tensor] = []
        size = 0
        for tensor in same:
            if bucket and size + tensor.nbytes > _BUCKET_BYTES:
                yield bucket
                bucket, size = [], 0
            bucket.append(tensor)
            size += tensor.nbytes
        yield bucket


def _active() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
