"""The learned text-image scorer of the shapes world: a small CLIP and a judge of quality."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from soc_ft.errors import ConfigError

STEM_STRIDE = 4


class ShapesScorer(nn.Module):
    """Score = weighted cosine of picture and text + quality of the picture.

    The vision tower sees the picture through a convolutional stem: outlines are local, and patches
    of raw pixels are slow to tell shapes apart (Xiao et al. 2021, "Early convolutions help
    transformers see better"). The quality comes from convolutions of its own; the prompt enters it
    because size and place are matters of taste only where the prompt leaves them open.

    Both terms are linear at the output, so the score does not saturate. The raw score is
    standardised by ``mean`` and ``std``, which were measured on samples of the base model.
    """

    def __init__(
        self, config: CLIPConfig, tokenizer: CLIPTokenizer, mean: float = 0.0, std: float = 1.0
    ) -> None:
        """Build the networks, with random weights.

        Args:
            config: architecture of the CLIP model, whose vision tower takes the stem's features.
            tokenizer: of the text tower.
            mean: of the raw score over base-model samples.
            std: of the same.
        """
        super().__init__()
        self.clip = CLIPModel(config)
        channels, side = config.vision_config.num_channels, config.vision_config.image_size
        self.stem = nn.Sequential(*_halve(3, channels // 2), *_halve(channels // 2, channels))
        self.quality = _Quality(STEM_STRIDE * side, config.projection_dim)
        self.agreement = nn.Parameter(torch.tensor(4.0))
        self.tokenizer = tokenizer
        self.mean, self.std = mean, std

    @property
    def resolution(self) -> int:
        """Height and width of the pictures that the stem takes."""
        return STEM_STRIDE * int(self.clip.config.vision_config.image_size)

    def embed_text(self, prompts: list[str]) -> Tensor:
        """(B, D) L2-normalised embeddings of prompts."""
        tokens = self.tokenizer(prompts, padding=True, truncation=True, return_tensors="pt")
        output = self.clip.text_model(**tokens.to(self.agreement.device))
        return F.normalize(self.clip.text_projection(output.pooler_output), dim=-1)

    def embed_images(self, images: Tensor) -> Tensor:
        """(B, D) L2-normalised embeddings of pictures (B, 3, H, W) in [0, 1]."""
        return self._embed_pixels(self._pixels(images))

    def raw_score(self, images: Tensor, prompts: list[str]) -> Tensor:
        """(B,) scores before standardisation."""
        pixels = self._pixels(images)
        text = self.embed_text(prompts)
        cosine = (self._embed_pixels(pixels) * text).sum(dim=-1)
        return self.agreement * cosine + self.quality(pixels, text)

    def forward(self, images: Tensor, prompts: list[str]) -> Tensor:
        """(B,) scores with mean 0 and standard deviation 1 over base-model samples."""
        return (self.raw_score(images, prompts) - self.mean) / self.std

    def save(self, folder: Path) -> None:
        """Write weights (float16), configuration and tokenizer to ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {k: v.half().contiguous() for k, v in self.state_dict().items() if _is_weight(v)}
        save_file(weights, folder / "model.safetensors")
        description = {"mean": self.mean, "std": self.std, "clip": self.clip.config.to_dict()}
        (folder / "config.json").write_text(json.dumps(description, indent=2, default=str) + "\n")
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
        config = CLIPConfig(**description["clip"])
        tokenizer = CLIPTokenizer.from_pretrained(folder)
        scorer = cls(config, tokenizer, description["mean"], description["std"])
        weights = {k: v.float() for k, v in load_file(folder / "model.safetensors").items()}
        missing, surplus = scorer.load_state_dict(weights, strict=False)
        if surplus or any("position_ids" not in name for name in missing):
            raise ConfigError(f"{folder} does not match its config.json: {missing} {surplus}")
        return scorer.eval().requires_grad_(False)

    def _embed_pixels(self, pixels: Tensor) -> Tensor:
        pooled = self.clip.vision_model(pixel_values=self.stem(pixels)).pooler_output
        return F.normalize(self.clip.visual_projection(pooled), dim=-1)

    def _pixels(self, images: Tensor) -> Tensor:
        """Images at the networks' resolution, in [-1, 1]."""
        size = (self.resolution, self.resolution)
        if images.shape[-2:] != size:
            images = F.interpolate(
                images, size, mode="bicubic", antialias=True, align_corners=False
            )
        return 2.0 * images - 1.0


class _Quality(nn.Module):
    """Quality (B,) of pictures (B, 3, R, R) in [-1, 1] for L2-normalised text embeddings (B, D)."""

    def __init__(self, resolution: int, text_features: int) -> None:
        super().__init__()
        widths = ((3, 16), (16, 32), (32, 64), (64, 64))
        layers = [layer for width, wider in widths for layer in _halve(width, wider)]
        # Not pooled: the score may depend on where things are.
        flat = nn.Linear(64 * (resolution // 16) ** 2, 64)
        self.picture = nn.Sequential(*layers, nn.Flatten(), flat)
        self.text = nn.Linear(text_features, 64)
        self.text_scale = text_features**0.5
        self.score = nn.Sequential(nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1))

    def forward(self, pixels: Tensor, text: Tensor) -> Tensor:
        features: Tensor = self.picture(pixels) + self.text(self.text_scale * text)
        scores: Tensor = self.score(features).squeeze(-1)
        return scores


def _halve(width: int, wider: int) -> tuple[nn.Module, ...]:
    """A convolution that halves height and width."""
    return nn.Conv2d(width, wider, 3, 2, 1), nn.GroupNorm(8, wider), nn.SiLU()


def _is_weight(value: Tensor) -> bool:
    return value.is_floating_point()
