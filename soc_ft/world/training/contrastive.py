"""Stage ``contrastive``: pictures and captions in one embedding, as CLIP learns it.

The result starts the reward and measures the diversity of pictures.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from soc_ft.world import scenes, web
from soc_ft.world.scorer import ShapesScorer
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
        drawn = web.sample(config.web, stage.batch_size, (config.seed, 6, step))
        texts, claims = draw_texts(drawn.scenes, rng)
        cosines = scorer.embed_images(drawn.images) @ scorer.embed_text(texts).T
        logits = scorer.log_temperature.exp().clamp(max=50.0) * cosines
        truth = torch.tensor([scenes.labels(scene) for scene in drawn.scenes])
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
    torch.manual_seed(config.seed)
    stage, tokenizer = config.contrastive, tokenizer_of(config, output_dir)
    pictures = {
        "channels": list(stage.channels),
        "features": stage.features,
        "resolution": scenes.RESOLUTION,
    }
    text = text_config(config, tokenizer)
    text.projection_dim = stage.projection
    return ShapesScorer(text, tokenizer, pictures)


def is_true(claims: Tensor, truth: Tensor) -> Tensor:
    """(N, M) whether claim m (M, 5; -1 claims nothing) is true of picture n (N, 5)."""
    agrees = (claims[None] == truth[:, None]) | (claims[None] < 0)
    return agrees.all(dim=-1)


def draw_texts(
    shown: list[scenes.Scene], rng: np.random.Generator
) -> tuple[list[str], list[list[int]]]:
    """For each scene a caption, the same with one word wrong, and one attribute alone.

    Between whole captions of a batch the colours decide nearly every comparison: the near miss and
    the single attribute make the others count.

    Returns:
        3 N texts and what each of them claims (see ``scenes.mentioned_labels``).
    """
    texts, claims = [], []
    for scene in shown:
        phrasing = int(rng.integers(2**32))
        named = scenes.claimed_words(_describe(scene, phrasing)[1])
        wrong = scenes.altered(scene, str(rng.choice(list(named))), rng)
        for described in (scene, wrong):
            text, claimed = _describe(described, phrasing)
            texts.append(text)
            claims.append(claimed)
        column = int(rng.integers(len(scenes.ATTRIBUTES)))
        texts.append(scenes.fragment(scene, list(scenes.ATTRIBUTES)[column]))
        claims.append([c if i == column else -1 for i, c in enumerate(scenes.labels(scene))])
    return texts, claims


def _describe(scene: scenes.Scene, phrasing: int) -> tuple[str, list[int]]:
    """A caption, always the same for a scene and a phrasing, and what it claims."""
    text = scenes.caption(scene, np.random.default_rng(phrasing))
    return text, scenes.mentioned_labels(scene, text)
