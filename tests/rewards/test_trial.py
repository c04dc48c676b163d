"""What a reward, a metric or an embedding does wrong is said before the model loads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from soc_ft.errors import ConfigError
from soc_ft.rewards.trial import try_embedding, try_reward
from soc_ft.rewards.weighted import Weighted
from tests.scorers import MeanColour, Redness


class Own(Redness):
    """Redness, of which something else is made."""

    name = "own"

    def __init__(self, change: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.change = change

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Any:
        return self.change(super().__call__(images, prompts))


def _raise(scores: Tensor) -> Tensor:
    raise KeyError("colour")


def _exit(scores: Tensor) -> Tensor:
    raise SystemExit("bye")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s[:, None], "returned shape (2, 1) for 2 pictures"),
        (lambda s: s.mean()[None], "returned shape (1,) for 2 pictures"),
        (lambda s: s.mean(), "returned shape () for 2 pictures"),
        (lambda s: (s, None), "returned a tuple"),
        (lambda s: s.tolist(), "returned a list"),
        (lambda s: None, "returned a NoneType"),
        (lambda s: s.detach(), "no gradient with respect to the pictures"),
        (lambda s: torch.zeros(2, requires_grad=True), "no gradient with respect to the pictures"),
        (lambda s: s.to("meta"), "returned a tensor on meta for 2 pictures on cpu"),
        (lambda s: s * torch.nan, "returned nan"),
        (lambda s: s * torch.inf, "inf"),
        (lambda s: (100 * s).long(), "numbers of torch.int64"),
        (_exit, "raised SystemExit when it was tried on two random pictures, bye (test_trial"),
        (_raise, "raised KeyError when it was tried on two random pictures, 'colour' (test_trial"),
    ],
)
def test_a_reward_is_told_what_came_and_what_is_expected(
    change: Callable[[Tensor], Any], words: str
) -> None:
    """Breaks when a wrong reward is met in the middle of a run, or by a traceback."""
    with pytest.raises(ConfigError) as caught:
        try_reward(Own(change), "reward", gradient=True)
    line = str(caught.value)
    assert line.startswith("reward (own): ")
    assert words in line
    assert "\n" not in line


def test_a_reward_that_cannot_be_moved_is_named() -> None:
    """Breaks when a missing `to` is an AttributeError."""
    with pytest.raises(ConfigError, match=r"reward \(function\): lacks `to`"):
        try_reward(lambda images, prompts: images.mean((1, 2, 3)), "reward")


def test_a_part_of_a_sum_is_named() -> None:
    """Breaks when of several rewards nobody knows which one is wrong."""
    parts = {"good": Redness(), "bad": Own(lambda s: s[:, None])}
    with pytest.raises(ConfigError, match=r"\(weighted\), part bad: returned shape \(2, 1\)"):
        try_reward(Weighted(parts, {"good": 1.0, "bad": 1.0}), "reward")


def test_a_sum_that_awaits_moments_is_tried_raw() -> None:
    """Breaks when what a run has yet to measure is held against its reward, or hides a mistake."""
    one = {"part": 1.0}
    try_reward(Weighted({"part": Redness()}, one, normalise=True), "reward", gradient=True)
    with pytest.raises(ConfigError, match="no gradient with respect to the pictures"):
        try_reward(
            Weighted({"part": Own(lambda s: s.detach())}, one, normalise=True),
            "reward",
            gradient=True,
        )


def test_what_is_right_passes() -> None:
    """Breaks when a reward is refused for a prompt that it does not know, or for one bad score."""
    seen: list[str] = []

    def half_broken(scores: Tensor) -> Tensor:
        return torch.where(torch.tensor([True, False]), torch.nan, scores)

    class Recording(Redness):
        def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
            seen.extend(prompts)
            assert images.shape == (2, 3, 48, 48)
            return super().__call__(images, prompts)

    try_reward(Recording(), "reward", "cpu", 48, ["mine", "yours", "ours"], gradient=True)
    assert seen == ["mine", "yours"]
    try_reward(Recording(), "reward", "cpu", 48, ["only"], gradient=True)
    assert seen[2:] == ["only", "only"], "a reward may know no other prompt"
    try_reward(Own(half_broken), "reward", gradient=True)
    try_reward(Own(lambda s: s.detach()), "metrics.m")
    try_embedding(MeanColour(), "validation.embedding")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v[:, 0], r"returned shape \(2,\) .* one vector for each, shape \(2, D\)"),
        (lambda v: v.tolist(), "returned a list"),
        (lambda v: v * torch.nan, "returned nan"),
    ],
)
def test_an_embedding_is_told_too(change: Callable[[Tensor], Any], words: str) -> None:
    """Breaks when an embedding of a wrong shape becomes a wrong diversity."""

    class Wrong(MeanColour):
        def __call__(self, images: Tensor) -> Any:
            return change(super().__call__(images))

    with pytest.raises(ConfigError, match=rf"validation\.embedding \(Wrong\): .*{words}"):
        try_embedding(Wrong(), "validation.embedding")
