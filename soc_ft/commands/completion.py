"""Tab completion of ``soc-ft``: ``eval "$(soc-ft --completion bash)"``, or zsh or fish.

The script makes the shell ask ``soc-ft --complete WORDS`` at every Tab. The answer comes from the
YAML files alone: importing Hydra takes longer than one likes to wait for a Tab.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from soc_ft.errors import ConfigError, did_you_mean
from soc_ft.files import conf_dir

HYDRA_FLAGS = ("--cfg", "--config-dir", "--help", "--hydra-help", "--info", "--multirun")
REPORT_FLAGS = ("--help", "--launcher", "--output", "--rerun-failed")
MULTIRUN_FLAGS = {"-m", "--multirun"}
CONFIG_DIR_FLAGS = ("--config-dir", "-cd")

OPTIONS_OF_EVALUATE = {
    "metrics": ("reward", "metric"),
    "model": ("model",),
    "prompts": ("prompts",),
    "scheduler": ("scheduler",),
    "tracking": ("tracking",),
}
"""Keys of ``soc-ft evaluate`` whose values are options of groups."""

_GLOBAL = "# @package _global_"
_LAST_ITEM = re.compile(r"(?P<before>.*[\[,])?(?P<item>[^\[,]*)")

BASH = r"""
_soc_ft() {
    local line=${COMP_LINE:0:COMP_POINT} words word candidate
    read -r -a words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    word=${words[${#words[@]}-1]}
    # Bash replaces what follows the last of its own separators, "=" and ":" among them.
    local kept=${word%"${word##*[$COMP_WORDBREAKS]}"}
    COMPREPLY=()
    while IFS= read -r candidate; do
        candidate=${candidate#"$kept"}
        [[ $candidate == *[=.] ]] || candidate+=" "
        COMPREPLY+=("$candidate")
    done < <("${1:-soc-ft}" --complete "${words[@]:1}" 2>/dev/null)
}
complete -o default -o nospace -F _soc_ft soc-ft
"""

ZSH = r"""
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
_soc_ft() {
    local found code=1
    found=(${(f)"$("$words[1]" --complete "${(@)words[2,CURRENT-1]}" "$PREFIX" 2>/dev/null)"})
    if (( ! $#found )); then
        compset -P '*='
        _files
        return
    fi
    compadd -S '' -- ${(M)found:#*[=.]} && code=0
    compadd -- ${found:#*[=.]} && code=0
    return code
}
compdef _soc_ft soc-ft
"""

FISH = r"""
function __soc_ft_complete
    set -l words (commandline -opc)
    set -l word (commandline -ct)
    set -l found ($words[1] --complete $words[2..-1] "$word" 2>/dev/null)
    if set -q found[1]
        printf '%s\n' $found
    else
        set -l key (string match -r '^.*=' -- $word)
        for file in (__fish_complete_path (string replace -r '^.*=' '' -- $word))
            printf '%s\n' "$key$file"
        end
    end
end
complete -c soc-ft -f -a '(__soc_ft_complete)'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
"""What a shell evaluates. File names are its own business: it completes them where we know none."""


def script(arguments: Sequence[str]) -> str:
    """The script of a shell.

    Args:
        arguments: what follows ``--completion``: the name of a shell.

    Raises:
        ConfigError: it is not a shell that there is a script for.
    """
    shell = " ".join(arguments)
    if shell not in SCRIPTS:
        asked = " ".join(["--completion", *arguments])
        raise ConfigError(f"{asked}: choose bash, zsh or fish{did_you_mean(shell, SCRIPTS)}")
    return SCRIPTS[shell].lstrip()


def candidates(words: Sequence[str], commands: Collection[str]) -> list[str]:
    """What may stand in place of the last word of a command line.

    Args:
        words: what follows ``soc-ft`` up to the cursor; the last one may be empty.
        commands: names of the subcommands.

    Returns:
        Whole words that begin with the last one, sorted. A key ends in ``=``, or in ``.`` where
        keys lie below it. None where a file name is wanted, or nothing is known.
    """
    *before, word = words or [""]
    found = _possible(before, word, commands)
    return sorted({each for each in found if each.startswith(word)})


def _possible(before: Sequence[str], word: str, commands: Collection[str]) -> Iterable[str]:
    """A superset of the candidates."""
    if list(before) == ["--completion"]:
        return SCRIPTS
    previous = before[-1] if before else ""
    if previous in ("--cfg", "-c"):
        return ("job", "hydra", "all")
    if previous in CONFIG_DIR_FLAGS:
        return ()
    command = before[0] if before and before[0] in commands else "train"
    first = () if before else ("--completion", "--version", *commands)
    if word.startswith("-"):
        return (*first, *(REPORT_FLAGS if command == "report" else HYDRA_FLAGS))
    if command == "report":
        return ()
    return (*first, *_overrides(command, before, word))


def _overrides(command: str, before: Sequence[str], word: str) -> Iterator[str]:
    """Keys, groups, and the values of what ``word`` sets; ``+``, ``++`` and ``~`` stay in front."""
    tree = _Tree(command, before)
    bare = word.lstrip("+~")
    mark = word.removesuffix(bare)
    key, equals, value = bare.partition("=")
    if not equals:
        yield from (f"{mark}{each}" for each in tree.keys_beside(key))
        return
    listed = command == "evaluate" or not MULTIRUN_FLAGS.isdisjoint(before)
    match = _LAST_ITEM.fullmatch(value)
    start = match["before"] or "" if match and listed else ""
    given = re.split(r"[\[,]", start)
    yield from (f"{mark}{key}={start}{each}" for each in tree.values(key) if each not in given)


class _Tree:
    """The keys of a command's configuration, as the options that its line chooses leave them."""

    def __init__(self, command: str, words: Sequence[str]) -> None:
        """Read the YAML files.

        Args:
            command: name of a subcommand other than ``report``.
            words: of the line, which may choose options and name a ``--config-dir``.
        """
        self.folders = [conf_dir(), *own_folders(words)]
        self.groups: dict[str, list[str]] = {}
        """Options by group."""
        self.keys: dict[str, Any] = {}
        self._values = OPTIONS_OF_EVALUATE if command == "evaluate" else {}
        settings = (word.lstrip("+").partition("=") for word in words)
        self._chosen = {key: value for key, equals, value in settings if equals}
        self._heed_experiment()
        roots = {"train": "config", "bench": "bench", "weights": "weights"}
        self._read_root(roots.get(command, f"commands/{command}"))

    def keys_beside(self, key: str) -> Iterator[str]:
        """The keys at the level of the last dot of ``key``, and the groups, with their endings."""
        above, dot, _ = key.rpartition(".")
        level: Any = self.keys
        for name in above.split(".") if dot else ():
            level = level.get(name) if isinstance(level, dict) else None
        if isinstance(level, dict):
            for name, value in level.items():
                if not name.startswith("_"):
                    ending = "." if isinstance(value, dict) and value else "="
                    yield f"{above}{dot}{name}{ending}"
        yield from (f"{group}=" for group in self.groups)

    def values(self, key: str) -> list[str]:
        """The values that a key can take, as far as they can be listed."""
        if key in self.groups:
            return self.groups[key]
        if key in self._values:
            return [option for group in self._values[key] for option in self._options(group)]
        value: Any = self.keys
        for name in key.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        return ["true", "false"] if isinstance(value, bool) else []

    def _heed_experiment(self) -> None:
        """An experiment chooses options of other groups, unless the line itself does."""
        for entry in self._load(f"experiment/{self._chosen.get('experiment')}").get("defaults", []):
            if isinstance(entry, dict):
                for key, option in entry.items():
                    self._chosen.setdefault(key.removeprefix("override /"), option)

    def _read_root(self, path: str) -> None:
        content = self._load(path)
        for entry in content.pop("defaults", []):
            if not isinstance(entry, dict):
                if entry != "_self_":
                    self._read_root(entry)
                continue
            for key, default in entry.items():
                group = key.removeprefix("override ")
                options = self._options(group)
                if options:
                    self.groups[group] = options
                    self._read_option(group, self._chosen.get(group, default), group.split("/"))
        _merge(self.keys, content)

    def _read_option(self, group: str, option: str | None, place: Sequence[str]) -> None:
        """Merge an option, and those that it builds upon, below ``place``."""
        content = self._load(f"{group}/{option}")
        for entry in content.pop("defaults", []):
            if isinstance(entry, str) and entry != "_self_":
                name, _, below = entry.partition("@")
                self._read_option(group, name, [*place, *below.split(".")] if below else place)
        for name in () if content.pop(_GLOBAL, False) else reversed(place):
            content = {name: content}
        _merge(self.keys, content)

    def _options(self, group: str) -> list[str]:
        return [
            path.relative_to(folder / group).with_suffix("").as_posix()
            for folder in self.folders
            for path in sorted((folder / group).rglob("*.yaml"))
        ]

    def _load(self, path: str) -> dict[str, Any]:
        """A file of the tree, marked if it is one that holds keys of the top; {} if it is not."""
        for folder in self.folders:
            file = folder / f"{path}.yaml"
            if file.is_file():
                text = file.read_text()
                # The C parser, where PyYAML has it, is ten times faster.
                content = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
                if isinstance(content, dict):
                    return content | ({_GLOBAL: True} if text.startswith(_GLOBAL) else {})
        return {}


def own_folders(words: Sequence[str]) -> list[Path]:
    """What ``--config-dir`` names."""
    found = [word.partition("=")[2] for word in words if word.startswith("--config-dir=")]
    found += [following for word, following in pairwise(words) if word in CONFIG_DIR_FLAGS]
    return [Path(folder).expanduser() for folder in found]


def _merge(tree: dict[str, Any], other: dict[str, Any]) -> None:
    for key, value in other.items():
        mine = tree.get(key)
        if isinstance(mine, dict) and isinstance(value, dict):
            _merge(mine, value)
        else:
            tree[key] = value
