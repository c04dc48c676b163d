"""Errors of composing a configuration, in one line, with the closest key or option there is."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from soc_ft.config.groups import options, unknown_option
from soc_ft.errors import did_you_mean
from soc_ft.files import conf_dir


@contextmanager
def own_hydra() -> Iterator[None]:
    """Let Hydra be initialised anew, and afterwards be as it was."""
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = before


def one_line(error: Exception, overrides: Sequence[str], advice: Callable[[str], str]) -> str:
    """What is wrong, with the closest existing option.

    Args:
        error: of Hydra or OmegaConf, or whatever else they raise.
        overrides: the command line that was composed.
        advice: what to say of a key that does not exist, after ``KEY: unknown key``.
    """
    text = str(error)
    if isinstance(error, OverrideParseException) or "override" in vars(error):
        return _unreadable(str(vars(error)["override"]))
    option = re.search(r"Could not find '([^']+)/([^'/]+)'", text)
    available = re.search(
        r"Available options in '[^']+':\s*(.*?)\n\s*Config search path", text, re.S
    )
    if option and available:
        return str(unknown_option(option[1], option[2], available[1].split()))
    key = re.search(r"Could not override '([^']+)'", text)
    if key:
        return f"{key[1]}: unknown key{advice(key[1])}"
    if "Ambiguous value for argument" in text:
        several = text.partition("'")[2].partition("'")[0]
        return f"{several}: several values are the jobs of a sweep (-m); a list has brackets"
    twice = re.search(r"(\S+) appears more than once in the final defaults list", text)
    if twice:
        return f"{twice[1]}: is chosen twice; name one option of it, without a +"
    if "Config group override must be" in text:
        return _no_option(overrides) or " ".join(text.split())
    cause = error.__cause__
    detail = "" if cause is None else " ".join(str(cause).split())
    said = " ".join(text.split())
    return said if detail in said else f"{said} ({detail})"


def closest_key(
    key: str, config_name: str, folder: str, overrides: Sequence[str], own: Sequence[Path] = ()
) -> str:
    """A hint at the key that is closest to one that does not exist; nothing if none is close.

    Args:
        key: that does not exist.
        config_name: of the command.
        folder: where that lies, below conf/.
        overrides: the command line, whose choices of options decide which keys there are.
        own: folders of ``--config-dir``.
    """
    choices = [each for each in overrides if options(each.partition("=")[0].lstrip("+"), own)]
    search_path = ",".join(f"file://{each.absolute()}" for each in own)
    for chosen in (choices, []):
        try:
            with (
                own_hydra(),
                initialize_config_dir(version_base="1.3", config_dir=str(conf_dir() / folder)),
            ):
                config = compose(config_name, [*chosen, f"hydra.searchpath=[{search_path}]"])
        except (HydraException, OmegaConfBaseException):  # more than the key is wrong
            continue
        return did_you_mean(key, list(_keys(config, "")))
    return ""


def _keys(section: DictConfig, above: str) -> Iterator[str]:
    """The dotted keys below a section, those of sections among them."""
    for name in map(str, section):
        yield f"{above}{name}"
        child = section._get_node(name)
        if isinstance(child, DictConfig) and not child._is_none():
            yield from _keys(child, f"{above}{name}.")


def _unreadable(override: str) -> str:
    """What to do about an argument that is no override."""
    key, equals, value = override.partition("=")
    if not key:
        return f"{override}: has no key; write KEY{override}"
    if not equals:
        return f"{override}: is no override; write {override}=VALUE"
    foreign = [letter for letter in key if not letter.isascii()]
    if foreign:
        called = unicodedata.name(foreign[0], "a letter without a name")
        return f"{override}: no key has a {foreign[0]!r} in it, which is {called}"
    if value.strip() == "" or value.endswith(","):
        return f"{override}: a value is missing at its end"
    return (
        f"{override}: cannot be read; put quotes around a value with brackets, commas, colons or "
        f"quotes in it, such as '{key}=\"...\"'"
    )


def _no_option(overrides: Sequence[str]) -> str | None:
    """Name the override of a group that names no option."""
    parser = OverridesParser.create()
    for override in overrides:
        (parsed,) = parser.parse_overrides([override])
        if not parsed.key_or_group:
            return _unreadable(override)
        value: Any = parsed.value()
        known = options(parsed.key_or_group)
        if known and not isinstance(value, str | list) and not parsed.is_delete():
            return f"{override}: choose an option ({', '.join(known)})"
    return None
