"""What tells a run from its neighbours in a list of runs: a few params, and its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from soc_ft.records.provenance import flatten
from soc_ft.records.runs import identifying

GROUPS = ("method", "reward", "cfg_mode", "scheduler", "buffer", "finetune", "model")
"""Configuration groups whose chosen option is a param of every run."""

HEADLINE = ("lambda", *GROUPS, "seed")
"""All params that every run has."""

_IN_NAME = ("lambda", "cfg_mode", "seed", "name", "experiment")  # an experiment sets the name


def headline_params(choices: Mapping[str, str | None], config: Mapping[str, Any]) -> dict[str, str]:
    """The params that every run has, for the columns of a table of runs.

    Args:
        choices: the option of each configuration group; one without is left out.
        config: resolved configuration.
    """
    chosen = {group: choices.get(group) for group in GROUPS}
    params = {group: option for group, option in chosen.items() if option is not None}
    return params | {"lambda": f"{config['lambda']:.10g}", "seed": str(config["seed"])}


def run_params(choices: Mapping[str, str | None], config: Mapping[str, Any]) -> dict[str, str]:
    """All params of a run: the flattened configuration with the :func:`headline_params`.

    The run folder is left out. It is a tag: as a param it would differ between any two runs, and
    MLflow's page that compares them draws an axis for each of the first params that do.

    Args:
        choices: the option of each configuration group.
        config: resolved configuration.
    """
    others = {key: value for key, value in config.items() if key != "run_dir"}
    return flatten(others) | headline_params(choices, config)


def run_name(params: Mapping[str, str], overrides: Sequence[str]) -> str:
    """What a person recognises a run by: ``lambda=100 cfg=full seed=0 trainer.lr=1e-4 (mine)``.

    Args:
        params: all of the run, see :func:`run_params`.
        overrides: what the person typed.
    """
    first = {"lambda": "lambda", "cfg": "cfg_mode", "seed": "seed"}
    parts = [f"{short}={params[key]}" for short, key in first.items() if key in params]
    others = [each for each in identifying(overrides) if _key(each) not in _IN_NAME]
    return " ".join([*parts, *others, f"({params['name']})"])


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")
