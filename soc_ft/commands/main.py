"""``soc-ft`` and ``python -m soc_ft``: fine-tunes, or hands over to another command."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

import soc_ft
from soc_ft.errors import ConfigError, did_you_mean
from soc_ft.processes import ending_in_one_line

COMMANDS = {
    "train": "fine-tune a model on a reward (the default)",
    "sample": "pictures from a run",
    "evaluate": "rewards and diversity of a base model and of what a run made of it",
    "report": "state and results of a sweep",
    "bench": "what an optimizer step costs",
    "weights": "download what a configuration needs",
}
"""Name and purpose of each; the module of the same name holds its ``main``."""


def main() -> None:
    """Entry point: ``soc-ft [command] ...``; without a command's name it fine-tunes."""
    with ending_in_one_line():
        _main()


def _main() -> None:
    arguments = sys.argv[1:]
    first = arguments[0] if arguments else ""
    try:
        if first == "--version":
            print(f"soc_ft {soc_ft.__version__}")
            return
        if first in ("--completion", "--complete"):
            _complete(first, arguments[1:])
            return
        name = _command(arguments)
    except ConfigError as error:
        print(f"soc_ft: error: {error}", file=sys.stderr)
        sys.exit(2)
    if first == name:
        sys.argv = [f"{sys.argv[0]} {name}", *arguments[1:]]
    importlib.import_module(f"soc_ft.commands.{name}").main()


def _complete(flag: str, arguments: Sequence[str]) -> None:
    """Print the script of a shell, or answer what that script asks at every Tab."""
    from soc_ft.commands import completion

    if flag == "--completion":
        print(completion.script(arguments), end="")
    else:
        print("".join(f"{each}\n" for each in completion.candidates(arguments, COMMANDS)), end="")


def _command(arguments: Sequence[str]) -> str:
    """The command that a line names, or else the default.

    Raises:
        ConfigError: the line begins with a word that is no command, no override and no flag.
    """
    if not arguments or "=" in arguments[0] or arguments[0].startswith(("-", "~")):
        return "train"
    name = arguments[0]
    if name not in COMMANDS:
        hint = did_you_mean(name, COMMANDS)
        known = ", ".join(COMMANDS)
        raise ConfigError(f"{name}: no such command{hint} (there are: {known}; or write key=value)")
    return name
