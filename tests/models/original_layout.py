"""The names of weights in the original Stable Diffusion code, for single-file checkpoints."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from diffusers import StableDiffusionPipeline

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}

VAE = {
    "mid_block.resnets.0": "mid.block_1",
    "mid_block.resnets.1": "mid.block_2",
    "mid_block.attentions.0": "mid.attn_1",
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
    "conv_norm_out": "norm_out",
    "conv_shortcut": "nin_shortcut",
}


def original_layout(pipeline: StableDiffusionPipeline) -> dict[str, torch.Tensor]:
    """The weights of a pipeline under the names of the original Stable Diffusion code."""
    unet, vae, text = pipeline.unet, pipeline.vae, pipeline.text_encoder
    unet_names = _unet_names(len(unet.config.block_out_channels), unet.config.layers_per_block)
    vae_names = _vae_names(len(vae.config.block_out_channels), vae.config.layers_per_block)
    state = {}
    for name, tensor in unet.state_dict().items():
        inner = _renamed(name, RESNET) if ".resnets." in name else name
        state[f"model.diffusion_model.{_renamed(inner, unet_names)}"] = tensor
    for name, tensor in vae.state_dict().items():
        # The original decoder's attention is made of 1x1 convolutions.
        linear = "attentions" in name and tensor.ndim == 2
        tensor = tensor[:, :, None, None] if linear else tensor
        state[f"first_stage_model.{_renamed(name, vae_names)}"] = tensor
    for name, tensor in text.state_dict().items():
        state[f"cond_stage_model.transformer.text_model.{name}"] = tensor
    return {name: tensor.clone() for name, tensor in state.items()}


def _unet_names(levels: int, layers: int) -> dict[str, str]:
    """Diffusers' names of a UNet's blocks, and those of the original, where blocks are numbered."""
    names = {
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "conv_in": "input_blocks.0.0",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
        "mid_block.resnets.0": "middle_block.0",
        "mid_block.attentions.0": "middle_block.1",
        "mid_block.resnets.1": "middle_block.2",
    }
    for level in range(levels):
        first = 1 + level * (layers + 1)
        for layer in range(layers):
            names[f"down_blocks.{level}.resnets.{layer}"] = f"input_blocks.{first + layer}.0"
            names[f"down_blocks.{level}.attentions.{layer}"] = f"input_blocks.{first + layer}.1"
        names[f"down_blocks.{level}.downsamplers.0.conv"] = f"input_blocks.{first + layers}.0.op"
        first = level * (layers + 1)
        for layer in range(layers + 1):
            names[f"up_blocks.{level}.resnets.{layer}"] = f"output_blocks.{first + layer}.0"
            names[f"up_blocks.{level}.attentions.{layer}"] = f"output_blocks.{first + layer}.1"
        # The lowest level of Stable Diffusion has no attention, which moves its upsampler up.
        place = 1 if level == 0 else 2
        names[f"up_blocks.{level}.upsamplers.0"] = f"output_blocks.{first + layers}.{place}"
    return names


def _vae_names(levels: int, layers: int) -> dict[str, str]:
    """The same of a VAE, whose decoder counts its levels from the top in the original."""
    names = {}
    for level in range(levels):
        top = levels - 1 - level
        for layer in range(layers):
            names[f"down_blocks.{level}.resnets.{layer}"] = f"down.{level}.block.{layer}"
        for layer in range(layers + 1):
            names[f"up_blocks.{level}.resnets.{layer}"] = f"up.{top}.block.{layer}"
        names[f"down_blocks.{level}.downsamplers.0"] = f"down.{level}.downsample"
        names[f"up_blocks.{level}.upsamplers.0"] = f"up.{top}.upsample"
    return names | VAE


def _renamed(name: str, names: Mapping[str, str]) -> str:
    for new, old in names.items():
        name = name.replace(new, old)
    return name
