"""Whether a file of weights is whole, as far as its outside tells, without importing torch."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from soc_ft.errors import ConfigError

PICKLED_SUFFIXES = (".bin", ".ckpt", ".pt", ".pth")
"""Of PyTorch's own files."""

_OF_GIT_LFS = b"version https://git-lfs"
_OF_A_PICKLE = b"\x80"


def check_whole(file: Path) -> None:
    """Check what shows of a cut or damaged file without reading its tensors.

    Files of other kinds than .safetensors and PyTorch's pass.

    Args:
        file: is there.

    Raises:
        ConfigError: it is damaged, or something else than weights.
    """
    if file.suffix == ".safetensors":
        tensor_names(file)
    elif file.suffix in PICKLED_SUFFIXES:
        start = _start(file)
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                whole = any(name.endswith("data.pkl") for name in archive.namelist())
        else:
            whole = start.startswith(_OF_A_PICKLE)  # as PyTorch wrote before 2020
        if not whole:
            raise _damaged(file, "no checkpoint of PyTorch")


def tensor_names(file: Path) -> list[str]:
    """Names of the tensors in a ``.safetensors`` file, from its header.

    Raises:
        ConfigError: it is damaged, or no such file.
    """
    _start(file)
    try:
        with open(file, "rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            size = file.stat().st_size
            header: dict[str, Any] = json.loads(opened.read(min(length, size)))
        tensors = {name: each for name, each in header.items() if name != "__metadata__"}
        end = max((each["data_offsets"][1] for each in tensors.values()), default=0)
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError):
        raise _damaged(file, "no safetensors file") from None
    if size != 8 + length + end:
        raise _damaged(file, f"no safetensors file: {size} bytes instead of {8 + length + end}")
    return list(tensors)


def _start(file: Path) -> bytes:
    """The first bytes of a file that is not empty.

    Raises:
        ConfigError: it is empty, cannot be read, or only stands for another one.
    """
    try:
        with open(file, "rb") as opened:
            start = opened.read(len(_OF_GIT_LFS))
    except OSError as error:
        raise ConfigError(f"{file} cannot be read ({error.strerror})") from None
    if not start:
        raise ConfigError(f"{file} is cut off or damaged: it is empty; get it anew")
    if start == _OF_GIT_LFS:
        raise ConfigError(
            f"{file} is not the weights but Git LFS's pointer to them; fetch them with git lfs pull"
        )
    return start


def _damaged(file: Path, otherwise: str) -> ConfigError:
    return ConfigError(f"{file} is cut off or damaged, or {otherwise}; get it anew")
