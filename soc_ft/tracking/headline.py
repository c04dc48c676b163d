"""What tells a run from its neighbours in a list of runs: a few params, and its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from soc_ft.runs import told

GROUPS = ("method", "reward", "cfg_mode", "scheduler", "buffer", "finetune", "model")
"""Configuration groups whose chosen option is a param of every run."""

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


def run_name(params: Mapping[str, str], overrides: Sequence[str]) -> str:
    """What a person recognises a run by: ``lambda=100 cfg=full seed=0 trainer.lr=1e-4 (mine)``.

    Args:
        params: all of the run, flattened, with the :func:`headline_params`.
        overrides: what the person typed.
    """
    first = {"lambda": "lambda", "cfg": "cfg_mode", "seed": "seed"}
    parts = [f"{short}={params[key]}" for short, key in first.items() if key in params]
    others = [each for each in told(overrides) if _key(each) not in _IN_NAME]
    return " ".join([*parts, *others, f"({params['name']})"])


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")
