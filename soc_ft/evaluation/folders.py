"""Pictures as files, grouped by what made them, and the folders that they can be kept in."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from soc_ft.data.metadata import Metadata, by_prompt, json_values
from soc_ft.errors import ConfigError
from soc_ft.files import replace_file

BASE, FINE_TUNED = "base model", "fine-tuned"
"""What pictures are of, if a run made them."""

OWN_SCHEDULE = "fine-tuning schedule"
"""What the schedule of a run's own validations is called."""

METADATA = "metadata.jsonl"
"""One object a line, with ``file_name`` and ``prompt``: what Hugging Face calls an imagefolder."""


@dataclass(frozen=True)
class PictureSet:
    """Pictures of one model, sampled in one way.

    Attributes:
        block: how they were sampled (``schedule``, ``eta``, ``num_steps``); empty if unknown.
        model: what they are of.
        prompts: P prompts.
        paths: P lists of files, the pictures of each prompt.
    """

    block: dict[str, Any]
    model: str
    prompts: list[str]
    paths: list[list[Path]]

    @property
    def count(self) -> int:
        """Number of pictures."""
        return sum(map(len, self.paths))

    def first(self, samples: int) -> PictureSet:
        """The first pictures of each prompt."""
        return replace(self, paths=[of_prompt[:samples] for of_prompt in self.paths])


def write_folder(folder: Path, sets: Iterable[PictureSet], of_prompts: Metadata) -> None:
    """Copy pictures to ``folder``, with a metadata file that :func:`read_folder` understands.

    Args:
        folder: to be made.
        sets: the pictures.
        of_prompts: what else is said of their prompts, as far as JSON can hold it.
    """
    lines = []
    for each in sets:
        name = "-".join([*(f"{value}" for value in each.block.values()), each.model])
        name = name.replace(" ", "_")
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i, (prompt, paths) in enumerate(zip(each.prompts, each.paths, strict=True)):
            for j, path in enumerate(paths):
                file_name = f"{name}/{i:05d}-{j:02d}{path.suffix}"
                shutil.copyfile(path, folder / file_name)
                entry = {"file_name": file_name, "prompt": prompt, "model": each.model}
                said = json_values(of_prompts.get(prompt, {}))
                further = each.block | ({"metadata": said} if said else {})
                lines.append(json.dumps(entry | further, ensure_ascii=False))
    replace_file(folder / METADATA, ("\n".join(lines) + "\n").encode())


def read_folder(folder: Path) -> list[PictureSet]:
    """The pictures that a metadata file lists, in its order.

    ``model``, ``schedule``, ``eta``, ``num_steps`` and ``metadata`` may be missing.

    Raises:
        ConfigError: names the file, the line and the key that is wrong.
    """
    metadata = folder / METADATA
    if not metadata.is_file():
        raise ConfigError(
            f"images={folder}: there is no {metadata}, a file of lines like "
            '{"file_name": "1.png", "prompt": "a cat"}'
        )
    grouped: dict[str, tuple[dict[str, Any], str, dict[str, list[Path]]]] = {}
    for place, entry in _entries(metadata):
        path = folder / entry["file_name"]
        # By its name: caches of data sets are full of links to elsewhere.
        if not Path(os.path.normpath(path)).is_relative_to(os.path.normpath(folder)):
            raise ConfigError(
                f"{place}, key 'file_name': {entry['file_name']} lies outside {folder}"
            )
        if not path.is_file():
            raise ConfigError(f"{place}, key 'file_name': there is no file {path}")
        block = _block(entry)
        model = str(entry.get("model", folder.name))
        group = grouped.setdefault(f"{block} {model}", (block, model, {}))
        group[2].setdefault(entry["prompt"], []).append(path)
    if not grouped:
        raise ConfigError(f"{metadata}: lists no pictures")
    return [
        PictureSet(block, model, list(by_prompt), list(by_prompt.values()))
        for block, model, by_prompt in grouped.values()
    ]


def folder_metadata(folder: Path) -> Metadata:
    """What a folder of :func:`read_folder` says of each prompt, in objects ``metadata``.

    Raises:
        ConfigError: one is no object, or a prompt has different ones in two lines; names both.
    """
    found = []
    for place, entry in _entries(folder / METADATA):
        said = entry.get("metadata", {})
        if not isinstance(said, dict):
            raise ConfigError(f"{place}, key 'metadata': must be an object")
        found.append((place, entry["prompt"], said))
    return by_prompt(found)


def base_of(each: PictureSet, sets: Sequence[PictureSet]) -> PictureSet | None:
    """The base model's pictures of the same block and prompts, if ``each`` is not those itself."""
    for other in sets:
        same = other.block == each.block and other.prompts == each.prompts
        if same and other.model == BASE and each.model != BASE:
            return other
    return None


def _entries(metadata: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where each line with a picture stands, and what it says."""
    for number, line in enumerate(_lines(metadata), start=1):
        if line.strip():
            place = f"{metadata}, line {number}"
            yield place, _entry(line, place)


def _lines(metadata: Path) -> list[str]:
    try:
        return metadata.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{metadata}: is no text in UTF-8 (byte {error.start})") from None


def _entry(line: str, place: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{place}, column {error.colno}: is not valid JSON ({error.msg})"
        ) from None
    if not isinstance(entry, dict):
        raise ConfigError(f"{place}: must be an object with 'file_name' and 'prompt'")
    for key in ("file_name", "prompt"):
        if not isinstance(entry.get(key), str):
            raise ConfigError(f"{place}, key {key!r}: must be there and be text")
    return entry


def _block(entry: dict[str, Any]) -> dict[str, Any]:
    keys = ("schedule", "eta", "num_steps")
    return {key: entry[key] for key in keys} if all(key in entry for key in keys) else {}
