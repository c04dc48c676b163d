"""Prompts that are given in Python."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from soc_ft.api.composing import refuse_override, set_key
from soc_ft.data.prompts import given_prompts, is_source, load_prompts
from soc_ft.errors import ConfigError
from soc_ft.files import remove_if_empty, replace_file


def prompt_list(argument: str, given: Any) -> list[str]:
    """Prompts as a list, from one, a list or a source.

    Raises:
        ConfigError: there are none, or one is no text; names the argument.
    """
    if isinstance(given, str) and is_source(given):
        try:
            return load_prompts(given)
        except ConfigError as error:
            raise ConfigError(f"{argument}={error}") from None
    texts = (
        [given] if isinstance(given, str) else list(given) if isinstance(given, Iterable) else []
    )
    if not texts:
        raise ConfigError(f"{argument}={given}: give at least one prompt, in a list")
    for place, text in enumerate(texts):
        if not (isinstance(text, str) and text.strip()):
            raise ConfigError(f"{argument}[{place}]={text!r}: must be a prompt, which is text")
    return given_prompts(texts)


def record_prompts(
    config: DictConfig,
    choices: dict[str, str | None],
    train: Sequence[str] | str | None,
    validation: Sequence[str] | str | None,
    typed: Mapping[str, str],
) -> dict[Path, bytes]:
    """Let the configuration name the prompts.

    Returns:
        The files of lists, which are still to be written.

    Raises:
        ConfigError: a list holds no prompts, or overrides name others.
    """
    files: dict[Path, bytes] = {}
    if validation is None and "prompts.held_out" not in typed:
        validation = train
    elif train is not None:
        set_key(config, "prompts.validation", None)
    for use, given in (("train", train), ("validation", validation)):
        if given is None:
            continue
        argument = "prompts" if use == "train" else "validation_prompts"
        refuse_override(typed, "prompts", exactly=True, instead=f"the argument {argument}")
        refuse_override(typed, f"prompts.{use}", instead=f"the argument {argument}")
        if not (isinstance(given, str) and is_source(given)):
            lines = [json.dumps(text, ensure_ascii=False) for text in prompt_list(argument, given)]
            content = "".join(f"{line}\n" for line in lines).encode()
            # A name that tells lists apart: a run does not go on with other prompts.
            name = f"prompts-{hashlib.sha256(content).hexdigest()[:12]}.jsonl"
            given = str(Path(config.run_dir) / name)
            files[Path(given).absolute()] = content
        set_key(config, f"prompts.{use}", given)
        choices["prompts"] = "file"
    return files


@contextmanager
def written(files: Mapping[Path, bytes], folder: Path) -> Iterator[None]:
    """Write files for a check, and leave nothing behind if it fails."""
    new = [path for path in files if not path.exists()]
    for path in new:
        replace_file(path, files[path])
    try:
        yield
    except ConfigError:
        for path in new:
            path.unlink(missing_ok=True)
        remove_if_empty(folder)
        raise
