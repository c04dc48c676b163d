"""Ground truth of generated pictures: a classifier of every attribute of the shapes world."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from soc_ft.errors import ConfigError
from soc_ft.world.drawing import ATTRIBUTES


class ShapesClassifier(nn.Module):
    """Convolutional classifier with one head for each attribute.

    It never took part in training the reward, which makes it the control for reward hacking.
    """

    def __init__(self, channels: list[int], hidden: int, resolution: int) -> None:
        """Build the network, with random weights.

        Args:
            channels: of the stride-2 stages.
            hidden: width before the heads.
            resolution: height and width of the pictures.
        """
        super().__init__()
        self.settings = {"channels": channels, "hidden": hidden, "resolution": resolution}
        layers: list[nn.Module] = []
        for width, wider in zip([3, *channels], channels, strict=False):
            layers += [nn.Conv2d(width, wider, 3, 2, 1), nn.GroupNorm(8, wider), nn.SiLU()]
        side = resolution // 2 ** len(channels)
        flat = nn.Linear(channels[-1] * side**2, hidden)
        self.trunk = nn.Sequential(*layers, nn.Flatten(), flat, nn.SiLU())
        self.heads = nn.ModuleDict({k: nn.Linear(hidden, len(v)) for k, v in ATTRIBUTES.items()})

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Logits of every attribute for pictures (B, 3, H, W) in [0, 1]."""
        features = self.trunk(2.0 * images - 1.0)
        return {name: head(features) for name, head in self.heads.items()}

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """(B, 5) class indices, columns in the order of ``ATTRIBUTES``."""
        logits = self(images)
        return torch.stack([logits[name].argmax(dim=-1) for name in ATTRIBUTES], dim=-1)

    def save(self, folder: Path) -> None:
        """Write weights (float16) and configuration to ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {k: v.half().contiguous() for k, v in self.state_dict().items()}
        save_file(weights, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(self.settings, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> ShapesClassifier:
        """Read what :meth:`save` wrote, in float32, frozen and in evaluation mode.

        Raises:
            ConfigError: the folder does not hold a classifier.
        """
        if not (folder / "model.safetensors").exists():
            raise ConfigError(
                f"no classifier weights in {folder}: expected config.json and model.safetensors "
                "as `python -m soc_ft.world.training stage=classifier` writes them"
            )
        classifier = cls(**json.loads((folder / "config.json").read_text()))
        weights = load_file(folder / "model.safetensors")
        classifier.load_state_dict({name: value.float() for name, value in weights.items()})
        return classifier.eval().requires_grad_(False)
