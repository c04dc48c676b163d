"""Loading Stable Diffusion 1.x and 2.x checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from soc_ft.errors import ConfigError
from soc_ft.instantiation import build
from soc_ft.models.availability import Source, locate
from soc_ft.models.finetune import FineTuning, Frozen
from soc_ft.options import builds

if TYPE_CHECKING:
    import torch
    from diffusers import StableDiffusionPipeline

    from soc_ft.models.model import DiffusionModel


_LEFT_OUT = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
"""Parts of a Stable Diffusion that neither fine-tuning nor sampling uses."""


@builds("model")
def load_model(
    path: str,
    *,
    finetune: FineTuning,
    scheduler: Mapping[str, Any] | None = None,
    revision: str | None = None,
    variant: str | None = None,
    single_file_config: str | None = None,
    guidance_scale: float = 1.0,
    frozen_dtype: Literal["float32", "bfloat16"] = "float32",
    attention: Literal["auto", "plain"] = "auto",
    gradient_checkpointing: bool = False,
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
        guidance_scale: recommended for this checkpoint; kept beside the model, applied nowhere.
        frozen_dtype: of all weights that are not trained.
        attention: "auto" is PyTorch's fused attention; "plain" is two matrix products.
        gradient_checkpointing: recompute activations in the backward pass.

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

    pipeline = load_pipeline(path, revision, variant, single_file_config=single_file_config)
    return DiffusionModel(
        StableDiffusion(pipeline),
        finetune,
        adapt_scheduler(pipeline.scheduler.config, **(scheduler or {})),
        frozen_dtype=getattr(torch, frozen_dtype),
        attention=attention,
        gradient_checkpointing=gradient_checkpointing,
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


def load_pipeline(
    path: str,
    revision: str | None = None,
    variant: str | None = None,
    *,
    single_file_config: str | None = None,
    dtype: torch.dtype | None = None,
) -> StableDiffusionPipeline:
    """Load a Stable Diffusion pipeline without its safety checker.

    Args:
        path: folder, file, hub id, "embedded:<name>" or "random:<architecture>", as in
            ``availability.locate``.
        revision: branch, tag or commit on the hub; None is its main branch.
        variant: of the weight files, such as "fp16".
        single_file_config: diffusers folder or hub id with the configuration of a single-file
            checkpoint (no weights needed); None lets diffusers tell it from the weights and fetch
            it from the hub.
        dtype: of the weights; None is float32.

    Raises:
        ConfigError: the weights are not there, cannot be read, or are not those of a text-to-image
            Stable Diffusion 1.x or 2.x.
    """
    import torch

    source = locate(path, revision, variant)
    dtype = dtype or torch.float32
    if source.kind == "random":
        from soc_ft.models.architectures import random_pipeline

        pipeline = random_pipeline(source.location)
        return pipeline if dtype == torch.float32 else pipeline.to(dtype)
    try:
        if source.kind == "file":
            pipeline = _from_file(source, single_file_config, dtype)
        else:
            pipeline = _from_folder_or_hub(source, revision, variant, dtype)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        hint = ""
        if source.kind == "file" and single_file_config is None:
            hint = "; set model.single_file_config to a diffusers folder of the same architecture"
        said = " ".join(str(error).split())
        raise ConfigError(f"model.path={path}: cannot be loaded{hint} ({said})") from error
    _require_text_to_image(path, pipeline)
    return pipeline


def download(path: str, revision: str | None = None, variant: str | None = None) -> None:
    """Download a pipeline from the hub into its cache; arguments as of :func:`load_pipeline`.

    Raises:
        ConfigError: the download fails.
    """
    from diffusers import StableDiffusionPipeline

    try:
        StableDiffusionPipeline.download(path, revision=revision, variant=variant, **_LEFT_OUT)
    except (OSError, ValueError) as error:
        said = " ".join(str(error).split())
        raise ConfigError(f"model.path={path}: cannot be downloaded ({said})") from error


def _from_file(source: Source, config: str | None, dtype: torch.dtype) -> StableDiffusionPipeline:
    from diffusers import StableDiffusionPipeline
    from huggingface_hub import constants

    return StableDiffusionPipeline.from_single_file(
        source.location,
        config=config,
        dtype=dtype,
        local_files_only=constants.HF_HUB_OFFLINE,
        **_LEFT_OUT,
    )


def _from_folder_or_hub(
    source: Source, revision: str | None, variant: str | None, dtype: torch.dtype
) -> StableDiffusionPipeline:
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline.from_pretrained(
        source.location,
        revision=revision,
        variant=variant,
        dtype=dtype,
        local_files_only=source.kind == "folder",
        **_LEFT_OUT,
    )


def _require_text_to_image(path: str, pipeline: StableDiffusionPipeline) -> None:
    """Refuse UNets that need more than latents, timestep and text (inpainting, depth, XL)."""
    unet, channels = pipeline.unet.config, pipeline.vae.config.latent_channels
    if unet.in_channels != channels or unet.addition_embed_type or unet.class_embed_type:
        raise ConfigError(
            f"model.path={path}: its UNet takes inputs beyond {channels} latent channels, timestep "
            "and text; only text-to-image Stable Diffusion 1.x and 2.x can be fine-tuned"
        )
