"""Loading Stable Diffusion 1.x and 2.x checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from soc_ft.errors import ConfigError
from soc_ft.instantiation import build
from soc_ft.models.distillation import Distilled
from soc_ft.models.finetune import FineTuning, Frozen
from soc_ft.models.pipelines import load_pipeline
from soc_ft.options import WithoutEffect, builds

if TYPE_CHECKING:
    from soc_ft.models.model import DiffusionModel


@builds("model")
def load_model(
    path: str,
    *,
    finetune: FineTuning,
    scheduler: Mapping[str, Any] | None = None,
    revision: str | None = None,
    variant: str | None = None,
    single_file_config: str | None = None,
    vae: str | None = None,
    text_encoder: str | None = None,
    guidance_scale: float = 1.0,
    distilled: Distilled | None = None,
    frozen_dtype: Literal["float32", "bfloat16"] = "float32",
    attention: WithoutEffect[Literal["auto", "plain"]] = "auto",
    network_checkpointing: WithoutEffect[bool] = False,
    decoder_checkpointing: WithoutEffect[bool] = False,
) -> DiffusionModel:
    """Load a checkpoint and prepare it for fine-tuning.

    Args:
        path: folder, file, hub id, "embedded:<name>" or "random:<architecture>", as in
            ``availability.locate``.
        finetune: which weights are trained.
        scheduler: changes of the checkpoint's scheduler, as in ``scheduler.adapt_scheduler``.
        revision: branch, tag or commit on the hub; None is its main branch.
        variant: of the weight files, such as "fp16".
        single_file_config: configuration of a single-file checkpoint, as in ``load_pipeline``.
        vae: folder in diffusers format with another autoencoder than that of ``path``.
        text_encoder: folder in diffusers format with another text encoder, likewise.
        guidance_scale: recommended for this checkpoint; kept beside the model, applied nowhere.
        distilled: None is a diffusion model, "few_step" one that was distilled to few steps of an
            ordinary sampler, "consistency" a consistency model. Decides which methods and samplers
            a configuration may have.
        frozen_dtype: of all weights that are not trained.
        attention: "auto" is PyTorch's fused attention; "plain" is two matrix products.
        network_checkpointing: recompute activations of the network in the backward pass.
        decoder_checkpointing: recompute those of the decoder.

    Raises:
        ConfigError: the weights are not there or are no Stable Diffusion, or an option is unknown.
    """
    if frozen_dtype not in ("float32", "bfloat16"):
        raise ConfigError(f"model.frozen_dtype={frozen_dtype}: choose float32 or bfloat16")
    if attention not in ("auto", "plain"):
        raise ConfigError(f"model.attention={attention}: choose auto or plain")
    import torch

    from soc_ft.models.model import DiffusionModel
    from soc_ft.models.scheduler import adapt_scheduler
    from soc_ft.models.stable_diffusion import StableDiffusion

    pipeline = load_pipeline(
        path,
        revision,
        variant,
        single_file_config=single_file_config,
        vae=vae,
        text_encoder=text_encoder,
        distilled=distilled,
    )
    return DiffusionModel(
        StableDiffusion(pipeline),
        finetune,
        adapt_scheduler(pipeline.scheduler.config, **(scheduler or {})),
        frozen_dtype=getattr(torch, frozen_dtype),
        attention=attention,
        network_checkpointing=network_checkpointing,
        decoder_checkpointing=decoder_checkpointing,
        guidance_scale=guidance_scale,
    )


def build_model(
    model: Mapping[str, Any],
    finetune: Mapping[str, Any] | None,
    noise_levels: Mapping[str, Any],
) -> DiffusionModel:
    """The model that a configuration describes.

    Args:
        model: settings of conf/model.
        finetune: settings of conf/finetune; None trains nothing.
        noise_levels: changes of the checkpoint's scheduler, as in ``scheduler.adapt_scheduler``.

    Raises:
        ConfigError: weights are missing or unfit.
    """
    mode = Frozen() if finetune is None else build(finetune, "finetune")
    loaded: DiffusionModel = build(model, "model", finetune=mode, scheduler=noise_levels)
    return loaded
