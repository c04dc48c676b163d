"""Components of a configuration: their classes, and the check of their arguments."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from soc_ft.checking import check_call, validated
from soc_ft.config.kinds import FEEDBACK, METHOD, TRACKER, Kind
from soc_ft.errors import ConfigError, check_all, did_you_mean
from soc_ft.feedback import Feedback
from soc_ft.layout import STATISTICS_FILE
from soc_ft.methods import Method
from soc_ft.options import Component
from soc_ft.rewards.base import ChecksArguments, ImportsNames, Standardises, UsesMetadata


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


def component_class(component: Component, key: str, kind: Kind) -> Any:
    """Import what a component is built from, and check its arguments; nothing is built.

    Args:
        component: whose module is light.
        key: of the component in the configuration.
        kind: of component that the key asks for.

    Raises:
        ConfigError: there is no such class, it is of another kind, or an argument is unknown,
            missing, or of a wrong type or range.
    """
    found = _of_kind(component, key, kind)
    if inspect.isclass(found) and issubclass(found, Method | Feedback):
        validated(found.Config, component.arguments, (key,))
    else:
        check_call(found, component.arguments, key, kind.supplied)
    return found


def check_tracker(component: Component) -> None:
    """Check what follows a run, as it is configured under ``tracking``.

    Raises:
        ConfigError: it is no tracker, an argument is wrong, or what the environment says of it.
    """
    found = component_class(component, "tracking", TRACKER)
    if isinstance(found, ChecksArguments):
        found.check_arguments(component.arguments, "tracking")


def check_components(value: Any, key: str, kind: Kind) -> None:
    """Check the components in a part of the configuration, at any depth.

    Raises:
        ConfigError: one is not of the kind, or an argument is wrong, or names weights that cannot
            be had; or it is to be standardised, and neither says by what nor is a run's reward.
    """
    checks = []
    for place, component in components_in(value, key):
        found = component_class(component, place, kind)
        if isinstance(found, ChecksArguments):
            checks.append(partial(found.check_arguments, component.arguments, place))
        if place != _MEASURED_BY_RUN:
            checks.append(partial(_check_statistics, found, component, place))
    check_all(checks)


_MEASURED_BY_RUN = "reward"
"""Key of what a run measures the moments of."""


def _check_statistics(found: Any, component: Component, key: str) -> None:
    if isinstance(found, Standardises) and found.lacks_statistics(component.arguments):
        raise ConfigError(
            f"{key}.statistics: is needed, since only a run measures what the parts of its reward "
            f"are standardised by; copy it from the {STATISTICS_FILE} of a run ({{part: [mean, "
            "deviation], ...}), or name the parts one by one"
        )


def any_uses_metadata(value: Any, key: str, kind: Kind) -> bool:
    """Whether a component in a part of the configuration uses the metadata of prompts."""
    return any(
        isinstance(component_class(component, place, kind), UsesMetadata)
        for place, component in components_in(value, key)
    )


def build_method(component: Component, key: str = "method") -> Method:
    """The method that a component describes, its options checked by its own ``Config``.

    Raises:
        ConfigError: the class does not exist or is no method, or an option is unknown, or out of
            its range.
    """
    method: Method = component_class(component, key, METHOD)(**component.arguments)
    return method


def build_feedback(component: Component) -> Feedback:
    """The protocol that a component describes, its options checked; what it names is not built.

    Raises:
        ConfigError: the class does not exist or is no protocol, or an option is unknown, or out of
            its range.
    """
    protocol: Feedback = component_class(component, "feedback", FEEDBACK)(**component.arguments)
    return protocol


BUILT = ("model", "finetune", "tracking", "reward", "validation.metrics", "validation.embedding")
"""Sections of a run's configuration that an evaluation builds."""


def code_beyond_ours(
    config: Mapping[str, Any], sections: Collection[str] = BUILT
) -> Iterator[tuple[str, str]]:
    """What sections of a configuration name that is not soc_ft's own, with the keys.

    Nothing of it is imported.
    """
    for section in sections:
        value: Any = config
        for part in section.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        for key, component in components_in(value, section):
            if component.target.partition(".")[0] != __name__.partition(".")[0]:
                yield f"{key}._target_", component.target
                continue
            found = _imported(component, key)
            for name in found.imported_names if isinstance(found, ImportsNames) else ():
                yield f"{key}.{name}", str(component.arguments.get(name))


def check_trusted(config: Mapping[str, Any], sections: Collection[str], trusted: list[str]) -> None:
    """Check that a configuration from a run folder names no code but soc_ft's own.

    Such a folder may be somebody else's, and what its configuration names would be imported and
    called.

    Args:
        config: of the run.
        sections: that will be built, dotted.
        trusted: further classes and functions, by their dotted names; ``module.*`` are all of one.

    Raises:
        ConfigError: names the first class that is neither.
    """
    for key, named in code_beyond_ours(config, sections):
        if named not in trusted and f"{named.rpartition('.')[0]}.*" not in trusted:
            raise ConfigError(
                f"{key}={named}: the run's config.yaml names code that is not soc_ft's own, which "
                f"would be run; if you trust it, add trust=[{named}]"
            )


def _of_kind(component: Component, key: str, kind: Kind) -> Any:
    found = _imported(component, key)
    objection = kind.objection(found)
    if objection is not None:
        raise ConfigError(f"{key}._target_={component.target}: {objection}")
    for name in component.arguments:
        if name.startswith("_"):  # what Hydra would heed, such as _partial_
            raise ConfigError(f"{key}.{name}: unknown key")
    return found


def _imported(component: Component, key: str) -> Any:
    module, _, name = component.target.rpartition(".")
    place = f"{key}._target_={component.target}: cannot be imported"
    try:
        imported = importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(f"{place} ({error})") from None
    except (Exception, SystemExit) as error:  # whatever a person's own module raises
        said = " ".join(str(error).split())
        raise ConfigError(f"{place} ({type(error).__name__}: {said})") from None
    if not hasattr(imported, name):
        own = [each for each, value in vars(imported).items() if inspect.isclass(value)]
        raise ConfigError(f"{place} ({module} has no {name}{did_you_mean(name, own)})")
    return getattr(imported, name)
