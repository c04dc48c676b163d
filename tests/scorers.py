"""Rewards of the tests, each with a property that a test is about."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from soc_ft.data.metadata import Metadata


class Redness:
    """How much redder than green and blue a picture is on average."""

    name: ClassVar[str] = "redness"
    differentiable: ClassVar[bool] = True

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        red, green, blue = images.unbind(dim=1)
        return self.scale * (red - (green + blue) / 2).mean(dim=(1, 2))

    def to(self, device: torch.device) -> Redness:
        return self


class BrokenFor(Redness):
    """Not a number for the prompts that hold a word."""

    name: ClassVar[str] = "broken"

    def __init__(self, scale: float = 1.0, word: str = "number 1") -> None:
        super().__init__(scale)
        self.word = word

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        broken = torch.tensor([self.word in prompt for prompt in prompts], device=images.device)
        return super().__call__(images, prompts) + torch.where(broken, torch.nan, 0.0)


class Counting(Redness):
    """Counts the pictures that it scores, and those of which a gradient is wanted."""

    name: ClassVar[str] = "counting"
    asked: ClassVar[int] = 0
    differentiated: ClassVar[int] = 0

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        Counting.asked += len(images)
        Counting.differentiated += len(images) * images.requires_grad
        return super().__call__(images, prompts)


class Informed(Redness):
    """Adds the ``bonus`` in a prompt's metadata; of a prompt that it was not told of it raises."""

    name: ClassVar[str] = "informed"
    told: ClassVar[list[Metadata]] = []

    def use_metadata(self, of_prompts: Metadata) -> None:
        Informed.told.append(of_prompts)
        self.bonus = {prompt: said.get("bonus", 0.0) for prompt, said in of_prompts.items()}

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        bonus = torch.tensor([self.bonus[prompt] for prompt in prompts], device=images.device)
        return super().__call__(images, prompts) + bonus


class EndsEarly(Redness):
    """Ends its job early, in the third optimizer step, unless the file ``mended`` is there."""

    name: ClassVar[str] = "ends_early"

    def __init__(self, scale: float = 1.0, ending: str = "none", mended: str = "") -> None:
        super().__init__(scale)
        self.ending = ending
        self.mended = Path(mended)
        self.gradients = 0

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        self.gradients += images.requires_grad
        # The first is that of the trial before the model loads.
        if self.gradients == 4 and not self.mended.exists():
            if self.ending == "raises":
                raise ValueError("the reward broke")
            if self.ending == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.ending == "memory":
                self._hog()
        return super().__call__(images, prompts)

    def _hog(self) -> None:
        held = []
        while True:
            held.append(bytearray(os.urandom(1 << 20)) * 200)
            time.sleep(0.1)


class MeanColour:
    """An embedding: the mean colour of a picture."""

    embeds = True

    def __call__(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3))

    def to(self, device: torch.device) -> MeanColour:
        return self
