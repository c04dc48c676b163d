"""``--help`` of the commands: what each does, the groups that can be used there, and its keys.

From the YAML files alone, as tab completion: nothing is composed, so nothing can be wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from soc_ft.commands.completion import OPTIONS_OF_EVALUATE, own_folders
from soc_ft.files import conf_dir

GROUPS = (
    "experiment",
    "method",
    "reward",
    "model",
    "finetune",
    "prompts",
    "cfg_mode",
    "scheduler",
    "buffer",
    "trainer",
    "validation",
    "tracking",
)
WITH_MULTIRUN = ("sweep", "hydra/launcher")
"""Groups that mean something with -m alone."""
GROUP_KEYS: dict[str, Mapping[str, Sequence[str]]] = {
    "config": {group: (group,) for group in (*GROUPS, *WITH_MULTIRUN)},
    "bench": {group: (group,) for group in GROUPS},
    "weights": {group: (group,) for group in GROUPS},
    "evaluate": OPTIONS_OF_EVALUATE,
}
"""Keys of each configuration that take options of groups."""


def help_of(config_name: str, folder: str, arguments: Sequence[str]) -> str:
    """The help of the command with this configuration below conf/.

    In its template ``$GROUPS`` stands for the groups, ``$KEYS`` for the keys with their defaults.
    """
    text = (conf_dir() / folder / f"{config_name}.yaml").read_text()
    template: str = yaml.safe_load(text)["hydra"]["help"]["template"]
    groups = _groups(GROUP_KEYS.get(config_name, {}), own_folders(arguments))
    return template.replace("$GROUPS\n", f"{groups}\n").replace("$KEYS\n", _keys(text))


def _groups(keys: Mapping[str, Sequence[str]], own: Sequence[Path]) -> str:
    lines = []
    for key, groups in keys.items():
        found = {
            path.stem
            for group in groups
            for folder in (conf_dir(), *own)
            for path in (folder / group).glob("*.yaml")
        }
        lines.append(f"{key}: {', '.join(sorted(found))}\n")
    return "".join(lines)


def _keys(text: str) -> str:
    """What stands in a YAML file between its defaults list and what is Hydra's."""
    _, _, keys = text.partition("  - _self_\n")
    return keys.partition("\nhydra:\n")[0].strip() + "\n"
