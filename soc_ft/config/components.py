"""Components of a configuration: their classes, and the check of their arguments."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from soc_ft.errors import ConfigError, did_you_mean
from soc_ft.methods import Method
from soc_ft.options import Component
from soc_ft.rewards.base import ChecksArguments

Checked = TypeVar("Checked", bound=BaseModel)


def validated(
    model: type[Checked], plain: Mapping[str, Any], prefix: tuple[str, ...] = ()
) -> Checked:
    """``plain`` as a ``model``; ``prefix`` stands before its keys in messages.

    Raises:
        ConfigError: names the first offending key.
    """
    try:
        return model.model_validate(plain)
    except ValidationError as error:
        raise ConfigError(_one_line(error, prefix, model)) from None


def components_in(value: Any, key: str) -> Iterator[tuple[str, Component]]:
    """The components in a part of the configuration, at any depth, with their keys.

    Raises:
        ConfigError: a ``_target_`` is not the dotted name of a class.
    """
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        if "_target_" in value:
            yield key, validated(Component, value, prefix=(key,))
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for name, child in items:
        yield from components_in(child, f"{key}.{name}")


def component_class(component: Component, key: str) -> Any:
    """Import the class of a component whose module is light, and check its arguments' names.

    Raises:
        ConfigError: the class does not exist, or it does not take one of the keys.
    """
    found = _imported(component, key)
    accepted = set(inspect.signature(found).parameters)
    for given in component.arguments:
        if given not in accepted:
            hint = did_you_mean(given, accepted)
            raise ConfigError(
                f"{key}.{given}: {component.target} has no such argument{hint} "
                f"(it takes: {', '.join(sorted(accepted)) or 'none'})"
            )
    return found


def check_arguments(value: Any, key: str) -> None:
    """Check the arguments of the components in a part of the configuration, at any depth.

    Raises:
        ConfigError: one is wrong, or names weights that cannot be had.
    """
    for place, component in components_in(value, key):
        found = component_class(component, place)
        if isinstance(found, ChecksArguments):
            found.check_arguments(component.arguments, place)


def build_method(component: Component, key: str = "method") -> Method:
    """The method that a component describes, its options checked by its own ``Config``.

    Raises:
        ConfigError: the class does not exist or is no method, or an option is unknown, or out of
            its range.
    """
    found = _imported(component, key)
    if not (inspect.isclass(found) and issubclass(found, Method)):
        raise ConfigError(
            f"{key}._target_={component.target}: is no method; derive it from soc_ft.methods.Method"
        )
    if inspect.isabstract(found):
        missing = ", ".join(sorted(found.__abstractmethods__))
        raise ConfigError(f"{key}._target_={component.target}: lacks {missing}")
    validated(found.Config, component.arguments, (key,))
    method: Method = found(**component.arguments)
    return method


def _imported(component: Component, key: str) -> Any:
    module, _, name = component.target.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"{key}._target_={component.target}: cannot be imported ({error})"
        ) from None


def _one_line(error: ValidationError, prefix: tuple[str, ...], model: type[BaseModel]) -> str:
    """Say the first problem of a pydantic error, and how many more there are."""
    problems = error.errors()
    first = problems[0]
    key = ".".join(str(part) for part in (*prefix, *first["loc"]))
    said = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        known = model.model_fields if len(first["loc"]) == 1 else ()
        text = f"{key}: unknown key{did_you_mean(str(first['loc'][-1]), known)}"
    elif first["type"] == "missing":
        text = f"{key}: this key is missing"
    else:
        text = f"{key}={first['input']!r}: {said[0].lower()}{said[1:]}"
    more = len(problems) - 1
    return text + (f" (and {more} more problems)" if more else "")
