"""Rewards and metrics that use what files say of prompts beside their text."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from soc_ft.data.metadata import Metadata
from soc_ft.errors import ConfigError
from soc_ft.rewards.function import FunctionReward
from soc_ft.rewards.metadata import share_metadata
from soc_ft.rewards.weighted import Weighted
from tests.scorers import MeanColour, Redness

KNOWN = {"a": {"bonus": 1}, "b": {}}


class Listening(Redness):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Metadata] = []

    def use_metadata(self, of_prompts: Metadata) -> None:
        self.told.append(of_prompts)


def test_every_part_of_a_sum_is_told_once() -> None:
    """Breaks if a part at any depth is left out, or is told twice."""
    outer, inner = Listening(), Listening()
    sub = Weighted({"inner": inner, "plain": Redness()}, {"inner": 1.0, "plain": 1.0})
    whole = Weighted({"sub": sub, "outer": outer}, {"sub": 1.0, "outer": 1.0})
    share_metadata(whole, "reward", lambda: KNOWN)
    assert outer.told == inner.told == [KNOWN]


def test_an_object_that_is_given_as_a_function_is_told() -> None:
    """Breaks if a metric from Python hides behind what makes a reward of a function."""
    given = Listening()
    share_metadata(FunctionReward(given), "metrics.own", lambda: KNOWN)
    assert given.told == [KNOWN]


def test_nothing_is_read_for_those_who_use_nothing() -> None:
    """Breaks if files with contradictions bar a reward that does not care."""

    def unread() -> Metadata:
        raise AssertionError

    plain = Weighted({"plain": Redness()}, {"plain": 1.0})
    for scorer in (plain, FunctionReward(lambda images, prompts: images), MeanColour()):
        share_metadata(scorer, "reward", unread)


def test_metadata_that_cannot_be_used_are_told_in_one_line() -> None:
    """Breaks if a key that a file lacks is a traceback, or nobody knows whose it is."""

    class Wanting(Redness):
        def use_metadata(self, of_prompts: Metadata) -> None:
            self.tags = [said["tag"] for said in of_prompts.values()]

        def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
            return torch.zeros(len(images))

    weighted = Weighted({"own": Wanting()}, {"own": 1.0})
    message = r"^reward \(redness\): raised KeyError when .* metadata, 'tag' \(test_metadata\.py, "
    with pytest.raises(ConfigError, match=message):
        share_metadata(weighted, "reward", lambda: KNOWN)
