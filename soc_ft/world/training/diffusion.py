"""Stage ``diffusion``: the denoiser with its text encoder, and the assembled pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from tqdm import tqdm

from soc_ft.errors import RunError
from soc_ft.world import scenes, web
from soc_ft.world.training.loop import LoopConfig, atomic_save, train
from soc_ft.world.training.text import text_config, tokenizer_of

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from omegaconf import DictConfig
    from transformers import CLIPTextModel


class Denoiser(nn.Module):
    """The denoiser and the text encoder, which are trained together."""

    def __init__(self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> None:
        """Put the two together.

        Args:
            unet: the denoiser.
            text_encoder: whose states, (B, L, D), it attends to.
        """
        super().__init__()
        self.unet, self.text_encoder = unet, text_encoder

    def forward(self, latents: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        """Predicted noise for noisy ``latents``."""
        states = self.text_encoder(tokens).last_hidden_state
        return self.unet(latents, timesteps, states).sample


def train_diffusion(config: DictConfig, output_dir: Path) -> None:
    """Train the denoiser on latents of captioned pictures, write ``output_dir/pipeline``."""
    from diffusers import AutoencoderKL

    if not (output_dir / "vae").exists():
        raise RunError(f"no autoencoder in {output_dir / 'vae'}: run stage=vae first")
    stage = config.diffusion
    vae = AutoencoderKL.from_pretrained(output_dir / "vae").eval()
    data = latent_dataset(config, vae, output_dir / "latents.pt")
    scheduler = noise_scheduler(config)
    weights = loss_weights(scheduler, *stage.snr_range)
    denoiser = build_denoiser(config, output_dir)

    def step_loss(step: int) -> tuple[Tensor, dict[str, float]]:
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        rows = torch.randint(len(data["mean"]), (stage.batch_size,), generator=generator)
        mean, std = data["mean"][rows].float(), data["std"][rows].float()
        clean = (mean + std * normal(mean, generator)) * vae.config.scaling_factor
        tokens = data["tokens"][rows].long()
        dropped = torch.rand(len(rows), generator=generator) < stage.caption_dropout
        tokens = torch.where(dropped[:, None], data["empty"].long(), tokens)
        timesteps = torch.randint(len(weights), (len(rows),), generator=generator)
        noise = normal(clean, generator)
        noisy = scheduler.add_noise(clean, noise, timesteps)
        error = (denoiser(noisy, timesteps, tokens) - noise).square().mean(dim=(1, 2, 3))
        loss = (weights[timesteps] * error).mean()
        return loss, {"mse": float(error.detach().mean()), "loss": float(loss.detach())}

    train(denoiser, step_loss, LoopConfig(**stage.loop), output_dir / "diffusion.pt")
    save_pipeline(config, denoiser, vae, output_dir)


def build_denoiser(config: DictConfig, output_dir: Path) -> Denoiser:
    """The untrained denoiser and text encoder."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModel

    stage = config.diffusion
    torch.manual_seed(config.seed)
    levels = len(stage.channels)
    unet = UNet2DConditionModel(
        sample_size=scenes.RESOLUTION // 2 ** (len(config.vae.channels) - 1),
        in_channels=config.vae.latent_channels,
        out_channels=config.vae.latent_channels,
        block_out_channels=tuple(stage.channels),
        layers_per_block=stage.layers_per_block,
        down_block_types=("CrossAttnDownBlock2D",) * levels,
        up_block_types=("CrossAttnUpBlock2D",) * levels,
        cross_attention_dim=config.text.hidden,
        attention_head_dim=stage.heads,
        norm_num_groups=stage.norm_groups,
    )
    text_encoder = CLIPTextModel(text_config(config, tokenizer_of(config, output_dir)))
    return Denoiser(unet, text_encoder)


def noise_scheduler(config: DictConfig) -> DDIMScheduler:
    """The schedule of Stable Diffusion's own pretraining."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(**config.diffusion.scheduler)


def save_pipeline(
    config: DictConfig, denoiser: Denoiser, vae: AutoencoderKL, output_dir: Path
) -> None:
    """Write ``output_dir/pipeline``, float16, in Stable Diffusion's folder layout."""
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=denoiser.text_encoder,
        tokenizer=tokenizer_of(config, output_dir),
        unet=denoiser.unet,
        scheduler=noise_scheduler(config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    vae.register_to_config(_name_or_path="")  # diffusers writes where it was read from
    folder = output_dir / "pipeline"
    pipeline.to(dtype=torch.float16).save_pretrained(folder, safe_serialization=True)
    copy_vocabulary(output_dir, folder)
    pipeline.to(dtype=torch.float32)


def copy_vocabulary(output_dir: Path, folder: Path) -> None:
    """Put the files that older tokenizers read beside those of a pipeline."""
    for name in ("vocab.json", "merges.txt"):
        (folder / "tokenizer" / name).write_bytes((output_dir / "tokenizer" / name).read_bytes())


def normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal noise in the shape of ``like``."""
    return torch.randn(like.shape, generator=generator)


def loss_weights(scheduler: DDIMScheduler, least: float, most: float) -> Tensor:
    """Loss weight of each timestep: errors of the clean latents count clamp(SNR, least, most).

    The upper bound is min-SNR weighting (Hang et al. 2023, eq. 3). The lower one keeps the
    noisiest steps in the loss: where the shape will stand is decided there.
    """
    signal = scheduler.alphas_cumprod
    snr = signal / (1.0 - signal)
    return snr.clamp(least, most) / snr


@torch.no_grad()
def latent_dataset(config: DictConfig, vae: AutoencoderKL, path: Path) -> dict[str, Tensor]:
    """Posterior means and deviations with caption tokens, encoded once and kept in ``path``."""
    if path.exists():
        return torch.load(path, weights_only=True)
    tokenizer = tokenizer_of(config, path.parent)
    stage = config.diffusion
    vae.to(memory_format=torch.channels_last)
    chunks: dict[str, list[Tensor]] = {"mean": [], "std": [], "tokens": []}
    for chunk in tqdm(range(stage.pictures // stage.encode_batch), desc=path.stem):
        drawn = web.sample(config.web, stage.encode_batch, (config.seed, 7, chunk))
        posterior = vae.encode(drawn.images * 2 - 1)
        chunks["mean"].append(posterior.latent_dist.mean.half())
        chunks["std"].append(posterior.latent_dist.std.half())
        chunks["tokens"].append(_tokens(tokenizer, drawn.captions))
    data = {name: torch.cat(parts) for name, parts in chunks.items()}
    data["empty"] = _tokens(tokenizer, [""])
    atomic_save(data, path)
    return data


def _tokens(tokenizer: object, captions: list[str]) -> Tensor:
    padded = tokenizer(  # type: ignore[operator]
        captions, padding="max_length", truncation=True, return_tensors="pt"
    )
    return padded.input_ids.short()
