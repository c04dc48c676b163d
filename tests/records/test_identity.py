"""Two configurations have one hash if, and only if, their runs have one result."""

from __future__ import annotations

import re
from typing import Any

import pytest
from omegaconf import OmegaConf

from soc_ft.records.identity import config_hash
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
        "validation.prompts=2",
        "+reward.extra=10",
        "model.path=elsewhere",
    ],
)
def test_what_changes_the_result(override: str) -> None:
    """Breaks if two different experiments pass for one."""
    assert hash_of(override) != hash_of()


def test_numbers_are_compared_inside_lists() -> None:
    """Breaks if the parts of a weighted reward tell 1 from 1.0."""
    parts = [{"rewards": [{"weight": weight}]} for weight in (1, 1.0, 2)]
    one, same, other = map(config_hash, parts)
    assert one == same != other


def test_values_of_different_kinds_differ() -> None:
    """Breaks if switching something on passes for setting it to the number 1 or to a word."""
    values = [True, False, None, 1, 0, "1", "true", []]
    assert len({config_hash({"key": value}) for value in values}) == len(values)
