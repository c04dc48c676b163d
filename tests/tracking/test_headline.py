"""Runs are recognised in MLflow by a few columns and by their names."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from soc_ft.records.journal import Journal
from soc_ft.tracking.delivery import Delivery
from soc_ft.tracking.headline import headline_params, run_name, run_params
from tests.conftest import TINY, composed

CHOICES = {
    "method": "adjoint_matching",
    "reward": "shapes",
    "cfg_mode": "full",
    "scheduler": "memoryless",
    "buffer": "on_policy",
    "finetune": "lora",
    "model": "shapes",
    "prompts": "file",
    "experiment": None,
}


def params_of(*overrides: str) -> dict[str, str]:
    from omegaconf import OmegaConf

    plain: Any = OmegaConf.to_container(composed(*TINY, "name=mine", *overrides), resolve=True)
    return run_params(CHOICES, plain)


def test_every_run_has_the_same_few_params() -> None:
    """Breaks if a column of the table of runs is missing, or 100 and 100.0 are two values."""
    names = {"method", "reward", "lambda", "cfg_mode", "scheduler", "buffer", "finetune"}
    params = headline_params(CHOICES, {"lambda": 100.0, "seed": 3})
    assert set(params) == names | {"model", "seed"}
    assert params["lambda"] == "100"
    assert params["seed"] == "3"
    assert headline_params(CHOICES, {"lambda": 31.6, "seed": 0})["lambda"] == "31.6"


def test_the_configuration_is_there_without_the_run_folder() -> None:
    """Breaks if a key is missing, or comparing runs in MLflow shows that their folders differ."""
    params = params_of("run_dir=/tmp/here")
    assert params["trainer.batch_size"] == "4"
    assert params["lambda"] == "100"
    assert not any("/tmp/here" in value for value in params.values())


def test_what_was_not_chosen_is_left_out() -> None:
    """Breaks if a composition without a group, as in older run folders, stops the run."""
    assert headline_params({}, {"lambda": 1, "seed": 0}) == {"lambda": "1", "seed": "0"}


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], "lambda=100 cfg=full seed=0 (mine)"),
        (
            ["lambda=31.6", "seed=2", "cfg_mode=full", "experiment=quickstart", "name=mine"],
            "lambda=31.6 cfg=full seed=2 (mine)",
        ),
        (
            ["trainer.lr=1e-4", "run_dir=/tmp/x", "tracking=mlflow", "+method.x=1", "++seed=2"],
            "lambda=100 cfg=full seed=2 trainer.lr=1e-4 +method.x=1 (mine)",
        ),
    ],
)
def test_a_person_recognises_the_name(overrides: list[str], name: str) -> None:
    """Breaks if a name leaves out what was varied, or drowns it in what was not."""
    known = [each for each in overrides if each.startswith(("lambda", "++seed", "seed"))]
    assert run_name(params_of(*known), overrides) == name


def test_mlflow_takes_a_group_beside_its_keys(
    run_dir: Path, uri: str, start_run: Callable[..., Journal]
) -> None:
    """Breaks if ``method`` and ``method.regression_steps`` cannot both be params of a run."""
    from mlflow import MlflowClient

    params = params_of()
    start_run(params=params)
    delivery = Delivery(run_dir)
    delivery.deliver()
    delivery.close()
    (run,) = MlflowClient(uri).search_runs(["1", "2"])
    assert run.data.params.items() >= headline_params(CHOICES, {"lambda": 100, "seed": 0}).items()
    assert run.data.params["method.regression_steps"] == "2"
    assert len(run.data.params) == len(params)


def test_nothing_heavy_is_imported() -> None:
    """Breaks if naming a run costs the seconds that importing torch or MLflow takes."""
    script = (
        "import sys, soc_ft.tracking.headline, soc_ft.records.identity;"
        "assert not {'mlflow', 'torch', 'lightning'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
