"""Reading the YAML files of a run folder, which may be somebody else's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from soc_ft.errors import ConfigError


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file that soc_ft has written: values alone, nothing to be resolved.

    Raises:
        ConfigError: it cannot be read, is no mapping, or has what soc_ft does not write: tags, or
            interpolations, which would look into this machine's environment.
    """
    try:
        plain: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is no text in UTF-8 (byte {error.start})") from None
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        said = getattr(error, "problem", None) or " ".join(str(error).split())
        raise ConfigError(f"{path}{line}: is not YAML as soc_ft writes it ({said})") from None
    if not isinstance(plain, dict) or not plain:
        raise ConfigError(f"{path}: holds no keys")
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
