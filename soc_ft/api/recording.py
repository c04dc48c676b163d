"""What the configuration of a run says of a model, a reward and a folder given in Python."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig

from soc_ft.api.composing import plain, refuse_override, set_key
from soc_ft.api.loading import Loaded
from soc_ft.errors import ConfigError
from soc_ft.records.identity import is_below

ABSENT = "absent"


def record_model(
    config: DictConfig,
    choices: dict[str, str | None],
    loaded: Loaded,
    typed: Mapping[str, str],
) -> None:
    """Let the configuration say what the model was loaded with.

    Raises:
        ConfigError: overrides say something else, or nothing is known of the model.
    """
    if not loaded.sections and not any(is_below(key, ["model"]) for key in typed):
        raise ConfigError(
            "model: is not from soc_ft.load_model; say with the overrides model=..., finetune=... "
            "and scheduler=... what it is, for the record of the run"
        )
    for group, own in loaded.sections.items():
        section, whole = plain(config[group]), "_target_" in own
        keys = section | own if whole else own
        differing = [key for key in keys if own.get(key, ABSENT) != section.get(key, ABSENT)]
        for key, override in typed.items():
            said = [
                f"{group}.{each}={own.get(each, ABSENT)}"
                for each in differing
                if is_below(f"{group}.{each}", [key]) or is_below(key, [f"{group}.{each}"])
            ]
            if said:
                raise ConfigError(
                    f"{override}: the model was loaded with {', '.join(said)}; leave the override "
                    "out, or load the model with the same settings"
                )
        set_key(config, group, own if whole else section | own)
    choices |= loaded.choices


def record_folder(config: DictConfig, run_dir: str | Path | None, typed: Mapping[str, str]) -> Path:
    """The folder of the run, absolute."""
    if run_dir is not None:
        refuse_override(typed, "run_dir", instead="the argument run_dir")
        set_key(config, "run_dir", str(Path(run_dir).expanduser()))
    set_key(config, "run_dir", str(config.run_dir))  # with the time that it has now
    return Path(config.run_dir).absolute()
