"""The configuration as the command line composes it, from overrides given in Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from soc_ft.config.hydra_errors import closest_key, one_line, own_hydra
from soc_ft.errors import ConfigError
from soc_ft.files import conf_dir
from soc_ft.records.identity import is_below
from soc_ft.records.runs import choices_of


def composed(overrides: Sequence[str]) -> tuple[DictConfig, dict[str, str | None]]:
    """conf/config.yaml with overrides, and the option of each group.

    Raises:
        ConfigError: there is no such option or key.
    """
    try:
        with (
            own_hydra(),
            initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())),
        ):
            config = compose("config", list(overrides), return_hydra_config=True)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(_one_line(error, overrides)) from None
    choices = choices_of(config.hydra)
    with open_dict(config):
        del config["hydra"]
    return config, choices


def _one_line(error: Exception, overrides: Sequence[str]) -> str:
    return one_line(error, overrides, lambda key: closest_key(key, "config", ".", overrides))


def plain(section: DictConfig) -> dict[str, Any]:
    """A section as a dictionary, its interpolations resolved."""
    found: Any = OmegaConf.to_container(section, resolve=True)
    return found


def set_key(config: DictConfig, key: str, value: Any) -> None:
    """Set a key, a section as a whole."""
    OmegaConf.update(config, key, value, merge=False, force_add=True)


def typed_keys(overrides: Sequence[Any]) -> dict[str, str]:
    """The keys that overrides set, with the overrides.

    Raises:
        ConfigError: one is no override, or means nothing here.
    """
    for override in overrides:
        if not isinstance(override, str):
            raise ConfigError(
                f"overrides: {override!r} is no text; give them as on the command line, such as "
                "'trainer.steps=8'"
            )
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise ConfigError(_one_line(error, overrides)) from None
    typed = {each.key_or_group: str(each.input_line) for each in parsed}
    for key, override in typed.items():
        if is_below(key.replace("/", "."), ["hydra"]) and key != "hydra.searchpath":
            raise ConfigError(f"{override}: means something on the command line only")
    return typed


def refuse_override(
    typed: Mapping[str, str], section: str, *, instead: str, exactly: bool = False
) -> None:
    """Refuse an override of what an argument says.

    Args:
        typed: from :func:`typed_keys`.
        section: the key that the argument sets.
        instead: names the argument.
        exactly: overrides of keys below it are welcome.

    Raises:
        ConfigError: there is one.
    """
    for key, override in typed.items():
        if key == section if exactly else is_below(key, [section]):
            raise ConfigError(f"{override}: {instead} says this already; leave the override out")
