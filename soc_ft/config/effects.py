"""Which keys of a configuration change a result, as they are declared where they are made.

An option says that it does not with the type ``WithoutEffect`` (or ``BatchSize``) of
:mod:`soc_ft.options`: a key of the schema, an option of a method's ``Config``, an argument of any
other component. Such an argument says with ``NeutralDefault`` that its default does not. Whatever
does not say so changes the result.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from soc_ft.checking import annotation_of
from soc_ft.config.schema import RunConfig
from soc_ft.errors import SocFtError
from soc_ft.feedback import Feedback
from soc_ft.methods import Method

_TARGET = "_target_"
_ABSENT = object()
_ALWAYS, _BY_DEFAULT = "changes_result", "default_changes_result"


def keys_without_effect(values: Mapping[str, Any]) -> set[str]:
    """The keys, and the sections, that change no result.

    Args:
        values: a configuration by dotted keys.
    """
    found = set(_of_model(RunConfig))
    for key, target in values.items():
        place = key.removesuffix(_TARGET)
        if place != key:
            found |= {f"{place}{name}" for name in _of_target(str(target))}
            found |= {
                f"{place}{name}"
                for name, default in _neutral_defaults(str(target))
                if values.get(f"{place}{name}", _ABSENT) == default
            }
    return found


@cache
def _of_model(model: type[BaseModel]) -> tuple[str, ...]:
    """Dotted keys of a pydantic model and of those below it."""
    found: list[str] = []
    for name, field in model.model_fields.items():
        key = field.alias or name
        if _declares(field, _ALWAYS):
            found.append(key)
        elif inspect.isclass(field.annotation) and issubclass(field.annotation, BaseModel):
            found += (f"{key}.{below}" for below in _of_model(field.annotation))
    return tuple(found)


@cache
def _of_target(target: str) -> tuple[str, ...]:
    """Options of a component's class that change no result."""
    found = _known(target)
    if inspect.isclass(found) and issubclass(found, Method | Feedback):
        return _of_model(found.Config)
    return tuple(parameter.name for parameter in _marked(found, _ALWAYS))


@cache
def _neutral_defaults(target: str) -> tuple[tuple[str, Any], ...]:
    """Arguments of a component's class whose default changes no result, and that default."""
    marked = _marked(_known(target), _BY_DEFAULT)
    return tuple((parameter.name, parameter.default) for parameter in marked)


def _marked(called: Any, mark: str) -> list[inspect.Parameter]:
    """The parameters whose type bears a mark."""
    if not callable(called):
        return []
    parameters = inspect.signature(called).parameters.values()
    return [each for each in parameters if _marks(annotation_of(called, each), mark)]


def _known(target: str) -> Any:
    """What a ``_target_`` names, if it is the package's or a module that is imported already.

    Reading the folder of somebody else's run must not import whatever its configuration names.
    """
    module, _, name = target.rpartition(".")
    if module.partition(".")[0] == __name__.partition(".")[0]:
        try:
            importlib.import_module(module)
        except (ImportError, SocFtError):
            return None
    return getattr(sys.modules.get(module), name, None)


def _marks(annotation: Any, mark: str) -> bool:
    """Whether a type, or one that may stand in its place, is declared to be without effect."""
    return any(
        _declares(each, mark) if isinstance(each, FieldInfo) else _marks(each, mark)
        for each in get_args(annotation)
    )


def _declares(field: FieldInfo, mark: str) -> bool:
    extra = field.json_schema_extra
    return isinstance(extra, dict) and extra.get(mark) is False
