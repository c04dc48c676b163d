"""Checks of values against declared types and ranges, answered in one line."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError

from soc_ft.errors import ConfigError, did_you_mean

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
        raise ConfigError(_one_line(error, prefix, plain, model)) from None


def check_call(
    called: Callable[..., Any],
    arguments: Mapping[str, Any],
    key: str,
    supplied: Collection[str] = (),
) -> None:
    """Check arguments against a signature: names, types and ranges, as far as it declares them.

    Numbers and switches are taken as they are: text is no number, and ``no`` is no ``false``.

    Args:
        called: a function or a class; types are those of its annotations.
        arguments: by name, of the kinds that JSON has.
        key: of the section that holds the arguments.
        supplied: parameters that somebody else gives.

    Raises:
        ConfigError: names the first argument that is unknown, missing or wrong.
    """
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(called).parameters.items()
        if name not in supplied and parameter.kind is not inspect.Parameter.VAR_POSITIONAL
    }
    kinds = {parameter.kind for parameter in parameters.values()}
    takes_any = inspect.Parameter.VAR_KEYWORD in kinds
    named = [
        name
        for name, parameter in parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    for name, value in arguments.items():
        if name in named:
            _check_value(annotation_of(called, parameters[name]), value, (key, name))
        elif name in supplied or not takes_any:
            hint = did_you_mean(name, named)
            raise ConfigError(
                f"{key}.{name}: unknown key{hint} ({_name(called)} takes: "
                f"{', '.join(sorted(named)) or 'none'})"
            )
    for name in named:
        if parameters[name].default is inspect.Parameter.empty and name not in arguments:
            raise ConfigError(f"{key}.{name}: this key is missing ({_name(called)} needs it)")


def check_folder(folder: str, key: str) -> None:
    """Check that a folder is there or can be made, as far as names go.

    Raises:
        ConfigError: it is a file, or lies below one, or nobody can write there.
    """
    path = Path(folder).expanduser().absolute()
    there = next(each for each in (path, *path.parents) if os.path.lexists(each))
    if not there.is_dir():
        what = "is a link that leads nowhere" if there.is_symlink() else "is a file"
        raise ConfigError(f"{key}={folder}: {there} {what}; name a folder")
    if not os.access(there, os.W_OK):
        raise ConfigError(f"{key}={folder}: {there} cannot be written to; name another folder")


def _name(called: Callable[..., Any]) -> str:
    return f"{called.__module__}.{called.__qualname__}"


def annotation_of(called: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """The type of a parameter; Any if it cannot be known here, such as one of torch."""
    annotation = parameter.annotation
    if annotation is inspect.Parameter.empty:
        return Any
    if not isinstance(annotation, str):
        return annotation
    function: Any = called.__init__ if inspect.isclass(called) else called
    try:
        # With `from __future__ import annotations` a type is the text of an expression.
        return eval(annotation, dict(vars(inspect.getmodule(called)), **function.__globals__))
    except Exception:  # names that are imported for type checkers alone
        return Any


def _check_value(annotation: Any, value: Any, place: tuple[str, ...]) -> None:
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(annotation)
        text = json.dumps(value)
    except (PydanticSchemaGenerationError, TypeError):  # objects, which are no configuration's
        return
    try:
        adapter.validate_json(text, strict=True)
    except ValidationError as error:
        raise ConfigError(_one_line(error, place, value)) from None


def _one_line(
    error: ValidationError,
    prefix: tuple[str, ...],
    given: Any,
    model: type[BaseModel] | None = None,
) -> str:
    """Say the first problem of a pydantic error, and how many more there are.

    Args:
        error: what pydantic says.
        prefix: stands before the keys.
        given: the value that is wrong.
        model: what the value was to be, whose keys unknown ones are compared with.
    """
    problems: dict[tuple[str | int, ...], list[Any]] = {}
    for each in error.errors():
        problems.setdefault(_place(each, given), []).append(each)
    place, found = next(iter(problems.items()))
    first = found[0]
    key = ".".join(str(part) for part in (*prefix, *place))
    if first["type"] == "extra_forbidden":
        known = _keys_at(model, place[:-1])
        there = f" (there are: {', '.join(known)})" if known else ""
        text = f"{key}: unknown key{did_you_mean(str(place[-1]), known) or there}"
    elif first["type"] == "missing":
        text = f"{key}: this key is missing"
    else:
        text = f"{key}={shown(first['input'])}: {_said(found)}"
    more = len(problems) - 1
    return text + (f" (and {more} more problem{'s' * (more > 1)})" if more else "")


def _place(problem: Any, given: Any) -> tuple[str | int, ...]:
    """The keys to a problem, without the names that pydantic gives to the types of a union."""
    place: list[str | int] = []
    for part in problem["loc"]:
        try:
            given = given[part]
        except (KeyError, IndexError, TypeError):
            if problem["type"] != "missing" or part != problem["loc"][-1]:
                continue
        place.append(part)
    return tuple(place)


def _said(problems: list[Any]) -> str:
    """What is expected; if a value may be of several types, of each."""
    if problems[0]["type"] in ("model_type", "dict_type"):
        return "must be a section with keys of its own"
    start = "Input should be "
    said = [problem["msg"].removeprefix("Value error, ") for problem in problems]
    if len(said) > 1 and all(each.startswith(start) for each in said):
        said = [start + " or ".join(dict.fromkeys(each.removeprefix(start) for each in said))]
    words = said[0].replace(start, "must be ")
    for container in ("tuple", "array", "set"):
        words = words.replace(f"a valid {container}", "a list")
    return words[0].lower() + words[1:]


def shown(value: Any, limit: int = 200) -> str:
    """A value in a message, as it was typed: text without quotes, unless it would not be seen."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    visible = isinstance(value, str) and value and value == " ".join(value.split())
    text = value if visible else repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."


def _keys_at(model: type[BaseModel] | None, place: tuple[str | int, ...]) -> list[str]:
    """The keys that a section below a model knows."""
    for part in place:
        field = model.model_fields.get(str(part)) if model else None
        model = _section_in(field.annotation) if field else None
    return [field.alias or name for name, field in model.model_fields.items()] if model else []


def _section_in(annotation: Any) -> type[BaseModel] | None:
    for each in (annotation, *get_args(annotation)):
        if inspect.isclass(each) and issubclass(each, BaseModel):
            return each
    return None
