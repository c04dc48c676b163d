"""Whether the files of a model are complete and fit each other, without importing torch."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from soc_ft.errors import ConfigError
from soc_ft.models.distillation import Distilled
from soc_ft.models.noise_schedule import check_scheduler_class

CLASSES = {
    "unet": "UNet2DConditionModel",
    "vae": "AutoencoderKL",
    "text_encoder": "CLIPTextModel",
}
"""What the parts of a Stable Diffusion 1.x and 2.x are."""

SINGLE_FILE_PREFIXES = {
    "unet": "model.diffusion_model.",
    "vae": "first_stage_model.",
    "text_encoder": "cond_stage_model.",
}
"""How the names of each part's weights begin in a single-file checkpoint."""


def check_folder(folder: Path, distilled: Distilled | None = None) -> None:
    """Check that a diffusers folder has what a Stable Diffusion needs beside weights.

    Args:
        folder: in diffusers format.
        distilled: what the configuration says of the model, as in ``loading.load_model``.

    Raises:
        ConfigError: a file is missing or damaged, or does not fit another.
    """
    index = read_json(folder / "model_index.json")
    for part, expected in CLASSES.items():
        found = (index.get(part) or [None, expected])[-1]
        if found != expected:
            raise ConfigError(f"its {part} is a {found}; only {expected} can be used")
    configs = {part: read_json(folder / part / "config.json") for part in CLASSES}
    _check_sample_size(folder, configs["unet"].get("sample_size"))
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json").get("_class_name")
    check_scheduler_class(scheduler, distilled)
    _check_tokenizer(folder / "tokenizer", configs["text_encoder"].get("vocab_size"))


def check_single_file(names: Collection[str], given: Collection[str]) -> None:
    """Check that a single-file checkpoint has the parts that are not given otherwise.

    Args:
        names: of the tensors in it.
        given: parts that are taken from elsewhere.

    Raises:
        ConfigError: it lacks a part.
    """
    for part, prefix in SINGLE_FILE_PREFIXES.items():
        if part not in given and not any(name.startswith(prefix) for name in names):
            remedy = (
                "name a checkpoint of a whole model"
                if part == "unet"
                else f"name a folder that has it, in diffusers format: model.{part}=/folder"
            )
            raise ConfigError(f"holds no {part} (no weights {prefix}*); {remedy}")


def check_part(folder: Path, part: str) -> None:
    """Check that a folder is that of a part in diffusers format.

    Raises:
        ConfigError: it is none.
    """
    found = read_json(folder / "config.json").get("_class_name", CLASSES[part])
    if found != CLASSES[part]:
        raise ConfigError(f"{folder} is a {found}; only {CLASSES[part]} can be used")


def read_json(file: Path) -> dict[str, Any]:
    """An object that a file holds.

    Raises:
        ConfigError: it is missing, or something else.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no {file}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read ({type(error).__name__})") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{file} holds no settings")
    return found


def _check_sample_size(folder: Path, size: Any) -> None:
    sides = size if isinstance(size, list) else [size]
    if not all(isinstance(side, int) and side > 0 for side in sides) or len(sides) > 2:
        raise ConfigError(
            f"{folder / 'unet' / 'config.json'} has sample_size={json.dumps(size)}, so the size of "
            "the pictures is not known; write that of the latents there (64 for 512x512 pixels)"
        )


def _check_tokenizer(folder: Path, known: int | None) -> None:
    """Check that there is a tokenizer, whose tokens the text encoder knows."""
    old = [folder / "vocab.json", folder / "merges.txt"]
    if not (folder / "tokenizer.json").is_file() and not all(file.is_file() for file in old):
        raise ConfigError(f"{folder} has no tokenizer (tokenizer.json, or vocab.json, merges.txt)")
    tokens = dict(_tokens(folder))
    beyond = [token for token, number in tokens.items() if known and number >= known]
    if beyond:
        raise ConfigError(
            f"the text encoder knows {known} tokens, but the tokenizer in {folder} has "
            f"{len(beyond)} more ({', '.join(beyond[:3])}); take them out, or use the text encoder "
            "that was trained with them"
        )


def _tokens(folder: Path) -> Iterator[tuple[str, int]]:
    """Tokens and their numbers, from whichever files there are."""
    for name in ("vocab.json", "added_tokens.json"):
        if (folder / name).is_file():
            yield from read_json(folder / name).items()
    if (folder / "tokenizer.json").is_file():
        fast = read_json(folder / "tokenizer.json")
        yield from (fast.get("model") or {}).get("vocab", {}).items()
        yield from ((each["content"], each["id"]) for each in fast.get("added_tokens") or ())
    if (folder / "tokenizer_config.json").is_file():
        added = read_json(folder / "tokenizer_config.json").get("added_tokens_decoder") or {}
        yield from ((each["content"], int(number)) for number, each in added.items())
