"""Stage ``classifier``: the ground truth of generated pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from soc_ft.errors import RunError
from soc_ft.world import drawing
from soc_ft.world.classifier import ShapesClassifier
from soc_ft.world.training import corruption
from soc_ft.world.training.loop import LoopConfig, train

if TYPE_CHECKING:
    from diffusers import AutoencoderKL
    from omegaconf import DictConfig


def train_classifier(config: DictConfig, output_dir: Path) -> None:
    """Train on damaged pictures and reconstructions, write ``output_dir/classifier``."""
    from diffusers import AutoencoderKL

    if not (output_dir / "vae").exists():
        raise RunError(f"no autoencoder in {output_dir / 'vae'}: run stage=vae first")
    vae = AutoencoderKL.from_pretrained(output_dir / "vae").eval().requires_grad_(False)
    stage = config.classifier
    torch.manual_seed(config.seed)
    classifier = ShapesClassifier(list(stage.channels), stage.hidden, drawing.RESOLUTION)

    def step_loss(step: int) -> tuple[Tensor, dict[str, float]]:
        pictures, _, scenes = drawing.sample(stage.batch_size, (config.seed, 8, step))
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        images = torch.from_numpy(pictures)
        images[: stage.reconstructed] = _redraw(vae, images[: stage.reconstructed], generator)
        images = _damage(images, generator)
        truth = torch.tensor([drawing.labels(scene) for scene in scenes])
        logits = classifier(images)
        losses = [F.cross_entropy(logits[k], truth[:, i]) for i, k in enumerate(logits)]
        right = [(logits[k].argmax(-1) == truth[:, i]).float() for i, k in enumerate(logits)]
        return torch.stack(losses).sum(), {"all_right": float(torch.stack(right).prod(0).mean())}

    train(classifier, step_loss, LoopConfig(**stage.loop), output_dir / "classifier.pt")
    classifier.save(output_dir / "classifier")


@torch.no_grad()
def _redraw(vae: AutoencoderKL, images: Tensor, generator: torch.Generator) -> Tensor:
    """Reconstructions, as the autoencoder would draw these pictures."""
    latents = vae.encode(2.0 * images - 1.0).latent_dist.sample(generator)
    return (vae.decode(latents).sample * 0.5 + 0.5).clamp(0.0, 1.0)


def _damage(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mild damage, so that a badly drawn shape is still judged by what it shows."""
    for damage in (corruption.blur, corruption.add_noise, corruption.deform):
        severity = 0.35 * torch.rand(len(images), generator=generator) ** 2
        images = damage(images, severity, generator)
    return images
