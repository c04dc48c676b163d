"""Pictures made so far, each under what decides its pixels, so that none is made twice."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import soc_ft
from soc_ft.files import replace_file
from soc_ft.models.availability import PARTS, WEIGHT_SUFFIXES, Source, variant_in, variant_of

Place = tuple[int, int]
"""(prompt, picture) indices, which address the noise together with a seed."""

CONFIGURATION_FILES = (".json", ".txt")


class PictureStore:
    """Pictures of one model sampled in one way, written as they are made.

    A file is there whole or not at all, so whatever interrupts the making of them, the next call
    goes on.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Name the place; nothing is written yet.

        Args:
            folder: that all stores share.
            settings: everything that decides the pictures besides their prompt and place; what is
                JSON.
        """
        self.settings = {"soc_ft": soc_ft.__version__, **settings}
        key = json.dumps(self.settings, sort_keys=True)
        self.folder = folder / hashlib.blake2b(key.encode(), digest_size=10).hexdigest()

    def path(self, place: Place, prompt: str) -> Path:
        """The file of a picture."""
        digest = hashlib.blake2b(prompt.encode(), digest_size=5).hexdigest()
        return self.folder / f"{place[0]:05d}-{place[1]:02d}-{digest}.png"

    def paths(self, prompts: Sequence[str], samples: int) -> list[list[Path]]:
        """The files of ``samples`` pictures of each prompt."""
        return [[self.path((i, j), p) for j in range(samples)] for i, p in enumerate(prompts)]

    def missing(self, prompts: Sequence[str], samples: int) -> list[Place]:
        """The places whose pictures are not there yet."""
        there = set(os.listdir(self.folder)) if self.folder.is_dir() else set()
        return [
            (i, j)
            for i, row in enumerate(self.paths(prompts, samples))
            for j, path in enumerate(row)
            if path.name not in there
        ]

    def save(self, place: Place, prompt: str, picture: Any) -> None:
        """Keep a picture: (3, H, W) uint8 on the CPU."""
        description = self.folder / "settings.json"
        if not description.is_file():
            replace_file(description, json.dumps(self.settings, indent=1).encode())
        content = io.BytesIO()
        array = np.asarray(picture).transpose(1, 2, 0)
        Image.fromarray(array).save(content, "PNG", compress_level=1)
        replace_file(self.path(place, prompt), content.getvalue())


def fingerprint(source: Source, variant: str | None = None) -> str:
    """A digest of a base model's files, or the name of an architecture with random weights.

    Contents count, not names or dates: a copied folder is the same model, and one whose weights
    were trained again is another.
    """
    if source.kind == "random":
        return source.location
    path = Path(source.location)
    return digest_of([path] if path.is_file() else _files_of_model(path, variant))


def digest_of(files: Sequence[Path]) -> str:
    """A digest of the contents of files."""
    total = hashlib.blake2b(digest_size=16)
    for path in files:
        with open(path, "rb") as file:
            total.update(hashlib.file_digest(file, "blake2b").digest())
    return total.hexdigest()


def _files_of_model(folder: Path, variant: str | None) -> list[Path]:
    """What is loaded of a folder in diffusers format: a clone of a repository holds much more."""
    files = []
    for part in (*PARTS, "tokenizer", "scheduler"):
        there = sorted((folder / part).glob("*"))
        files += [path for path in there if path.suffix in CONFIGURATION_FILES]
        chosen = variant_in(folder / part, variant) or ""
        for suffix in WEIGHT_SUFFIXES:
            of_suffix = [path for path in there if path.suffix == suffix]
            weights = [path for path in of_suffix if variant_of(path) == chosen]
            if weights:
                files += weights
                break
    return files
