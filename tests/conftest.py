"""Runs of the whole program on a tiny model with random weights, inside the test process."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from soc_ft.files import conf_dir

TESTS = Path(__file__).parent

TINY = (
    "model=shapes",
    "model.path=random:tiny",
    "reward=shapes",
    "reward.scale=20",
    "reward._target_=tests.scorers.Redness",
    "prompts=file",
    f"prompts.train={TESTS / 'prompts.txt'}",
    f"prompts.validation={TESTS / 'prompts.txt'}",
    "tracking=none",
    "lambda=100",
    "scheduler.num_steps=4",
    "method.regression_steps=2",
    "trainer.steps=4",
    "trainer.batch_size=4",
    "trainer.rollout_batch=4",
    "method.adjoint_batch=4",
    "trainer.reward_batch=4",
    "trainer.micro_batch=5",
    "trainer.lr=5e-5",
    "trainer.warmup_steps=2",
    "trainer.checkpoint_every=100",
    "trainer.accelerator=cpu",
    "validation.every=2",
    "validation.prompts=2",
    "validation.sheet_prompts=2",
    "validation.batch_size=4",
    "export=false",
)
"""Overrides of a run of a few seconds. ``reward.scale`` exists for rewards of the tests."""


def composed(*overrides: str, config: str = "config", folder: str = ".") -> DictConfig:
    """The configuration of a command line."""
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir() / folder)):
        return compose(config, overrides=[_addable(override) for override in overrides])


def _addable(override: str) -> str:
    """Keys of the tests' own rewards are not in the shipped YAML."""
    return f"+{override}" if override.startswith("reward.scale") else override


def train_tiny(
    folder: Path,
    *overrides: str,
    choices: Mapping[str, str] | None = None,
    preemption: Any = None,
) -> Path:
    """Train the tiny model in a folder, which is returned."""
    from soc_ft.config import check
    from soc_ft.records.identity import check_resume
    from soc_ft.records.runs import Origin
    from soc_ft.training.run import train

    config = composed(*TINY, *overrides)
    typed = check(config)
    check_resume(config, folder)
    train(config, typed, folder, Origin(overrides, choices or {}), preemption)
    return folder


def untrained(config: Any) -> Any:
    """The module of a run before it trains."""
    from soc_ft.config import check
    from soc_ft.training.building import build_module
    from soc_ft.training.scorers import build_scorers

    run = check(config)
    return build_module(config, run, Path("nowhere"), build_scorers(config, run))


@pytest.fixture
def tiny_run(tmp_path: Path) -> Callable[..., Path]:
    """Train the tiny model in a folder of this test; more overrides may be given."""

    def run(*overrides: str, folder: str = "run") -> Path:
        return train_tiny(tmp_path / folder, *overrides)

    return run


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The folder of a tiny run that nothing happened to, trained once for all who compare with it.

    Nobody changes it.
    """

    @cache
    def run(*overrides: str) -> Path:
        return train_tiny(tmp_path_factory.mktemp("undisturbed") / "run", *overrides)

    return run


def curve(folder: Path) -> list[tuple[int, dict[str, Any]]]:
    """The metrics of a run by optimizer step, without those that measure time and memory."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return [
        (
            record["step"],
            {
                name: value
                for name, value in record["metrics"].items()
                if "seconds" not in name and "memory" not in name
            },
        )
        for record in records
    ]


def command(*arguments: str) -> list[str]:
    """A command line of the package for a process of its own."""
    return [sys.executable, "-m", *arguments]


HEAVY = {"torch", "numpy", "lightning", "diffusers", "transformers", "mlflow", "matplotlib"}


def light_answer(line: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """What a command line answered, if it did so without the heavy imports and quickly.

    Torch alone takes 2 s where an answer may take 1.5; that share holds on a slower machine too.
    """
    answer, seconds = _cpu_seconds(line, cwd, PYTHONPROFILEIMPORTTIME="1")
    said = answer.stderr.splitlines(keepends=True)
    imports = [each for each in said if each.startswith("import time:")]
    assert imports
    assert not HEAVY & {each.rpartition("|")[2].strip() for each in imports}
    assert seconds < 0.75 * _seconds_of_torch()
    answer.stderr = "".join(each for each in said if not each.startswith("import time:"))
    return answer


@cache
def _seconds_of_torch() -> float:
    return _cpu_seconds([sys.executable, "-c", "import torch"], Path.cwd())[1]


def _cpu_seconds(
    line: list[str], cwd: Path, **variables: str
) -> tuple[subprocess.CompletedProcess[str], float]:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        line, cwd=cwd, env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def write_weights(file: Path) -> Path:
    """A file that passes for one of weights from its outside."""
    empty = b"{}"
    content = len(empty).to_bytes(8, "little") + empty
    file.write_bytes(content if file.suffix == ".safetensors" else b"\x80\x02")
    return file


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Tests run beside each other on few cores, and must not depend on their number."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)
