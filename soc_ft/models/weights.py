"""Trained weights on disk: written atomically, read without running code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from soc_ft.errors import ConfigError, WriteError
from soc_ft.files import reason, replacing, unreadable


def save_weights(tensors: dict[str, Tensor], path: Path) -> None:
    """Write trainable weights as safetensors, atomically.

    Raises:
        WriteError: the file cannot be written.
    """
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    with replacing_weights(path) as temporary:
        temporary.write_bytes(content)


def load_weights(path: Path) -> dict[str, Tensor]:
    """Trainable weights of a ``.safetensors`` file or of a checkpoint to resume from.

    Raises:
        ConfigError: the file is not one of those, or damaged.
    """
    with naming_weights(path):
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)["state_dict"]


@contextmanager
def naming_weights(path: Path) -> Iterator[None]:
    """Say which file it is that cannot be read."""
    try:
        yield
    except Exception as error:  # torch, zipfile and pickle raise a dozen unrelated types
        raise ConfigError(
            f"{path}: is not a checkpoint that can be read ({unreadable(error)})"
        ) from error


@contextmanager
def replacing_weights(path: Path) -> Iterator[Path]:
    """A temporary path whose file becomes ``path`` once it is on disk whole.

    Raises:
        WriteError: it cannot be written; what was at ``path`` is still there.
    """
    try:
        with replacing(path) as draft:
            yield draft
    except (WriteError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        kept = f"; the previous {path.name} is intact" if path.exists() else ""
        raise WriteError(f"{path}: cannot be saved ({reason(error)}){kept}") from error
