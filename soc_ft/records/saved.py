"""Reading the YAML files of a run folder, which may be somebody else's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from soc_ft.errors import ConfigError
from soc_ft.plain_yaml import read_mapping


def read_config(path: Path) -> dict[str, Any]:
    """The configuration in a YAML file that soc_ft has written: values, nothing to be resolved.

    Raises:
        ConfigError: as :func:`read_mapping`; or it has interpolations, which would look into this
            machine's environment.
    """
    plain = read_mapping(path)
    for key, text in _texts(plain, ""):
        if "${" in text:
            raise ConfigError(
                f"{path}, key {key}: {text} is an interpolation, of which soc_ft writes none and "
                "resolves none in a run folder"
            )
    return plain


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """The texts in nested values, with their dotted keys."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, child in value.items():
            yield from _texts(str(name), key)
            yield from _texts(child, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _texts(child, f"{key}.{index}")
