"""Hydra's errors, in one line."""

from __future__ import annotations

import re
from collections.abc import Callable

from soc_ft.config.groups import unknown_option


def one_line(error: Exception, advice: Callable[[str], str]) -> str:
    """Hydra's message in one line, with the closest existing option.

    Args:
        error: of Hydra or OmegaConf.
        advice: what to say of a key that does not exist, after ``KEY: unknown key``.
    """
    text = str(error)
    option = re.search(r"Could not find '([^']+)/([^'/]+)'", text)
    available = re.search(
        r"Available options in '[^']+':\s*(.*?)\n\s*Config search path", text, re.S
    )
    if option and available:
        return str(unknown_option(option[1], option[2], available[1].split()))
    key = re.search(r"Could not override '([^']+)'", text)
    if key:
        return f"{key[1]}: unknown key{advice(key[1])}"
    cause = error.__cause__
    detail = f" ({' '.join(str(cause).split())})" if cause is not None else ""
    return " ".join(text.split()) + detail
