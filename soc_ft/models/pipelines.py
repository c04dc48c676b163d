"""Pipelines of diffusers from folders, single files and the hub, whole or refused."""

from __future__ import annotations

import json
import logging
import warnings
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soc_ft.errors import ConfigError
from soc_ft.files import code_in, first_words, unreadable
from soc_ft.integrity import PICKLED_SUFFIXES
from soc_ft.models.availability import (
    GIVEN_PARTS,
    PARTS,
    Source,
    check_files,
    locate,
    variant_in,
    weight_files,
)
from soc_ft.models.bars import no_bars
from soc_ft.models.completeness import check_single_file
from soc_ft.models.distillation import Distilled
from soc_ft.models.noise_schedule import check_scheduler_class

if TYPE_CHECKING:
    import torch
    from diffusers import StableDiffusionPipeline

_LEFT_OUT = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
"""Parts of a Stable Diffusion that neither fine-tuning nor sampling uses."""

_CONVERSION = (
    "use the .safetensors file of the same model, or convert it where code in it can do no harm (a "
    "container without network and without your files): read it there, and save its tensors with "
    "safetensors.torch.save_file"
)

_log = logging.getLogger(__name__)


def load_pipeline(
    path: str,
    revision: str | None = None,
    variant: str | None = None,
    *,
    single_file_config: str | None = None,
    vae: str | None = None,
    text_encoder: str | None = None,
    distilled: Distilled | None = None,
    dtype: torch.dtype | None = None,
) -> StableDiffusionPipeline:
    """Load a Stable Diffusion pipeline without its safety checker.

    Args:
        path: folder, file, hub id, "embedded:<name>" or "random:<architecture>", as in
            ``availability.locate``.
        revision: branch, tag or commit on the hub; None is its main branch.
        variant: of the weight files, such as "fp16"; parts without it use their plain weights.
        single_file_config: diffusers folder or hub id with the configuration of a single-file
            checkpoint (no weights needed); None lets diffusers tell it from the weights and fetch
            it from the hub.
        vae: folder in diffusers format with another autoencoder.
        text_encoder: folder in diffusers format with another text encoder.
        distilled: what the model is said to be, as in ``loading.load_model``.
        dtype: of the weights; None is float32.

    Raises:
        ConfigError: the weights are not there, cannot be read, are incomplete, or are not those of
            a text-to-image Stable Diffusion 1.x or 2.x.
    """
    import torch

    source = locate(path, revision, variant)
    dtype = dtype or torch.float32
    given = {
        "path": path,
        "variant": variant,
        "vae": vae,
        "text_encoder": text_encoder,
        "distilled": distilled,
    }
    if source.kind == "hub":
        download(path, revision, variant)
        source = locate(path, revision, variant)
    check_files(source, given)
    held = None
    if source.kind == "file":
        held = _check_readable(Path(source.location), f"model.path={path}")
    try:
        with no_bars():
            others = {
                part: _part(part, Path(given[part] or ""), None, dtype)
                for part in GIVEN_PARTS
                if given[part]
            }
            if source.kind == "random":
                from soc_ft.models.random_weights import random_pipeline

                pipeline = random_pipeline(source.location)
                pipeline.register_modules(**others)
            elif source.kind == "file":
                if held is not None:  # of others the header was read
                    check_single_file(held, others)
                pipeline = _from_file(source, single_file_config, others)
            else:
                pipeline = _from_folder(Path(source.location), variant, others, dtype)
    except ConfigError as error:
        raise ConfigError(f"model.path={path}: {error}") from None
    except Exception as error:  # of four libraries, a dozen unrelated types
        if "meta tensor" in str(error):  # what diffusers says of a single file
            raise ConfigError(
                f"model.path={path}: lacks weights of its UNet or autoencoder, or has another "
                "architecture than its configuration; get the model anew"
            ) from None
        hint = "its files do not fit each other or are damaged; get the model anew"
        if source.kind == "file" and single_file_config is None:
            hint = "set model.single_file_config to a diffusers folder of the same architecture"
        raise ConfigError(
            f"model.path={path}: cannot be loaded ({first_words(error)}); {hint}"
        ) from error
    _require_whole(path, pipeline)
    for part in PARTS:
        for parameter in getattr(pipeline, part).parameters():
            parameter.data = parameter.data.to(dtype)
    _require_text_to_image(path, pipeline)
    check_scheduler_class(type(pipeline.scheduler).__name__, distilled)
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
        raise ConfigError(
            f"model.path={path}: cannot be downloaded ({first_words(error)})"
        ) from error


def _check_readable(file: Path, named: str) -> Collection[str] | None:
    """Check that a file of PyTorch, which may hold any Python objects, holds tensors alone.

    Args:
        file: others, such as .safetensors, are not looked at.
        named: how messages call it.

    Returns:
        The names of its tensors; None for a file that is not looked at.

    Raises:
        ConfigError: it holds more, or is damaged.
    """
    import torch

    if file.suffix not in PICKLED_SUFFIXES:
        return None
    mapped = zipfile.is_zipfile(file)  # then nothing but the names is read
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of how the file was written
            content = torch.load(file, map_location="meta", weights_only=True, mmap=mapped)
    except Exception as error:  # torch, pickle and zipfile raise a dozen unrelated types
        remedy = _CONVERSION if code_in(error) else "get it anew"
        raise ConfigError(f"{named}: is refused, {unreadable(error)}; {remedy}") from None
    weights = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(weights, dict):
        raise ConfigError(f"{named}: holds a {type(weights).__name__} and no weights by name")
    return weights.keys()


def _from_file(
    source: Source, config: str | None, parts: Mapping[str, Any]
) -> StableDiffusionPipeline:
    from diffusers import StableDiffusionPipeline
    from huggingface_hub import constants

    return StableDiffusionPipeline.from_single_file(
        source.location,
        config=config,
        local_files_only=constants.HF_HUB_OFFLINE,
        **parts,
        **_LEFT_OUT,
    )


def _from_folder(
    folder: Path, variant: str | None, parts: Mapping[str, Any], dtype: torch.dtype
) -> StableDiffusionPipeline:
    from diffusers import StableDiffusionPipeline

    own = {part: _part(part, folder / part, variant, dtype) for part in PARTS if part not in parts}
    _warn_of_ignored_keys(folder / "scheduler" / "scheduler_config.json")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # says the same in twenty lines
        return StableDiffusionPipeline.from_pretrained(
            folder, dtype=dtype, local_files_only=True, **own, **parts, **_LEFT_OUT
        )


def _part(part: str, folder: Path, variant: str | None, dtype: torch.dtype) -> Any:
    """A part from its folder.

    Raises:
        ConfigError: weights of it are missing, damaged, or of another architecture.
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

    classes: dict[str, Any] = {
        "unet": UNet2DConditionModel,
        "vae": AutoencoderKL,
        "text_encoder": CLIPTextModel,
    }
    files = weight_files(folder, variant)
    for file in files:
        _check_readable(file, str(file))
    loaded, found = classes[part].from_pretrained(
        folder,
        variant=variant_in(folder, variant),
        use_safetensors=files[0].suffix == ".safetensors" if files else None,
        dtype=dtype,
        local_files_only=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
    )
    if missing := sorted(found["missing_keys"]):
        raise _incomplete(str(folder), missing)
    if misshapen := sorted(found["mismatched_keys"]):
        name, *shapes = misshapen[0]
        has, wants = (tuple(shape) for shape in shapes)
        raise ConfigError(
            f"{folder}: {len(misshapen)} weights are of another architecture than config.json says "
            f"({name} is {has} instead of {wants}); get the model anew"
        )
    return loaded


def _warn_of_ignored_keys(scheduler: Path) -> None:
    config = json.loads(scheduler.read_text())
    for key in ("clip_sample", "thresholding"):
        if config.get(key):
            _log.warning(
                "%s: %s=true is switched off; latents have no range to clip to", scheduler, key
            )


def _incomplete(where: str, missing: list[str]) -> ConfigError:
    return ConfigError(
        f"{where}: lacks {len(missing)} weights ({', '.join(missing[:3])}"
        f"{', ...' if len(missing) > 3 else ''}); get the model anew"
    )


def _require_whole(path: str, pipeline: StableDiffusionPipeline) -> None:
    """Refuse what a single file left without weights."""
    for part in PARTS:
        tensors = getattr(pipeline, part).state_dict().items()
        if missing := [name for name, tensor in tensors if tensor.is_meta]:
            raise _incomplete(f"model.path={path}, {part}", missing)


def _require_text_to_image(path: str, pipeline: StableDiffusionPipeline) -> None:
    """Refuse UNets that need more than latents, timestep and text (inpainting, depth, XL)."""
    unet, channels = pipeline.unet.config, pipeline.vae.config.latent_channels
    if unet.in_channels != channels or unet.addition_embed_type or unet.class_embed_type:
        raise ConfigError(
            f"model.path={path}: its UNet takes inputs beyond {channels} latent channels, timestep "
            "and text; only text-to-image Stable Diffusion 1.x and 2.x can be fine-tuned"
        )
