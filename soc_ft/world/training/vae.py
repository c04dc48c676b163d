"""Stage ``vae``: the autoencoder, pixels to 8x8 latents of unit variance."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from soc_ft.world import scenes, web
from soc_ft.world.training.loop import LoopConfig, train

if TYPE_CHECKING:
    from diffusers import AutoencoderKL
    from omegaconf import DictConfig


def train_vae(config: DictConfig, output_dir: Path) -> None:
    """Train the autoencoder, measure its latents, write ``output_dir/vae``."""
    from diffusers import AutoencoderKL

    stage = config.vae
    torch.manual_seed(config.seed)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(stage.channels),
        up_block_types=("UpDecoderBlock2D",) * len(stage.channels),
        block_out_channels=tuple(stage.channels),
        layers_per_block=1,
        latent_channels=stage.latent_channels,
        norm_num_groups=stage.norm_groups,
        sample_size=scenes.RESOLUTION,
        mid_block_add_attention=False,
    ).to(memory_format=torch.channels_last)

    def step_loss(step: int) -> tuple[Tensor, dict[str, float]]:
        pictures = _training_batch(config, step)
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        posterior = vae.encode(pictures).latent_dist
        decoded = vae.decode(posterior.sample(generator)).sample
        error = (decoded - pictures).square().mean()
        loss = (
            error
            + stage.l1_weight * (decoded - pictures).abs().mean()
            + stage.edge_weight * _edge_error(decoded, pictures)
            + stage.kl_weight * posterior.kl().mean() / posterior.mean[0].numel()
        )
        return loss, {"psnr": float(-10.0 * torch.log10(error.detach() / 4.0))}

    train(vae, step_loss, LoopConfig(**stage.loop), output_dir / "vae.pt")
    vae.eval()
    vae.register_to_config(scaling_factor=measured_scaling(vae, config, stage.measure_on))
    vae.save_pretrained(output_dir / "vae")


def _training_batch(config: DictConfig, step: int) -> Tensor:
    """Crops first: they show more edges and colours for the same work; whole pictures later.

    The autoencoder is convolutional, so the two phases train the same function.
    """
    stage = config.vae
    if step >= stage.crops_until * stage.loop.steps:
        return picture_batch(config.web, stage.batch_size, (config.seed, 1, step))
    side, whole = stage.crop, scenes.RESOLUTION
    pictures = picture_batch(
        config.web, stage.batch_size * (whole // side) ** 2, (config.seed, 1, step)
    )
    corners = np.random.default_rng((config.seed, 6, step)).integers(
        0, whole - side + 1, (len(pictures), 2)
    )
    crops = [p[:, y : y + side, x : x + side] for p, (y, x) in zip(pictures, corners, strict=True)]
    return torch.stack(crops).contiguous(memory_format=torch.channels_last)


def picture_batch(mixture: DictConfig, count: int, seed: tuple[int, ...]) -> Tensor:
    """Pictures of the web in the autoencoder's range [-1, 1]."""
    images = web.sample(mixture, count, seed).images
    return images.mul_(2.0).sub_(1.0).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def measured_scaling(vae: AutoencoderKL, config: DictConfig, count: int) -> float:
    """Factor that gives the latents unit variance over ``count`` pictures."""
    posterior = vae.encode(picture_batch(config.web, count, (config.seed, 2))).latent_dist
    return float(1.0 / posterior.sample(torch.Generator().manual_seed(config.seed)).std())


@torch.no_grad()
def psnr(vae: AutoencoderKL, config: DictConfig, count: int) -> float:
    """Mean peak signal-to-noise ratio in dB of reconstructions of held-out pictures."""
    pictures = picture_batch(config.web, count, (config.seed, 3))
    decoded = vae.decode(vae.encode(pictures).latent_dist.mode()).sample.clamp(-1.0, 1.0)
    error = (decoded - pictures).square().mean(dim=(1, 2, 3)) / 4.0
    return float((-10.0 * torch.log10(error)).mean())


def _edge_error(decoded: Tensor, pictures: Tensor) -> Tensor:
    """L1 distance of the finite differences: keeps outlines sharp."""
    difference = decoded - pictures
    return F.l1_loss(difference[..., 1:], difference[..., :-1]) + F.l1_loss(
        difference[..., 1:, :], difference[..., :-1, :]
    )
