"""Stage ``contrastive``: pictures and captions in one embedding, as CLIP learns it.

The result starts the reward and measures the diversity of pictures.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from soc_ft.assets.scorer import ShapesScorer
from soc_ft.assets.training import corruption
from soc_ft.assets.training.loop import LoopConfig, train
from soc_ft.assets.training.text import text_config, tokenizer_of
from soc_ft.data import shapes

if TYPE_CHECKING:
    from omegaconf import DictConfig


def train_contrastive(config: DictConfig, output_dir: Path) -> ShapesScorer:
    """Align pictures and captions; every caption that is true of a picture is a positive."""
    stage = config.contrastive
    scorer = build_scorer(config, output_dir)

    def step_loss(step: int) -> tuple[Tensor, dict[str, float]]:
        seed = (config.seed, 5, step)
        pictures, captions, scenes = shapes.sample(stage.batch_size, seed, contrast=(0.5, 1.0))
        images = _augment(torch.from_numpy(pictures), step)
        cosines = scorer.embed_images(images) @ scorer.embed_text(captions).T
        logits = scorer.clip.logit_scale.exp().clamp(max=50.0) * cosines
        truth = torch.tensor([shapes.labels(s) for s in scenes])
        claims = torch.tensor(
            [shapes.mentioned_labels(s, c) for s, c in zip(scenes, captions, strict=True)]
        )
        positive = is_true(claims, truth).float()
        loss = F.cross_entropy(logits, positive / positive.sum(1, keepdim=True))
        loss = loss + F.cross_entropy(logits.T, (positive / positive.sum(0)).T)
        hit = positive.gather(1, logits.argmax(1, keepdim=True)).mean()
        return 0.5 * loss, {"hit": float(hit)}

    train(scorer, step_loss, LoopConfig(**stage.loop), output_dir / "contrastive.pt")
    return scorer


def build_scorer(config: DictConfig, output_dir: Path) -> ShapesScorer:
    """An untrained scorer."""
    from transformers import CLIPConfig

    torch.manual_seed(config.seed)
    stage, tokenizer = config.contrastive, tokenizer_of(config, output_dir)
    vision = {
        "hidden_size": stage.hidden,
        "intermediate_size": 4 * stage.hidden,
        "num_hidden_layers": stage.layers,
        "num_attention_heads": stage.heads,
        "image_size": shapes.RESOLUTION,
        "patch_size": stage.patch,
        "projection_dim": stage.projection,
    }
    clip = CLIPConfig(
        text_config=text_config(config, tokenizer).to_dict(),
        vision_config=vision,
        projection_dim=stage.projection,
    )
    return ShapesScorer(clip, tokenizer)


def is_true(claims: Tensor, truth: Tensor) -> Tensor:
    """(N, M) whether claim m (M, 5; -1 claims nothing) is true of picture n (N, 5)."""
    agrees = (claims[None] == truth[:, None]) | (claims[None] < 0)
    return agrees.all(dim=-1)


def _augment(pictures: Tensor, step: int) -> Tensor:
    """Mild random damage, so that generated pictures are not foreign to the embedding."""
    generator = torch.Generator().manual_seed(step)
    count = len(pictures)
    for damage in (corruption.blur, corruption.add_noise, corruption.deform):
        severity = 0.4 * torch.rand(count, generator=generator) ** 2
        pictures = damage(pictures, severity, generator)
    return pictures
