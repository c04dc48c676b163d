"""``soc-ft`` and ``python -m soc_ft``: fine-tunes, or hands over to another command."""

from __future__ import annotations

import importlib
import sys

import soc_ft

COMMANDS = {
    "train": "fine-tune a model on a reward (the default)",
    "sample": "pictures from a run",
    "evaluate": "rewards and diversity of a base model and of what a run made of it",
    "report": "state and results of a sweep",
    "bench": "what an optimizer step costs",
}
"""Name and purpose of each; the module of the same name holds its ``main``."""


def main() -> None:
    """Entry point: ``soc-ft [command] ...``; without a command's name it fine-tunes."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["--version"]:
        print(f"soc_ft {soc_ft.__version__}")
        return
    if arguments[:1] == ["--completion"]:
        from soc_ft.commands.completion import print_script

        print_script(arguments[1:])
        return
    name = "train"
    if arguments and arguments[0] in COMMANDS:
        name = arguments[0]
        sys.argv = [f"{sys.argv[0]} {name}", *arguments[1:]]
    importlib.import_module(f"soc_ft.commands.{name}").main()
