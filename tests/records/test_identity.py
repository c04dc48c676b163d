"""Two configurations have one hash if, and only if, their runs have one result."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from soc_ft.errors import ConfigError
from soc_ft.files import conf_dir
from soc_ft.records.identity import check_resume, config_hash, deciding, leaves
from tests.conftest import TINY, composed


def hash_of(*overrides: str) -> str:
    return config_hash(composed(*TINY, *overrides))


def test_the_hash_is_the_same_tomorrow() -> None:
    """Breaks if the hash depends on the process, on the order of keys or on interpolations."""
    config = composed(*TINY, "run_dir=here")
    assert re.fullmatch("[0-9a-f]{12}", config_hash(config))
    plain: Any = OmegaConf.to_container(config, resolve=True)
    assert config_hash(plain) == config_hash(config)
    assert config_hash(dict(reversed(plain.items()))) == config_hash(config)
    assert config_hash({"lambda": 10, "trainer": {"lr": 0.1}}) == "bff2ad231a7c"


@pytest.mark.parametrize(
    "override",
    [
        "lambda=100",
        "lambda=100.0",
        "name=other",
        "run_dir=elsewhere",
        "resume=never",
        "export=true",
        "tracking=mlflow",
        "trainer.checkpoint_every=2",
        "trainer.devices=2",
        "trainer.num_nodes=2",
        "trainer.strategy=ddp",
        "trainer.accelerator=gpu",
        "trainer.threads=4",
    ],
)
def test_what_does_not_change_the_result(override: str) -> None:
    """Breaks if a run on Slurm, or in another folder, passes for another experiment."""
    assert hash_of(override) == hash_of()


@pytest.mark.parametrize(
    "override",
    [
        "lambda=100.5",
        "seed=1",
        "trainer.steps=5",
        "trainer.lr=1e-4",
        "trainer.batch_size=8",
        "trainer.precision=bf16-mixed",
        "trainer.betas=[0.8,0.95]",
        "cfg_mode=full",
        "scheduler=pretrained",
        "buffer=replay",
        "finetune=lora",
        "validation.prompts=3",
        "+reward.extra=10",
        "model.path=elsewhere",
    ],
)
def test_what_changes_the_result(override: str) -> None:
    """Breaks if two different experiments pass for one."""
    assert hash_of(override) != hash_of()


WITHOUT_EFFECT = {
    *("name", "run_dir", "resume", "export"),
    *("trainer.rollout_batch", "trainer.reward_batch", "trainer.micro_batch"),
    *("trainer.checkpoint_every", "trainer.keep_every"),
    *("trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy"),
    "trainer.threads",
    *("validation.base_rewards", "prompts.origin"),
    "validation.batch_size",
    "buffer.device",
    *("model.attention", "model.network_checkpointing", "model.decoder_checkpointing"),
    "method.adjoint_batch",
    *("reward.parallel", "reward.timeout", "reward.retries"),
    *(f"reward.{name}batch_size" for name in ("", "rewards.imagereward.", "rewards.hpsv2.")),
}
"""Keys of conf/ that change memory, speed or what is kept; besides all of ``tracking``."""

OTHER_FOLDERS = {"commands", "experiment", "hydra", "metric", "sweep", "tuned"}
"""Of conf/: other commands, choices of options, and single values."""


@cache
def every_key() -> dict[str, dict[str, Any]]:
    """The keys of all options of all groups, each with a configuration that has it."""
    base: Any = OmegaConf.to_container(composed("reward=weighted"), resolve=True)
    found = dict.fromkeys(leaves(base), base)
    for file in conf_dir().glob("*/*.yaml"):
        group = file.parent.name
        if group not in OTHER_FOLDERS:
            option: Any = OmegaConf.to_container(OmegaConf.load(file))
            config = base | {group: {k: v for k, v in option.items() if k != "defaults"}}
            found |= {key: config for key in leaves(config) if key.startswith(f"{group}.")}
    return found


def changed(config: dict[str, Any], key: str) -> dict[str, Any]:
    """The configuration with another value of one key."""
    other = OmegaConf.create(config)
    OmegaConf.update(other, key, "another value", merge=False)
    plain: Any = OmegaConf.to_container(other)
    return plain


def test_every_key_stands_on_its_side(tmp_path: Path) -> None:
    """Breaks if a key that changes memory or speed alone bars a resume or makes another experiment
    of a run, or if one that changes the result does not."""
    free = {
        key
        for key, config in every_key().items()
        if not key.endswith("_target_") and config_hash(changed(config, key)) == config_hash(config)
    }
    assert {key for key in free if not key.startswith("tracking.")} == WITHOUT_EFFECT
    assert {key for key in every_key() if key.startswith("tracking.")} - free == {
        "tracking._target_"
    }
    assert not any(key in deciding(leaves(every_key()[key])) for key in free)


@pytest.mark.parametrize(
    ("key", "bars"),
    [
        *((key, False) for key in ("trainer.micro_batch", "method.adjoint_batch")),
        *((key, False) for key in ("model.attention", "tracking.uri", "buffer.device")),
        ("trainer.steps", False),
        *((key, True) for key in ("trainer.batch_size", "method.regression_steps", "seed")),
    ],
)
def test_a_run_may_be_resumed_with_other_memory_settings(
    tmp_path: Path, key: str, bars: bool
) -> None:
    """Breaks if a run that was out of memory cannot go on with smaller batches."""
    config = every_key()[key] | {"resume": "auto"}
    OmegaConf.save(OmegaConf.create(config), tmp_path / "config.yaml")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    now = OmegaConf.create(changed(config, key))
    if bars:
        with pytest.raises(ConfigError, match=re.escape(key)):
            check_resume(now, tmp_path)
    else:
        check_resume(now, tmp_path)


@pytest.mark.parametrize("key", ["reward.normalise", "reward.statistics"])
def test_an_argument_that_came_later_changes_nothing_by_its_default(key: str) -> None:
    """Breaks if a run of before an argument was there is another experiment than the same now."""
    section, name = key.split(".")
    config: dict[str, Any] = every_key()[key]
    before = {
        **config,
        section: {other: value for other, value in config[section].items() if other != name},
    }
    assert config_hash(before) == config_hash(config)
    for value in (True, {"imagereward": [0.0, 1.0]}):
        other = {**config, section: {**config[section], name: value}}
        assert config_hash(other) != config_hash(config)


def test_a_stranger_s_configuration_imports_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if a report on somebody's run runs the module that its configuration names."""
    (tmp_path / "trap.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    values = {"reward._target_": "trap.Reward", "method._target_": "soc_ft.nowhere.Method"}
    assert deciding(values) == values


def test_numbers_are_compared_inside_lists() -> None:
    """Breaks if the parts of a weighted reward tell 1 from 1.0."""
    parts = [{"rewards": [{"weight": weight}]} for weight in (1, 1.0, 2)]
    one, same, other = map(config_hash, parts)
    assert one == same != other


def test_values_of_different_kinds_differ() -> None:
    """Breaks if switching something on passes for setting it to the number 1 or to a word."""
    values = [True, False, None, 1, 0, "1", "true", []]
    assert len({config_hash({"key": value}) for value in values}) == len(values)
