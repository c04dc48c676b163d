"""Writing a fine-tuned model in the formats of diffusers."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Literal

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from peft.utils import get_peft_model_state_dict

from soc_ft.errors import ConfigError
from soc_ft.models.model import DiffusionModel
from soc_ft.models.networks import AdaptedNetwork

Format = Literal["auto", "folder", "lora"]


def export_pipeline(model: DiffusionModel, folder: str | Path, format: Format = "auto") -> None:
    """Write the fine-tuned model for diffusers.

    "folder" is a diffusers folder with the fine-tuned UNet (LoRA weights merged into it), which
    ``StableDiffusionPipeline.from_pretrained`` loads. Its scheduler is written as a plain
    ``DDIMScheduler``, whose last step ends at alpha_bar_0 (or 1) instead of
    (1 + alpha_bar_{K-1}) / 2; with ``SOCDDIMScheduler.from_config(pipeline.scheduler.config)`` in
    its place the pipeline samples the same pictures as the model.

    "lora" is ``pytorch_lora_weights.safetensors``, which ``load_lora_weights(folder)`` adds to a
    pipeline of the base model.

    Args:
        model: to be written; left as it is.
        folder: made if it is not there.
        format: "auto" is "lora" for a model with LoRA weights, "folder" otherwise.

    Raises:
        ConfigError: the model cannot be written in this format. A model of the offset mode is a sum
            of two UNets and has neither.
    """
    adapted = isinstance(model.networks, AdaptedNetwork)
    if model.networks.additive:
        raise ConfigError(
            "finetune=offset: the fine-tuned model is the sum of two UNets, which diffusers cannot "
            "load; keep its trainable weights (DiffusionModel.trainable_state, as safetensors), or "
            "train with finetune=full or finetune=lora"
        )
    if format == "lora" and not adapted:
        raise ConfigError("export format lora: the model has no LoRA weights, use format folder")
    if adapted and format != "folder":
        _save_lora(model.networks.trained, folder)
    else:
        _save_folder(model, folder)


def _save_folder(model: DiffusionModel, folder: str | Path) -> None:
    unet = model.networks.trained
    if isinstance(model.networks, AdaptedNetwork):
        unet = _merged(unet)
    pipeline = StableDiffusionPipeline(
        vae=model.vae,
        text_encoder=model.text_encoder,
        tokenizer=model.tokenizer,
        unet=unet,
        scheduler=DDIMScheduler.from_config(model.scheduler.config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    # safetensors holds contiguous tensors only; the model computes in another layout.
    for part in (pipeline.unet, pipeline.vae):
        part.to(memory_format=torch.contiguous_format)
    pipeline.save_pretrained(folder)
    for part in (pipeline.unet, pipeline.vae):
        part.to(memory_format=torch.channels_last)
    # Stable Diffusion's layout has these two as well, which older readers need.
    model.tokenizer.backend_tokenizer.model.save(str(Path(folder) / "tokenizer"))


def _merged(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """A copy of ``unet`` with its LoRA weights merged in, in float32."""
    merged = copy.deepcopy(unet).float()
    merged.fuse_lora()
    merged.unload_lora()
    return merged


def _save_lora(unet: UNet2DConditionModel, folder: str | Path) -> None:
    StableDiffusionPipeline.save_lora_weights(
        folder,
        unet_lora_layers=get_peft_model_state_dict(unet),
        unet_lora_adapter_metadata=unet.peft_config["default"].to_dict(),
    )
