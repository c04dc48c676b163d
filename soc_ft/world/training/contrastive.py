"""Stage ``contrastive``: pictures and captions in one embedding, as CLIP learns it.

The result starts the reward and measures the diversity of pictures.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from soc_ft.world import drawing
from soc_ft.world.scorer import STEM_STRIDE, ShapesScorer
from soc_ft.world.training import corruption
from soc_ft.world.training.loop import LoopConfig, train
from soc_ft.world.training.text import text_config, tokenizer_of

if TYPE_CHECKING:
    from omegaconf import DictConfig


def train_contrastive(config: DictConfig, output_dir: Path) -> ShapesScorer:
    """Align pictures and captions; every caption that is true of a picture is a positive."""
    stage = config.contrastive
    scorer = build_scorer(config, output_dir)

    def step_loss(step: int) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng((config.seed, 5, step))
        scenes = [drawing.sample_scene(rng, contrast=(0.5, 1.0)) for _ in range(stage.batch_size)]
        images = _augment(torch.from_numpy(drawing.render(scenes)), step)
        texts, claims = draw_texts(scenes, rng)
        cosines = scorer.embed_images(images) @ scorer.embed_text(texts).T
        logits = scorer.clip.logit_scale.exp().clamp(max=50.0) * cosines
        truth = torch.tensor([drawing.labels(s) for s in scenes])
        positive = is_true(torch.tensor(claims), truth).float()
        described = positive.any(dim=0)
        loss = F.cross_entropy(logits, positive / positive.sum(1, keepdim=True))
        of_text = (positive / positive.sum(0).clamp(min=1.0)).T[described]
        loss = loss + F.cross_entropy(logits.T[described], of_text)
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
        "num_channels": stage.stem_channels,
        "image_size": drawing.RESOLUTION // STEM_STRIDE,
        "patch_size": stage.patch,
        "projection_dim": stage.projection,
    }
    clip = CLIPConfig(
        text_config=text_config(config, tokenizer).to_dict(),
        vision_config=vision,
        projection_dim=stage.projection,
    )
    scorer = ShapesScorer(clip, tokenizer)
    # As loud as the patches themselves, or words of place take far longer than all others.
    nn.init.normal_(scorer.clip.vision_model.embeddings.position_embedding.weight, std=0.1)
    return scorer


def is_true(claims: Tensor, truth: Tensor) -> Tensor:
    """(N, M) whether claim m (M, 5; -1 claims nothing) is true of picture n (N, 5)."""
    agrees = (claims[None] == truth[:, None]) | (claims[None] < 0)
    return agrees.all(dim=-1)


def draw_texts(
    scenes: list[drawing.Scene], rng: np.random.Generator
) -> tuple[list[str], list[list[int]]]:
    """For each scene a caption, the same with one word wrong, and one attribute alone.

    Between whole captions of a batch the colours decide nearly every comparison: the near miss and
    the single attribute make the others count.

    Returns:
        3 N texts and what each of them claims (see ``drawing.mentioned_labels``).
    """
    texts, claims = [], []
    for scene in scenes:
        phrasing = int(rng.integers(2**32))
        named = drawing.claimed_words(_describe(scene, phrasing)[1])
        wrong = drawing.altered(scene, str(rng.choice(list(named))), rng)
        for described in (scene, wrong):
            text, claimed = _describe(described, phrasing)
            texts.append(text)
            claims.append(claimed)
        column = int(rng.integers(len(drawing.ATTRIBUTES)))
        texts.append(drawing.fragment(scene, list(drawing.ATTRIBUTES)[column]))
        claims.append([c if i == column else -1 for i, c in enumerate(drawing.labels(scene))])
    return texts, claims


def _describe(scene: drawing.Scene, phrasing: int) -> tuple[str, list[int]]:
    """A caption, always the same for a scene and a phrasing, and what it claims."""
    text = drawing.caption(scene, np.random.default_rng(phrasing))
    return text, drawing.mentioned_labels(scene, text)


def _augment(pictures: Tensor, step: int) -> Tensor:
    """Mild random damage, so that generated pictures are not foreign to the embedding."""
    generator = torch.Generator().manual_seed(step)
    count = len(pictures)
    for damage in (corruption.blur, corruption.add_noise, corruption.deform):
        severity = 0.4 * torch.rand(count, generator=generator) ** 2
        pictures = damage(pictures, severity, generator)
    return pictures
