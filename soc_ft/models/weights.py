"""Trained weights on disk: written atomically, read without running code."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from soc_ft.errors import ConfigError, RunError
from soc_ft.files import unreadable


def save_weights(tensors: dict[str, Tensor], path: Path) -> None:
    """Write trainable weights as safetensors, atomically.

    Raises:
        RunError: the file cannot be written.
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
        RunError: it cannot be written; what was at ``path`` is still there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        kept = f"; the previous {path.name} is intact" if path.exists() else ""
        raise RunError(f"{path}: cannot be saved ({_reason(error)}){kept}") from error
    finally:
        with suppress(OSError):  # there may be no folder to find it in
            temporary.unlink()


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).split("\n", 1)[0]
