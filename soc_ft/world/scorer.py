"""The learned text-image scorer of the shapes world: two towers and a judge of quality."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from soc_ft.errors import ConfigError
from soc_ft.world.trunk import network_pixels, picture_trunk, save_network


class ShapesScorer(nn.Module):
    """Score = weighted cosine of picture and text + quality of the picture.

    Picture and text meet in one embedding, as in CLIP. The picture's tower is convolutional: at
    64x64 pixels it tells shapes and places apart after a fraction of the steps that a transformer
    takes. The quality comes from convolutions of its own; the prompt enters it because size and
    place are matters of taste only where the prompt leaves them open.

    Both terms are linear at the output, so the score does not saturate. The raw score is
    standardised by ``mean`` and ``std``, which were measured on samples of the base model.
    """

    def __init__(
        self,
        text: CLIPTextConfig,
        tokenizer: CLIPTokenizer,
        pictures: dict[str, Any],
        mean: float = 0.0,
        std: float = 1.0,
    ) -> None:
        """Build the networks, with random weights.

        Args:
            text: architecture of the text tower; its ``projection_dim`` is the embedding's.
            tokenizer: of the text tower.
            pictures: ``channels``, ``features`` and ``resolution`` of the picture's tower.
            mean: of the raw score over base-model samples.
            std: of the same.
        """
        super().__init__()
        self.pictures = pictures
        self.text_tower = CLIPTextModelWithProjection(text)
        self.picture_tower = nn.Sequential(
            picture_trunk(**pictures), nn.Linear(pictures["features"], text.projection_dim)
        )
        self.log_temperature = nn.Parameter(torch.tensor(2.6))
        self.quality = _Quality(pictures["resolution"], text.projection_dim)
        self.log_agreement = nn.Parameter(torch.tensor(2.3))
        self.tokenizer = tokenizer
        self.mean, self.std = mean, std

    @property
    def resolution(self) -> int:
        """Height and width of the pictures that the networks take."""
        return int(self.pictures["resolution"])

    def embed_text(self, prompts: list[str]) -> Tensor:
        """(B, D) L2-normalised embeddings of prompts."""
        tokens = self.tokenizer(prompts, padding=True, truncation=True, return_tensors="pt")
        output = self.text_tower(**tokens.to(self.log_agreement.device))
        return F.normalize(output.text_embeds, dim=-1)

    def embed_images(self, images: Tensor) -> Tensor:
        """(B, D) L2-normalised embeddings of pictures (B, 3, H, W) in [0, 1]."""
        return F.normalize(self.picture_tower(network_pixels(images, self.resolution)), dim=-1)

    def raw_score(self, images: Tensor, prompts: list[str]) -> Tensor:
        """(B,) scores before standardisation."""
        text = self.embed_text(prompts)
        cosine = (self.embed_images(images) * text).sum(dim=-1)
        quality: Tensor = self.quality(network_pixels(images, self.resolution), text)
        return self.log_agreement.exp() * cosine + quality

    def features(self, images: Tensor, prompts: list[str]) -> Tensor:
        """(B, D) features that a score can be predicted from.

        The embedding of the picture, its product with that of the prompt, and what the quality of
        the drawing is computed from.
        """
        picture = self.embed_images(images)
        drawing: Tensor = self.quality.picture(network_pixels(images, self.resolution))
        return torch.cat([picture, picture * self.embed_text(prompts), drawing], dim=-1)

    def freeze_embedding(self) -> None:
        """Leave only the quality and the weight of the cosine trainable."""
        for part in (self.text_tower, self.picture_tower):
            part.requires_grad_(False)

    def forward(self, images: Tensor, prompts: list[str]) -> Tensor:
        """(B,) scores with mean 0 and standard deviation 1 over base-model samples."""
        return (self.raw_score(images, prompts) - self.mean) / self.std

    def save(self, folder: Path) -> None:
        """Write weights (float16), configuration and tokenizer to ``folder``."""
        text = self.text_tower.config.to_dict()
        description = {"mean": self.mean, "std": self.std, "pictures": self.pictures, "text": text}
        save_network(self, description, folder)
        self.tokenizer.save_pretrained(folder)

    @classmethod
    def load(cls, folder: Path) -> ShapesScorer:
        """Read what :meth:`save` wrote, in float32, frozen and in evaluation mode.

        Raises:
            ConfigError: the folder does not hold a scorer.
        """
        if not (folder / "model.safetensors").exists():
            raise ConfigError(
                f"no reward weights in {folder}: expected config.json and model.safetensors as "
                "`python -m soc_ft.world.training stage=reward` writes them"
            )
        description = json.loads((folder / "config.json").read_text())
        text = CLIPTextConfig(**description.pop("text"))
        scorer = cls(text, CLIPTokenizer.from_pretrained(folder), **description)
        weights = {k: v.float() for k, v in load_file(folder / "model.safetensors").items()}
        missing, surplus = scorer.load_state_dict(weights, strict=False)
        if surplus or any("position_ids" not in name for name in missing):
            raise ConfigError(f"{folder} does not match its config.json: {missing} {surplus}")
        return scorer.eval().requires_grad_(False)


class _Quality(nn.Module):
    """Quality (B,) of pictures (B, 3, R, R) in [-1, 1] for L2-normalised text embeddings (B, D)."""

    def __init__(self, resolution: int, text_features: int) -> None:
        super().__init__()
        self.picture = picture_trunk([32, 48, 64, 64], 64, resolution)
        self.text = nn.Linear(text_features, 64)
        self.text_scale = text_features**0.5
        self.score = nn.Sequential(nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1))

    def forward(self, pixels: Tensor, text: Tensor) -> Tensor:
        features: Tensor = self.picture(pixels) + self.text(self.text_scale * text)
        scores: Tensor = self.score(features).squeeze(-1)
        return scores
