"""Small models, functions and runs of the API."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

import soc_ft
from soc_ft.api import FineTuned
from soc_ft.models.model import DiffusionModel
from tests.conftest import TINY

SMALL = [each for each in TINY if not each.startswith(("model", "reward", "prompts"))]
PROMPTS = ["a house", "a tree\nin two lines", "ein Häuschen"]


def redness(images: Tensor, prompts: Sequence[str]) -> Tensor:
    red, green, blue = images.unbind(dim=1)
    return 20 * (red - (green + blue) / 2).mean(dim=(1, 2))


def bluish(images: Tensor, prompts: Sequence[str]) -> Tensor:
    return 20 * images[:, 2].mean(dim=(1, 2))


def without_gradient(images: Tensor, prompts: Sequence[str]) -> list[float]:
    return [float(image.mean()) for image in images]


without_gradient.differentiable = False  # type: ignore[attr-defined]


def tiny(**settings: Any) -> DiffusionModel:
    return soc_ft.load_model("shapes", path="random:tiny", device="cpu", **settings)


def trained(model: DiffusionModel, folder: Path, *overrides: str, **arguments: Any) -> FineTuned:
    arguments = {"reward": redness, "prompts": PROMPTS, **arguments}
    return soc_ft.fine_tune(
        model, arguments.pop("reward"), *SMALL, *overrides, run_dir=folder, **arguments
    )
