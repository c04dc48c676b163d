"""The head that two of the rewards put on an embedding."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

from torch import nn


def linear_head(width: int = 768) -> nn.Sequential:
    """Five linear layers without activations, from an embedding to a score.

    The layers are numbered as in the published weights, where dropout, which does nothing outside
    training, has numbers of its own.
    """
    sizes = (width, 1024, 128, 64, 16, 1)
    layers = zip(("0", "2", "4", "6", "7"), pairwise(sizes), strict=True)
    return nn.Sequential(OrderedDict((name, nn.Linear(i, o)) for name, (i, o) in layers))
