"""Writing a fine-tuned model in the formats of diffusers."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Literal

from torch import nn

from soc_ft.errors import ConfigError
from soc_ft.models.model import DiffusionModel
from soc_ft.models.networks import TRAINED, AdaptedNetwork

Format = Literal["auto", "folder", "lora"]


def export_pipeline(model: DiffusionModel, folder: str | Path, format: Format = "auto") -> None:
    """Write the fine-tuned model for diffusers.

    "folder" is a diffusers folder with the fine-tuned network (LoRA weights merged into it), which
    ``StableDiffusionPipeline.from_pretrained`` loads. Its scheduler is written as a plain
    ``DDIMScheduler``, whose last step ends at alpha_bar_0 (or 1) instead of
    (1 + alpha_bar_{K-1}) / 2; with ``SOCDDIMScheduler.from_config(pipeline.scheduler.config)`` in
    its place the pipeline samples the same pictures as the model. That of a consistency model is
    an ``LCMScheduler``, which samples the same pictures as it is.

    "lora" is ``pytorch_lora_weights.safetensors``, which ``load_lora_weights(folder)`` adds to a
    pipeline of the base model.

    Args:
        model: to be written; left as it is.
        folder: made if it is not there.
        format: "auto" is "lora" for a model with LoRA weights, "folder" otherwise.

    Raises:
        ConfigError: the model cannot be written in this format. A model of the offset mode is a sum
            of two networks and has neither.
    """
    adapted, trained = isinstance(model.networks, AdaptedNetwork), model.networks.trained
    if model.networks.additive:
        raise ConfigError(
            "finetune=offset: the fine-tuned model is the sum of two networks, which diffusers "
            "cannot load; keep its trainable weights (DiffusionModel.trainable_state, as "
            "safetensors), or train with finetune=full or finetune=lora"
        )
    if format == "lora" and not adapted:
        raise ConfigError("export format lora: the model has no LoRA weights, use format folder")
    if adapted and format != "folder":
        model.family.save_lora(trained, Path(folder))
        return
    network = _merged(trained) if adapted else trained
    model.family.save_folder(network, model.scheduler.plain(), Path(folder))


def _merged(network: nn.Module) -> nn.Module:
    """A copy of ``network`` with its trained LoRA weights merged in, in float32."""
    merged: Any = copy.deepcopy(network).float()
    merged.fuse_lora(adapter_names=[TRAINED])
    merged.unload_lora()
    return merged
