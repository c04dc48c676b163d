"""Sweeps whose jobs exist on disk alone, and what a store then holds of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from soc_ft.layout import JOURNAL_FILE
from soc_ft.records.journal import Journal
from soc_ft.tracking.delivery import Delivery
from soc_ft.tracking.headline import run_name, run_params
from soc_ft.tracking.outbox import End, Outbox, Start
from soc_ft.tracking.store import PARENT_TAG
from tests.conftest import TINY, composed

COMMAND = ["python", "-m", "soc_ft", "-m", "lambda=1,10", "tracking.uri=http://me:secret@host"]
LAMBDAS = (1.0, 10.0, 31.6, 100.0)
CHOICES = {
    "method": "adjoint_matching",
    "reward": "shapes",
    "cfg_mode": "trajectories",
    "scheduler": "memoryless",
    "buffer": "on_policy",
    "finetune": "full",
    "model": "shapes",
}


def make_sweep(root: Path) -> Path:
    """The folder of a sweep without jobs."""
    folder = root / "multirun" / "2026-11-21" / "09-30-00-quickstart"
    folder.mkdir(parents=True)
    (folder / "sweep.json").write_text(json.dumps({"name": "quickstart", "command": COMMAND}))
    return folder


def put(
    sweep: Path, uri: str, number: int, *operations: str, params: Mapping[str, str] | None = None
) -> None:
    """Let a job start, or end with a status, and deliver that."""
    outbox = Outbox(sweep / str(number))
    params = {"name": "mine", "lambda": "10", "seed": str(number)} | dict(params or {})
    for operation in operations:
        if operation == "start":
            outbox.put(Start(uri, "soc_ft", run_name(params, []), str(sweep), params, {}))
        else:
            outbox.put(End(operation))
    delivery = Delivery(sweep / str(number))
    delivery.deliver()
    delivery.close()


def put_lambda_sweep(sweep: Path, uri: str) -> None:
    """Four lambdas with two seeds each, whose rewards rise with lambda."""
    for number in range(2 * len(LAMBDAS)):
        strength, seed = LAMBDAS[number // 2], number % 2
        varied = [f"lambda={strength}", f"seed={seed}", f"run_dir={sweep / str(number)}"]
        config: Any = OmegaConf.to_container(composed(*TINY, "name=mine", *varied), resolve=True)
        params = run_params(CHOICES, config)
        journal = Journal(sweep / str(number) / JOURNAL_FILE)
        for step in range(3):
            reward = 0.01 * seed + step * strength / 500
            journal.append(step, {"val/reward": reward, "val/gain": reward, "train/loss": 1.0})
        put(sweep, uri, number, "start", "FINISHED", params=params)


def parent_of(uri: str) -> Any:
    """The only run of a sweep that a store holds."""
    (parent,), _ = runs_of(uri)
    return parent


def runs_of(uri: str) -> tuple[list[Any], list[Any]]:
    """Runs of sweeps, and runs of jobs by their start, that a store holds."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    runs = [
        run
        for experiment in client.search_experiments()
        for run in client.search_runs([experiment.experiment_id], order_by=["start_time"])
    ]
    children = [run for run in runs if PARENT_TAG in run.data.tags]
    return [run for run in runs if run not in children], children
