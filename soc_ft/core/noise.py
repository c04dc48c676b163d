"""Randomness by address: a draw is a function of where it is used, never of what was drawn before.

A run therefore does not depend on batch splits, on the number of devices, or on having been
interrupted. Everything is drawn on the CPU, so that it does not depend on the accelerator either.

torch's CPU generator keeps 32 bits of a seed: among n addresses, n**2 / 2**33 pairs are expected to
coincide, one pair in the first hundred thousand samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b

import torch
from torch import Tensor

_SEED_BITS = 63  # the largest non-negative seed that fits a signed 64-bit integer


def seed_for(seed: int, stream: str, *address: int) -> int:
    """Hash an address into a generator seed.

    Args:
        seed: seed of the run.
        stream: name of the use, e.g. ``"trajectory"``; different streams are independent.
        address: integers that locate the draw within the stream, e.g. (round, sample).

    Returns:
        An integer in [0, 2**63).
    """
    key = repr((int(seed), stream, *map(int, address))).encode()
    return int.from_bytes(blake2b(key, digest_size=8).digest(), "big") >> (64 - _SEED_BITS)


def normal(
    shape: Sequence[int],
    seed: int,
    stream: str,
    addresses: Sequence[tuple[int, ...]],
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Standard normal draws, one row of shape ``shape`` per address.

    Returns:
        (len(addresses), *shape) on the CPU; row j depends only on (seed, stream, addresses[j]).
    """
    return _rows(shape, seed, stream, addresses, dtype, lambda row, g: row.normal_(generator=g))


def uniform(
    shape: Sequence[int],
    seed: int,
    stream: str,
    addresses: Sequence[tuple[int, ...]],
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Draws uniform in [0, 1), addressed as in :func:`normal`."""
    return _rows(shape, seed, stream, addresses, dtype, lambda row, g: row.uniform_(generator=g))


def _rows(
    shape: Sequence[int],
    seed: int,
    stream: str,
    addresses: Sequence[tuple[int, ...]],
    dtype: torch.dtype,
    fill: Callable[[Tensor, torch.Generator], Tensor],
) -> Tensor:
    rows = torch.empty((len(addresses), *shape), dtype=dtype)
    generator = torch.Generator()
    for row, address in zip(rows, addresses, strict=True):
        fill(row, generator.manual_seed(seed_for(seed, stream, *address)))
    return rows
