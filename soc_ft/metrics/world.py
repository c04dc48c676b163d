"""Metrics of the embedded world: independent judges, and an embedding."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from soc_ft.world.scenes import ATTRIBUTES
from soc_ft.world.with_scorer import WithScorer

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_SUBJECT = re.compile(
    r"\b(?:(?P<size>{size}) )?(?P<color>{color}) (?P<shape>{shape})\b".format(
        **{name: "|".join(values) for name, values in ATTRIBUTES.items()}
    )
)
_BACKGROUND = re.compile(rf"\b({'|'.join(ATTRIBUTES['background'])}) background\b")
_POSITION = re.compile(rf"\b(?:in|on|at) the ({'|'.join(ATTRIBUTES['position'])})\b")


class _Judged:
    """A metric by the judge that ships with the embedded model.

    It was trained on the generator's ground truth and never met the reward: where the reward
    rises and this falls, the reward is being hacked.
    """

    def __init__(self, weights: str | None = None) -> None:
        """Load the judge.

        Args:
            weights: folder of the judge; the shipped one by default.

        Raises:
            ConfigError: ``weights`` does not hold a judge.
        """
        from soc_ft.world import JUDGE
        from soc_ft.world.judge import ShapesJudge

        self._judge = ShapesJudge.load(Path(weights) if weights else JUDGE)

    def to(self, device: torch.device | str) -> Self:
        """Move the judge."""
        self._judge.to(device)
        return self


class ShapesAccuracy(_Judged):
    """1 for a picture that shows every attribute its prompt names, 0 otherwise."""

    def __init__(self, weights: str | None = None, attribute: str | None = None) -> None:
        """Load the judge.

        Args:
            weights: folder of the judge; the shipped one by default.
            attribute: count this attribute only (``shape``, ``color``, ...); all by default.

        Raises:
            ConfigError: ``weights`` does not hold a judge.
        """
        super().__init__(weights)
        self._names = list(ATTRIBUTES) if attribute is None else [attribute]

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Pictures (B, 3, H, W) in [0, 1], resized if needed, and prompts: (B,) zeros and ones."""
        predicted = self._judge.predict(images.float())
        columns = {name: column for column, name in enumerate(ATTRIBUTES)}
        right = [
            all(
                int(row[columns[name]]) == ATTRIBUTES[name].index(word)
                for name, word in named_attributes(prompt).items()
                if name in self._names
            )
            for row, prompt in zip(predicted.tolist(), prompts, strict=True)
        ]
        return predicted.new_tensor(right).float()


class ShapesQuality(_Judged):
    """How well a picture is drawn: 1 is flawless, blur, noise, clutter and the like lower it."""

    def __init__(self, weights: str | None = None, below: float | None = None) -> None:
        """Load the judge.

        Args:
            weights: folder of the judge; the shipped one by default.
            below: if given, pictures of less quality count 1, others 0: the share of pictures that
                have left what can be called a drawing.

        Raises:
            ConfigError: ``weights`` does not hold a judge.
        """
        super().__init__(weights)
        self._below = below

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Pictures (B, 3, H, W) in [0, 1], resized if needed: (B,) in [0, 1]; prompts are free."""
        quality = self._judge.quality(images.float())
        return quality if self._below is None else (quality < self._below).float()


class ShapesEmbedding(WithScorer):
    """Embedding of the contrastive model behind the shapes reward."""

    name = "shapes"
    embeds = True

    def __call__(self, images: Tensor) -> Tensor:
        """Embed pictures (B, 3, H, W) in [0, 1] as (B, D) vectors of unit L2 norm."""
        return self._scorer.embed_images(images.float())


def named_attributes(prompt: str) -> dict[str, str]:
    """The attributes that a caption of the embedded world names, with their words."""
    named: dict[str, str] = {}
    if subject := _SUBJECT.search(prompt):
        named = {name: word for name, word in subject.groupdict().items() if word}
    if background := _BACKGROUND.search(prompt):
        named["background"] = background.group(1)
    if position := _POSITION.search(prompt):
        named["position"] = position.group(1)
    return named
