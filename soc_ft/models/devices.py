"""Where a model is put, and giving back what it held."""

from __future__ import annotations

import gc

import torch

from soc_ft.errors import ConfigError


def usable_device(given: str | torch.device | None) -> torch.device:
    """The device of that name; a GPU if there is one and none is named.

    Raises:
        ConfigError: it cannot be used.
    """
    try:
        device = torch.device(given or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"device={given}: cannot be used ({reason})") from None
    return device


def release_memory() -> None:
    """Give back what the last model held, before the next one is loaded."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
