"""Tab completion of ``soc-ft``: ``eval "$(soc-ft --completion bash)"``, or zsh or fish."""

from __future__ import annotations

import sys


def print_script(arguments: list[str]) -> None:
    """Print the script of a shell."""
    sys.exit(f"soc_ft: error: --completion {' '.join(arguments)}: choose bash, zsh or fish")
