"""Ground truth of generated pictures: what they show, and how well they are drawn."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from soc_ft.errors import ConfigError
from soc_ft.world.scenes import ATTRIBUTES
from soc_ft.world.trunk import network_pixels, picture_trunk, save_network


class ShapesJudge(nn.Module):
    """Two convolutional networks: a classifier of every attribute, and a regressor of quality.

    They learned from what the generator knows and never met the reward, which makes them the
    control for reward hacking.
    """

    def __init__(self, channels: list[int], hidden: int, resolution: int) -> None:
        """Build the networks, with random weights.

        Args:
            channels: of the stride-2 stages.
            hidden: width before the heads.
            resolution: height and width of the pictures.
        """
        super().__init__()
        self.settings = {"channels": channels, "hidden": hidden, "resolution": resolution}
        self.resolution = resolution
        self.content = picture_trunk(channels, hidden, resolution)
        self.drawing = picture_trunk(channels, hidden, resolution)
        self.heads = nn.ModuleDict({k: nn.Linear(hidden, len(v)) for k, v in ATTRIBUTES.items()})
        self.head = nn.Linear(hidden, 1)

    def logits(self, images: Tensor) -> dict[str, Tensor]:
        """Logits (B, classes) of every attribute for pictures (B, 3, H, W) in [0, 1]."""
        features = self.content(network_pixels(images, self.resolution))
        return {name: head(features) for name, head in self.heads.items()}

    def cost(self, images: Tensor) -> Tensor:
        """What the defects of pictures (B, 3, H, W) cost, (B,), at least 0 (``defects.COSTS``)."""
        cost: Tensor = self.head(self.drawing(network_pixels(images, self.resolution))).squeeze(-1)
        return F.softplus(cost)

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """(B, 5) class indices, columns in the order of ``ATTRIBUTES``."""
        logits = self.logits(images)
        return torch.stack([logits[name].argmax(dim=-1) for name in ATTRIBUTES], dim=-1)

    @torch.no_grad()
    def quality(self, images: Tensor) -> Tensor:
        """Quality (B,) in (0, 1) of pictures (B, 3, H, W) in [0, 1]; 1 is a flawless drawing."""
        return torch.exp(-self.cost(images))

    def save(self, folder: Path) -> None:
        """Write weights (float16) and configuration to ``folder``."""
        save_network(self, self.settings, folder)

    @classmethod
    def load(cls, folder: Path) -> ShapesJudge:
        """Read what :meth:`save` wrote, in float32, frozen and in evaluation mode.

        Raises:
            ConfigError: the folder does not hold a judge.
        """
        if not (folder / "model.safetensors").exists():
            raise ConfigError(
                f"no judge's weights in {folder}: expected config.json and model.safetensors "
                "as `python -m soc_ft.world.training stage=judge` writes them"
            )
        judge = cls(**json.loads((folder / "config.json").read_text()))
        weights = load_file(folder / "model.safetensors")
        judge.load_state_dict({name: value.float() for name, value in weights.items()})
        return judge.eval().requires_grad_(False)
