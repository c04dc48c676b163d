"""YAML files of plain values, read and written by libyaml where PyYAML has it: ten times faster.

A scalar means what it means to OmegaConf, so that either reads what the other wrote: 1e-4 is a
number and 2026-01-01 is text.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from omegaconf._utils import get_yaml_loader

from soc_ft.files import replace_file

if TYPE_CHECKING:
    from yaml import SafeDumper, SafeLoader
else:
    SafeDumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(SafeLoader):
    yaml_implicit_resolvers = get_yaml_loader().yaml_implicit_resolvers


class _Dumper(SafeDumper):
    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers

    def ignore_aliases(self, data: Any) -> bool:
        """Everything is written out where it stands."""
        return True


def read_yaml(path: Path) -> Any:
    """The plain values of a file.

    Raises:
        OSError: it cannot be read.
        yaml.YAMLError: it is damaged, or asks for more than plain values.
    """
    return yaml.load(path.read_bytes(), _Loader)


def write_yaml(path: Path, plain: Any) -> None:
    """Replace a file by plain values, keys in their order."""
    text = yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    replace_file(path, text.encode())
