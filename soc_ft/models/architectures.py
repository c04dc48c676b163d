"""Stable Diffusion pipelines with random weights: exact sizes, no download."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from soc_ft.errors import ConfigError


@dataclass(frozen=True)
class Architecture:
    """Configurations of a Stable Diffusion's parts, as far as they differ from the defaults.

    Attributes:
        unet: of ``UNet2DConditionModel``.
        vae: of ``AutoencoderKL``.
        text_encoder: of ``CLIPTextConfig``.
        scheduler: of ``DDIMScheduler``, beyond Stable Diffusion's common noise schedule.
    """

    unet: Mapping[str, Any]
    vae: Mapping[str, Any]
    text_encoder: Mapping[str, Any]
    scheduler: Mapping[str, Any] = field(default_factory=dict)


_SD_VAE = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
}

ARCHITECTURES: dict[str, Architecture] = {
    "sd15": Architecture(
        unet={"sample_size": 64, "cross_attention_dim": 768},
        vae={**_SD_VAE, "sample_size": 512},
        text_encoder={
            "vocab_size": 49408,
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "hidden_act": "quick_gelu",
        },
    ),
    "sd21": Architecture(
        unet={
            "sample_size": 96,
            "cross_attention_dim": 1024,
            "attention_head_dim": (5, 10, 20, 20),
            "use_linear_projection": True,
            "upcast_attention": True,
        },
        vae={**_SD_VAE, "sample_size": 768},
        text_encoder={
            "vocab_size": 49408,
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 23,
            "num_attention_heads": 16,
            "hidden_act": "gelu",
        },
        scheduler={"prediction_type": "v_prediction"},
    ),
    "sd15_narrow": Architecture(
        unet={
            "sample_size": 8,
            "cross_attention_dim": 32,
            "block_out_channels": (32, 64, 128, 128),
        },
        vae={**_SD_VAE, "block_out_channels": (32, 32, 64, 64), "sample_size": 64},
        text_encoder={
            "vocab_size": 514,
            "hidden_size": 32,
            "intermediate_size": 128,
            "num_hidden_layers": 12,
            "num_attention_heads": 4,
            "hidden_act": "quick_gelu",
        },
    ),
    "tiny": Architecture(
        unet={
            "sample_size": 8,
            "cross_attention_dim": 32,
            "attention_head_dim": 4,
            "block_out_channels": (32, 32),
            "layers_per_block": 1,
            "norm_num_groups": 8,
            "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "UpBlock2D"),
        },
        vae={
            "down_block_types": ("DownEncoderBlock2D",) * 2,
            "up_block_types": ("UpDecoderBlock2D",) * 2,
            "block_out_channels": (16, 32),
            "latent_channels": 4,
            "norm_num_groups": 8,
            "sample_size": 16,
        },
        text_encoder={
            "vocab_size": 514,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
        },
    ),
}


def random_pipeline(
    architecture: str | Architecture, device: str | torch.device = "cpu", seed: int = 0
) -> StableDiffusionPipeline:
    """A pipeline with random float32 weights, without safety checker.

    Args:
        architecture: a key of ``ARCHITECTURES`` ("sd15" and "sd21" have the exact configuration of
            Stable Diffusion 1.5 and 2.1, "sd15_narrow" is 1.5 with fewer channels, "tiny" is for
            tests), or an ``Architecture``.
        device: where the weights are made; "meta" makes none.
        seed: of the weights; the global generators are left as they were.

    Raises:
        ConfigError: unknown architecture.
    """
    if isinstance(architecture, str):
        if architecture not in ARCHITECTURES:
            known = ", ".join(ARCHITECTURES)
            raise ConfigError(f"model.path=random:{architecture}: unknown, choose from {known}")
        architecture = ARCHITECTURES[architecture]
    device = torch.device(device)
    tokenizer = byte_tokenizer()
    text_config = CLIPTextConfig(
        **architecture.text_encoder,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), device:
        torch.manual_seed(seed)
        unet = UNet2DConditionModel(**architecture.unet)
        vae = AutoencoderKL(**architecture.vae)
        text_encoder = CLIPTextModel(text_config)
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(
            **{
                "beta_start": 0.00085,
                "beta_end": 0.012,
                "beta_schedule": "scaled_linear",
                "clip_sample": False,
                "set_alpha_to_one": False,
                "steps_offset": 1,
                **architecture.scheduler,
            }
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def byte_tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer of 514 tokens (bytes, bytes that end a word, start, end), 77 per text."""
    characters = sorted(ByteLevel.alphabet())
    tokens = characters + [f"{character}</w>" for character in characters]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)
