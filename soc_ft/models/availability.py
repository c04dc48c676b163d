"""Where a model's weights are, answered without importing torch or diffusers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from soc_ft.errors import ConfigError, MissingFile, MissingWeights
from soc_ft.files import PACKAGE
from soc_ft.hub import is_hub_id, obstacle
from soc_ft.integrity import check_whole, tensor_names
from soc_ft.models.architectures import ARCHITECTURES
from soc_ft.models.completeness import check_folder, check_part, check_single_file, read_json
from soc_ft.models.distillation import check_sampler
from soc_ft.models.noise_schedule import check_schedule, check_scheduler_class

SINGLE_FILE_SUFFIXES = (".safetensors", ".ckpt")
WEIGHT_SUFFIXES = (".safetensors", ".bin")
"""Of the weight files in a diffusers folder; what comes first is preferred."""
WEIGHT_NAMES = ("diffusion_pytorch_model", "model", "pytorch_model")
"""How the names of the weight files of a part begin, of which optimizers and others differ."""
PIPELINES = ("StableDiffusionPipeline", "LatentConsistencyModelPipeline")
"""Classes whose parts are those of a Stable Diffusion 1.x and 2.x."""
PARTS = ("unet", "vae", "text_encoder")
GIVEN_PARTS = ("vae", "text_encoder")
"""What may be taken from elsewhere."""

_SHARD = re.compile(r"-\d+-of-(\d+)\.")


@dataclass(frozen=True)
class Source:
    """What a ``model.path`` stands for.

    Attributes:
        kind: "folder" (diffusers format), "file" (single-file checkpoint), "hub" (to be
            downloaded) or "random" (an architecture with random weights).
        location: folder, file, hub id or name of the architecture.
    """

    kind: Literal["folder", "file", "hub", "random"]
    location: str


def check_available(
    settings: Mapping[str, Any],
    noise_levels: Mapping[str, Any] | None = None,
    num_steps: int | None = None,
    eta: float | None = None,
) -> None:
    """Check, within seconds, that a model can be had whole and sampled with a schedule.

    Args:
        settings: of conf/model.
        noise_levels: what is changed of the checkpoint's scheduler; None leaves sampling out.
        num_steps: of sampling; None leaves it out.
        eta: noise level of sampling; None leaves it out.

    Raises:
        ConfigError: as ``locate``; or the files of the model do not fit each other, or have no such
            schedule, or the model is not sampled like that.
    """
    if noise_levels is not None:
        check_sampler(settings.get("distilled"), noise_levels, num_steps, eta)
    source = locate(settings.get("path"), settings.get("revision"), settings.get("variant"))
    check_files(source, settings)
    config: Mapping[str, Any] = {}
    if source.kind == "folder":
        config = read_json(Path(source.location) / "scheduler" / "scheduler_config.json")
    if source.kind in ("folder", "random"):  # of others nothing is known yet
        check_schedule(config, noise_levels or {}, num_steps)


def check_files(source: Source, settings: Mapping[str, Any]) -> None:
    """Check that the files of a source, and of parts from elsewhere, are complete, whole and fit.

    Args:
        source: from ``locate``.
        settings: of conf/model.

    Raises:
        ConfigError: says which file, and what to do.
    """
    location, key = Path(source.location), f"model.path={settings.get('path')}"
    given = {part: Path(settings[part]) for part in GIVEN_PARTS if settings.get(part)}
    try:
        if source.kind == "folder":
            check_folder(location, settings.get("distilled"))
            for part in PARTS:
                if part not in given:
                    _check_weights(location / part, settings.get("variant"))
        elif source.kind == "file":
            check_whole(location)
            if location.suffix == ".safetensors":
                check_single_file(tensor_names(location), given)
        elif source.kind == "random":
            architecture = ARCHITECTURES[source.location]
            check_scheduler_class(architecture.scheduler_class, settings.get("distilled"))
        for part, folder in given.items():
            key = f"model.{part}={folder}"
            check_part(folder, part)
            if not _variants(folder):
                raise ConfigError(f"{folder} has no weights")
            _check_weights(folder)
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from None


def locate(path: str | None, revision: str | None = None, variant: str | None = None) -> Source:
    """Find the weights of a model.

    Args:
        path: a diffusers folder, a .safetensors or .ckpt file, an id on the Hugging Face hub,
            "embedded:<name>" for a model that the package ships, or "random:<architecture>".
        revision: branch, tag or commit on the hub; None is its main branch.
        variant: of the weight files, such as "fp16".

    Returns:
        The source. A hub id whose files are in the cache becomes the cached folder.

    Raises:
        ConfigError: the weights are not there, with where they were looked for and how to
            provide them. A hub that is needed and does not answer in time counts as not there.
    """
    if not path:
        raise ConfigError("model.path: is empty; give a folder, a file or a hub id")
    prefix, _, name = path.partition(":")
    if prefix == "random":
        if name not in ARCHITECTURES:
            known = ", ".join(ARCHITECTURES)
            raise ConfigError(f"model.path={path}: no such architecture (there are: {known})")
        return Source("random", name)
    if prefix == "embedded":
        return _embedded(path, PACKAGE / "world" / f"{name}-diffusion", variant)
    local = Path(path).expanduser()
    if local.suffix in SINGLE_FILE_SUFFIXES:
        if not local.is_file():
            raise _missing(path, f"there is no file {local}")
        return Source("file", str(local))
    if local.is_dir() or not is_hub_id(path):
        return _folder(path, local, variant)
    return _hub(path, revision, variant)


def picture_size(path: str, revision: str | None = None) -> int:
    """The longer side of a model's pictures, as far as its files say; 512 if they are not here.

    Args:
        path: as of :func:`locate`.
        revision: likewise.
    """
    prefix, _, name = path.partition(":")
    if prefix == "random":
        return int(ARCHITECTURES[name].vae["sample_size"]) if name in ARCHITECTURES else 512
    try:
        folder = Path(locate(path, revision).location)
        latents = json.loads((folder / "unet" / "config.json").read_text())["sample_size"]
        levels = json.loads((folder / "vae" / "config.json").read_text())["block_out_channels"]
        longest = max(latents) if isinstance(latents, list) else latents
        return int(longest * 2 ** (len(levels) - 1))
    except (ConfigError, OSError, ValueError, KeyError, TypeError):  # no folder of this machine
        return 512


def _embedded(path: str, folder: Path, variant: str | None) -> Source:
    if problem := _incomplete(folder, variant):
        raise ConfigError(
            f"model.path={path}: the package lacks this model, {problem}; reinstall soc_ft, or "
            "train the model (python -m soc_ft.world.training)"
        )
    return Source("folder", str(folder))


def _folder(path: str, folder: Path, variant: str | None) -> Source:
    if problem := _incomplete(folder, variant):
        raise _missing(path, problem)
    _require_stable_diffusion(path, folder)
    return Source("folder", str(folder))


def _require_stable_diffusion(path: str, folder: Path) -> None:
    index = folder / "model_index.json"
    try:
        found = json.loads(index.read_text()).get("_class_name")
    except (ValueError, AttributeError):
        raise ConfigError(f"model.path={path}: {index} is not a diffusers index") from None
    if found not in PIPELINES:
        raise ConfigError(
            f"model.path={path}: is a {found}; only StableDiffusionPipeline (text-to-image Stable "
            "Diffusion 1.x and 2.x) can be fine-tuned"
        )


def _hub(repository: str, revision: str | None, variant: str | None) -> Source:
    from huggingface_hub import constants, try_to_load_from_cache

    index = try_to_load_from_cache(repository, "model_index.json", revision=revision)
    if isinstance(index, str):
        snapshot = Path(index).parent
        problem = _incomplete(snapshot, variant)
        if problem is None:
            _require_stable_diffusion(repository, snapshot)
            return Source("folder", str(snapshot))
    else:
        problem = f"it is not in the cache {constants.HF_HUB_CACHE}"
    if reason := obstacle(repository, "model_index.json", revision):
        hub = f"as a hub id (revision {revision or 'main'})"
        raise _missing(repository, f"there is no such folder; {hub}, {problem}, {reason}")
    return Source("hub", repository)


def _incomplete(folder: Path, variant: str | None) -> str | None:
    """Say what a diffusers folder lacks."""
    if not folder.is_dir():
        return f"there is no folder {folder}"
    if not (folder / "model_index.json").is_file():
        return f"{folder} has no model_index.json, so it is not in diffusers format"
    found = {part: _variants(folder / part) for part in PARTS}
    if variant and not any(variant in variants for variants in found.values()):
        return f"{folder} has no weights of variant {variant}"
    for part, variants in found.items():
        if not variants & {"", variant}:
            others = ", ".join(sorted(variants))
            return f"{folder / part} has no weights" + (f", only of {others}" if others else "")
    return None


def variant_in(folder: Path, variant: str | None) -> str | None:
    """The variant whose weights are taken in the folder of a part; None are those without one."""
    return variant if variant in _variants(folder) else None


def weight_files(folder: Path, variant: str | None = None) -> list[Path]:
    """The files that the weights of a part are read from: one, or its shards."""
    wanted = variant_in(folder, variant) or ""
    found = [
        file
        for file in sorted(folder.glob("*"))
        if file.name.partition(".")[0].partition("-")[0] in WEIGHT_NAMES
        and variant_of(file) == wanted
    ]
    of_kinds = [[file for file in found if file.suffix == suffix] for suffix in WEIGHT_SUFFIXES]
    return next(filter(None, of_kinds), [])


def _check_weights(folder: Path, variant: str | None = None) -> None:
    """Check that the weight files of a part are whole, and all there.

    Raises:
        ConfigError: they are not.
    """
    files = weight_files(folder, variant)
    for file in files:
        check_whole(file)
    shards = [found for file in files if (found := _SHARD.search(file.name))]
    if shards and len(shards) < int(shards[0][1]):
        raise ConfigError(
            f"{folder} has only {len(shards)} of the {int(shards[0][1])} files of its weights; "
            "get the others"
        )


def _variants(folder: Path) -> set[str]:
    """Variants of the weight files in ``folder``; "" are those without one."""
    return {variant_of(file) for file in folder.glob("*") if file.suffix in WEIGHT_SUFFIXES}


def variant_of(weights: Path) -> str:
    """Variant of a weight file; "" is that of a file without one."""
    # model.safetensors, model.fp16.safetensors, model.fp16-00001-of-00002.safetensors
    return weights.stem.partition(".")[2].partition("-")[0]


def _missing(path: str, problem: str) -> ConfigError:
    home = path if is_hub_id(path) else "OWNER/NAME"
    missing = MissingFile(
        f"model.path={path}",
        f"hf download {home}",
        "model.path=/folder in diffusers format or model.path=/file.safetensors",
    )
    further = "; experiment=quickstart, the embedded model, needs no download"
    return MissingWeights(problem, [missing], further)
