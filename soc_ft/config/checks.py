"""The check of a whole configuration, before torch or any other heavy package is imported."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError

from soc_ft.config.schema import METHODS, Component, RunConfig
from soc_ft.errors import ConfigError, did_you_mean
from soc_ft.rewards.base import ChecksArguments

Checked = TypeVar("Checked", bound=BaseModel)


def check(config: DictConfig) -> RunConfig:
    """Validate a composed configuration.

    Returns:
        The typed configuration.

    Raises:
        ConfigError: names the key, its value and what is allowed. It is also raised for prompt
            files that cannot be read and for weights that are not there.
    """
    from soc_ft.data.prompts import load_prompts

    run = parse(config)
    _check_combinations(run)
    _check_reward(run)
    component_class(run.finetune, "finetune")(**run.finetune.model_extra or {})
    for source in (run.prompts.train, run.prompts.validation):
        load_prompts(source, column=run.prompts.column)
    _check_weights(run)
    return run


def parse(config: DictConfig) -> RunConfig:
    """Check every key's name, type and range; nothing is opened.

    Raises:
        ConfigError: names the first offending key.
    """
    plain = resolved(config)
    method = plain.get("method")
    if isinstance(method, dict) and method.get("_target_") in METHODS:
        validated(METHODS[method["_target_"]], method, prefix=("method",))
    return validated(RunConfig, plain)


def resolved(config: DictConfig) -> dict[str, Any]:
    """A composed configuration as plain values.

    Raises:
        ConfigError: a key has no value, or refers to one that does not exist.
    """
    try:
        plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(" ".join(str(error).split())) from None
    return plain


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
        raise ConfigError(_one_line(error, prefix)) from None


def _one_line(error: ValidationError, prefix: tuple[str, ...]) -> str:
    """Say the first problem of a pydantic error, and how many more there are."""
    problems = error.errors()
    first = problems[0]
    key = ".".join(str(part) for part in (*prefix, *first["loc"]))
    said = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        text = f"{key}: unknown key"
    elif first["type"] == "missing":
        text = f"{key}: this key is missing"
    else:
        text = f"{key}={first['input']!r}: {said[0].lower()}{said[1:]}"
    more = len(problems) - 1
    return text + (f" (and {more} more problems)" if more else "")


def _check_combinations(run: RunConfig) -> None:
    """Check what several keys must satisfy together."""
    trainer, scheduler = run.trainer, run.scheduler
    if scheduler.eta < 1:
        raise ConfigError(
            f"scheduler.eta={scheduler.eta:g}: fine-tuning needs eta >= 1, the memoryless "
            "schedules (eta < 1 is for sampling and evaluation only)"
        )
    if run.method.regression_steps > scheduler.num_steps:
        raise ConfigError(
            f"method.regression_steps={run.method.regression_steps}: at most "
            f"scheduler.num_steps={scheduler.num_steps} steps can be drawn from a trajectory"
        )
    ranks = trainer.devices * trainer.num_nodes
    if trainer.batch_size % ranks:
        raise ConfigError(
            f"trainer.batch_size={trainer.batch_size}: must be a multiple of the number of "
            f"processes, trainer.devices x trainer.num_nodes = {ranks}"
        )
    buffer = run.buffer
    if buffer.importance_weighting and buffer.batches * buffer.passes == 1:
        raise ConfigError(
            "buffer.importance_weighting=true: has no effect on-policy, where all samples are from "
            "the current model; use buffer=replay"
        )


def _check_reward(run: RunConfig) -> None:
    """Check that the method gets the gradient it needs, whatever the reward is made of."""
    for key, component in _components_in(run.reward.model_dump(by_alias=True), "reward"):
        reward = component_class(component, key)
        if run.method.needs_reward_gradient and not getattr(reward, "differentiable", True):
            name = run.method.target.rsplit(".", 1)[-1]
            raise ConfigError(
                f"{key}={reward.name}: has no gradient, which method {name} needs; choose a reward "
                "with `differentiable = True`, such as reward=shapes"
            )


def _components_in(value: Any, key: str) -> Iterator[tuple[str, Component]]:
    """The components in a part of the configuration, at any depth, with their keys."""
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        if "_target_" in value:
            yield key, validated(Component, value, prefix=(key,))
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for name, child in items:
        yield from _components_in(child, f"{key}.{name}")


def component_class(component: Component, key: str) -> Any:
    """Import the class of a component whose module is light, and check its arguments.

    Raises:
        ConfigError: the class does not exist, or it does not take one of the keys.
    """
    module, _, name = component.target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"{key}._target_={component.target}: cannot be imported ({error})"
        ) from None
    accepted = set(inspect.signature(found).parameters)
    for given in component.model_extra or {}:
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
    for place, component in _components_in(value, key):
        found = component_class(component, place)
        if isinstance(found, ChecksArguments):
            found.check_arguments(component.model_extra or {}, place)


def _check_weights(run: RunConfig) -> None:
    """Check that weights can be had: the reward's first, which are the likelier to be missing."""
    from soc_ft.models.availability import check_available

    scorers = run.model_dump(by_alias=True, include={"reward": True, "validation": {"metrics"}})
    check_arguments(scorers["reward"], "reward")
    check_arguments(scorers["validation"], "validation")
    given = run.model.model_extra or {}
    check_available(given.get("path"), given.get("revision"), given.get("variant"))
