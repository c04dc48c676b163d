"""Sizes of the Stable Diffusion models that can be made with random weights, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Architecture:
    """Configurations of a Stable Diffusion's parts, as far as they differ from the defaults.

    Attributes:
        unet: of ``UNet2DConditionModel``.
        vae: of ``AutoencoderKL``.
        text_encoder: of ``CLIPTextConfig``.
        scheduler: of the scheduler, beyond Stable Diffusion's common noise schedule.
        scheduler_class: its name in diffusers.
    """

    unet: Mapping[str, Any]
    vae: Mapping[str, Any]
    text_encoder: Mapping[str, Any]
    scheduler: Mapping[str, Any] = field(default_factory=dict)
    scheduler_class: str = "DDIMScheduler"


_SD_VAE = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
}

_SD15 = Architecture(
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
)

ARCHITECTURES: dict[str, Architecture] = {
    "sd15": _SD15,
    "lcm": replace(
        _SD15,
        unet={**_SD15.unet, "time_cond_proj_dim": 256},
        scheduler_class="LCMScheduler",
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
