"""Shape helper shared by the core."""

from __future__ import annotations

from torch import Tensor


def match_leading(values: Tensor, like: Tensor) -> Tensor:
    """View ``values`` so that its dims line up with the leading dims of ``like``.

    Args:
        values: scalar, (N,), (B, K) ... whose shape broadcasts against the first dims of ``like``.
        like: tensor that the result is to be combined with.

    Returns:
        ``values`` in the dtype and on the device of ``like``, with trailing dims of size one.
    """
    return values.to(like).reshape(*values.shape, *(1,) * (like.dim() - values.dim()))
