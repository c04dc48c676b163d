"""Which runs repeat a setting with other seeds, and how the settings of a sweep are told apart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from soc_ft.records.identity import config_hash, deciding, leaves
from soc_ft.records.runs import distinguishing, identifying
from soc_ft.reporting.reading import RunResult

UNVARIED = "fine-tuned"
"""Label of the only setting of a comparison."""

_SHOWN_DIFFERENCES = 3


@dataclass(frozen=True)
class Setting:
    """Runs that differ in nothing but the seed.

    Attributes:
        label: the overrides that other settings of the sweep do not share.
        overrides: the same, as typed.
        runs: by number.
    """

    label: str
    overrides: tuple[str, ...]
    runs: tuple[RunResult, ...]

    @cached_property
    def step(self) -> int:
        """Optimizer step of the last validation of any run; 0 if there is none yet."""
        return max(run.last_step for run in self.runs)

    @cached_property
    def measured(self) -> dict[int | None, RunResult]:
        """The runs that were validated at that step, by seed; the last of a seed's."""
        if self.step == 0:
            return {}
        return {run.seed: run for run in self.runs if self.step in run.validations}

    @cached_property
    def seeds(self) -> set[int | None]:
        """Of all runs, whether they measured something or not."""
        return {run.seed for run in self.runs}

    @property
    def strength(self) -> float | None:
        """Its lambda, if it is known."""
        value = self.runs[0].config.get("lambda")
        return None if value is None else float(value)

    @cached_property
    def base_key(self) -> str:
        """The same for settings whose base models were measured alike."""
        config = self.runs[0].config
        validation = dict(config.get("validation") or {})
        for unimportant in ("every", "at_end", "batch_size", "sheet_prompts"):
            validation.pop(unimportant, None)
        prompts = config.get("prompts") or {}
        return config_hash(
            {
                "model": config.get("model"),
                "reward": config.get("reward"),
                "scheduler": config.get("scheduler"),
                "validation": validation,
                "prompts": {key: prompts.get(key) for key in ("validation", "column")},
            }
        )


def group_by_setting(runs: Sequence[RunResult]) -> list[Setting]:
    """The settings of a sweep in the order of their first runs."""
    groups: dict[str, list[RunResult]] = {}
    for run in runs:
        groups.setdefault(_identity(run), []).append(run)
    own = {id(run): overrides for run, overrides in zip(runs, _differing(runs), strict=True)}
    settings = []
    for group in groups.values():
        overrides = own[id(group[0])]
        settings.append(Setting(" ".join(overrides) or UNVARIED, tuple(overrides), tuple(group)))
    return _told_apart(settings)


def shared_overrides(runs: Sequence[RunResult]) -> list[str]:
    """The overrides that all runs have, in the order of the first."""
    differing = _differing(runs)[0]
    return [each for each in _typed(runs[0]) if each not in differing]


def shared_choices(runs: Sequence[RunResult]) -> dict[str, str]:
    """The options of configuration groups that all runs have."""
    return {
        group: option
        for group, option in runs[0].choices.items()
        if all(run.choices.get(group) == option for run in runs)
    }


def differing_values(runs: Sequence[RunResult]) -> dict[str, list[str]]:
    """For each override that not all runs share, its value in each run, typed or not."""
    typed = [dict(map(_key_and_value, _typed(run))) for run in runs]
    keys = dict.fromkeys(_key_and_value(each)[0] for own in _differing(runs) for each in own)
    return {
        key: [own.get(key, _untyped(run, key)) for run, own in zip(runs, typed, strict=True)]
        for key in keys
    }


def _differing(runs: Sequence[RunResult]) -> list[list[str]]:
    """The overrides of each run that not all others share; the seed is none."""
    if len(runs) == 1:
        return [[]]
    differing = distinguishing([run.job.overrides for run in runs])
    return [[each for each in own if not each.startswith("seed=")] for own in differing]


def _typed(run: RunResult) -> list[str]:
    return [each for each in identifying(run.job.overrides) if not each.startswith("seed=")]


def _key_and_value(override: str) -> tuple[str, str]:
    key, _, value = override.partition("=")
    return key, value


def _untyped(run: RunResult, key: str) -> str:
    """The value that a run has of a key that was typed for another."""
    key = key.lstrip("+")
    if key in run.choices:
        return run.choices[key]
    value: Any = leaves(dict(run.config)).get(key)
    return "" if value is None else str(value)


def _identity(run: RunResult) -> str:
    """The same for runs that may be averaged: conservative, it never mixes two experiments."""
    config = {key: value for key, value in run.config.items() if key != "seed"}
    return json.dumps([sorted(_typed(run)), _deciding_choices(run), config_hash(config)])


def _deciding_choices(run: RunResult) -> dict[str, str]:
    return {
        group: option
        for group, option in sorted(run.choices.items())
        if group not in ("tracking", "sweep") and not group.startswith("hydra/")
    }


def _told_apart(settings: list[Setting]) -> list[Setting]:
    """Give settings with the same overrides a label that tells what differs between them."""
    by_label: dict[str, list[Setting]] = {}
    for setting in settings:
        by_label.setdefault(setting.label, []).append(setting)
    return [
        setting
        if len(by_label[setting.label]) == 1
        else Setting(
            f"{setting.label} ({_differences(setting, by_label[setting.label])})",
            setting.overrides,
            setting.runs,
        )
        for setting in settings
    ]


def _differences(setting: Setting, alike: Sequence[Setting]) -> str:
    values = [_effective(other.runs[0]) for other in alike]
    own = _effective(setting.runs[0])
    keys = [k for k in own if any(other.get(k) != own[k] for other in values)]
    shown = [f"{key}={own[key]}" for key in keys[:_SHOWN_DIFFERENCES]]
    more = [f"and {len(keys) - _SHOWN_DIFFERENCES} more"] if len(keys) > len(shown) else []
    # Without a difference that can be named, the number of a job still tells them apart.
    return ", ".join([*shown, *more]) or f"as job {setting.runs[0].job.number}"


def _effective(run: RunResult) -> Mapping[str, Any]:
    config = {
        key: value for key, value in deciding(leaves(dict(run.config))).items() if key != "seed"
    }
    return {**_deciding_choices(run), **config}
