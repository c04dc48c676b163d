"""YAML files of plain values, read and written by libyaml where PyYAML has it: ten times faster.

A scalar means what it means to OmegaConf, so that either reads what the other wrote: 1e-4 is a
number and 2026-01-01 is text.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from omegaconf._utils import get_yaml_loader

from soc_ft.errors import ConfigError
from soc_ft.files import first_words, replace_file

if TYPE_CHECKING:
    from yaml import SafeDumper, SafeLoader
else:
    SafeDumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


_NESTING = (b"[", b"{", b"- -", b"? ?")
_DEEPEST = 200


class _Loader(SafeLoader):
    yaml_implicit_resolvers = get_yaml_loader().yaml_implicit_resolvers


class _Dumper(SafeDumper):
    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers

    def ignore_aliases(self, data: Any) -> bool:
        """Everything is written out where it stands."""
        return True


def read_yaml(path: Path) -> Any:
    """The plain values of a file, which may be a stranger's.

    Raises:
        ConfigError: it cannot be read, is damaged, or asks for more than plain values.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        # libyaml runs into the end of its stack, which ends the process.
        if sum(map(content.count, _NESTING)) > _DEEPEST and _depth(content) > _DEEPEST:
            raise ValueError("nested too deeply")
        plain = yaml.load(content, _Loader)
    except Exception as error:  # PyYAML's own, and whatever a value of the wrong kind raises
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        said = getattr(error, "problem", None) or first_words(error)
        raise ConfigError(f"{path}{line}: is damaged, or no YAML of soc_ft's ({said})") from None
    if stranger := _beyond_plain(plain):
        raise ConfigError(f"{path}: holds {stranger}, which soc_ft does not write")
    return plain


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping in a file, with at least one key.

    Raises:
        ConfigError: as :func:`read_yaml`, or it holds something else.
    """
    plain = read_yaml(path)
    if not isinstance(plain, dict) or not plain:
        raise ConfigError(f"{path}: holds no keys")
    return plain


def _depth(content: bytes) -> int:
    """How deep lists and mappings are nested, as far as it matters."""
    depth = 0
    for event in yaml.parse(content, SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            break
    return depth


def _beyond_plain(plain: Any) -> str:
    """What of nested values is more than a JSON file may hold; "" if nothing is."""
    seen: set[int] = set()
    waiting = [plain]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict | list):
            if id(value) in seen:  # a few of them can stand for millions of values
                return "an alias"
            seen.add(id(value))
            waiting += [*value, *value.values()] if isinstance(value, dict) else value
        elif value is not None and not isinstance(value, str | int | float):
            return f"a {type(value).__name__}"
    return ""


def write_yaml(path: Path, plain: Any) -> None:
    """Replace a file by plain values, keys in their order."""
    text = yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    replace_file(path, text.encode())
